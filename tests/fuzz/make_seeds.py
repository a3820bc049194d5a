#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus: small sound files, and some that are broken in an instructive way. Run by hand
when a format gets more to say."""

import base64
import json
import pathlib
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(name, content):
    path = CORPUS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
order = printable + [b for b in range(256) if b not in printable]
letters = [chr(b) if b in printable else chr(256 + i - len(printable)) for i, b in enumerate(order)]


def tokenizer_json(**changes):
    vocab = {letter: i for i, letter in enumerate(letters)} | {"he": 256, "\u0120t": 257, "\u0120the": 258}
    document = {
        "added_tokens": [{"id": 259, "content": "<|endoftext|>", "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["h e", ["\u0120", "t"], "\u0120t he"]},
    }
    document["model"].update(changes)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


write("tokenizer_json/small.json", tokenizer_json())
write("tokenizer_json/whole.json", tokenizer_json(ignore_merges=True))
write("tokenizer_json/unigram.json", tokenizer_json(type="Unigram"))
write("tokenizer_json/far_id.json", tokenizer_json(vocab={"a": 1048575, "b": 4294967296}))
write("tokenizer_json/same_result.json", tokenizer_json(merges=["h e", "h e", "\u0120 t"]))
write("tokenizer_json/cut.json", tokenizer_json()[:1500])
write("tokenizer_json/nested.json", "[" * 4000)
write("tokenizer_json/empty.json", "")


def ranks(tokens):
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))


single = [bytes([b]) for b in order]
write("tiktoken/small.tiktoken", ranks([*single, b"he", b" t", b" the"]))
write("tiktoken/hole.tiktoken", ranks(single) + "aGU= 257\n")
write("tiktoken/pattern.tiktoken", ranks([*single, b".Forms"]))
write("tiktoken/long.tiktoken", ranks([*single, b"a" * 2000]))
write("tiktoken/far_rank.tiktoken", "IQ== 1048575\nIQ== 99999999999999999999\n")
write("tiktoken/no_base64.tiktoken", "I 0\n=== 1\n\n \n")
write("tiktoken/empty.tiktoken", "")


def shard(magic, version, count, tokens, form, vocab=0):
    header = struct.pack("<3i", magic, version, count) + bytes(1012)
    return bytes([vocab]) + header + b"".join(struct.pack("<" + form, t) for t in tokens)


write("shard/small.bin", shard(20240520, 1, 4, [200, 1, 2, 3], "H", 201))
write("shard/large_tokens.bin", shard(20240801, 7, 3, [128000, 1, 70000], "I"))
write("shard/negative_token.bin", shard(20240801, 7, 1, [0xFFFFFFFF], "I"))
write("shard/outside.bin", shard(20240520, 1, 2, [5, 300], "H", 10))
write("shard/negative_count.bin", shard(20240520, 1, -1, [5], "H"))
write("shard/short.bin", shard(20240520, 1, 2147483647, [5], "H"))
write("shard/odd.bin", shard(20240520, 1, 1, [5], "H") + b"x")
write("shard/header_only.bin", shard(20240520, 1, 0, [], "H"))
write("shard/cut_header.bin", shard(20240520, 1, 0, [], "H")[:500])
write("shard/empty.bin", b"\x00")
