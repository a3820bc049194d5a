#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus: small sound files, and some that are broken in an instructive way. Run by hand
when a format gets more to say."""

import base64
import json
import pathlib
import re
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


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


two = {"__metadata__": {"format": "pt"}, "b": tensor("F32", [2, 3], 2, 26), "a": tensor("BF16", [], 0, 2)}
write("safetensors/two.safetensors", safetensors(two, bytes(range(26))))
write("safetensors/no_tensors.safetensors", safetensors({}))
write("safetensors/no_elements.safetensors", safetensors({"x": tensor("I64", [3, 0], 0, 0), "y": tensor("U8", [1], 0, 1)}, b"x"))
write("safetensors/name.safetensors", safetensors({"\u4e2d\u0001\"": tensor("BOOL", [1], 0, 1)}, b"x"))
write("safetensors/overlap.safetensors", safetensors({"x": tensor("F64", [1], 0, 8), "y": tensor("F64", [1], 4, 12)}, bytes(12)))
write("safetensors/gap.safetensors", safetensors({"x": tensor("F8_E4M3", [1], 1, 2)}, bytes(2)))
write("safetensors/outside.safetensors", safetensors({"x": tensor("I32", [1], 0, 4)}, bytes(3)))
write("safetensors/overflow.safetensors", safetensors({"x": tensor("F64", [2**62, 4], 0, 0)}))
write("safetensors/negative.safetensors", safetensors({"x": tensor("F16", [-1], 0, -2)}))
write("safetensors/twice.safetensors", safetensors(b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{}}', b"x"))
write("safetensors/nested.safetensors", safetensors(b"[" * 4000))
write("safetensors/number.safetensors", safetensors(b'{"x":1e999}'))
write("safetensors/longer.safetensors", safetensors({}, length=2**63))
write("safetensors/cut.safetensors", safetensors(two)[:40])
write("safetensors/empty.safetensors", b"")


config = {
    "model": {"family": "gpt2", "layers": 2, "width": 64, "heads": 4, "vocab": 257, "context": 32},
    "data": {"train": "train_*.bin", "validation": "validation.bin"},
    "train": {"steps": 100, "micro_batch": 4},
    "optimizer": {"lr": 0.001},
}


def configs(*parts):
    return "\x1f".join(p if isinstance(p, str) else json.dumps(p) for p in parts)


def beside(name, content):
    return f"run/{name}\n{json.dumps(content)}"


write("config/small.json", configs(config))
write("config/lines.json", json.dumps(config, indent=2))
write("config/overrides.json", configs(config, "set optimizer.lr=6e-4", 'set sampling.prompt="Once \\u00e9"', "set train.steps=7"))
write("config/extends.json", configs({"extends": "base.json", "train": {"steps": 3}}, beside("base.json", config)))
chain = {"extends": "../run/b.json", "optimizer": {"name": "muon", "ns": "jordan"}}
write("config/chain.json", configs({"extends": "a.json"}, beside("a.json", chain), beside("b.json", config)))
write("config/circle.json", configs({"extends": "a.json"}, beside("a.json", {"extends": "./x.json"})))
write("config/outside.json", configs({"extends": "/dev/zero"}))
write("config/all_sections.json", configs(config | {
    "schedule": {"kind": "wsd", "warmup": 3, "final": 0, "decay_fraction": 0.25},
    "validation": {"every": 10, "tokens": 64}, "sampling": {"every": 5, "tokens": 3, "top_k": 5, "temperature": 0},
    "checkpoint": {"every": 5, "keep": 2, "keep_every": 10}, "metrics": {"every": 1}, "output": {"dir": "runs/x"},
    "device": {"kind": "cpu", "threads": 1, "isa": "avx2", "arena": "discrete"}, "notes": {"who": "cares"}}))
for name, keys in {
    "muon": {"nesterov": "off", "scale": "spectral"},
    "kl-shampoo": {"refresh": 5, "init": "constant", "b2": 0.9},
    "pro-kl-shampoo": {"rank": 3, "complement_scale": "fixed", "complement_factor": 0.5, "tracker": "accumulate"},
}.items():
    write(f"config/{name}.json", configs(config | {"optimizer": {"name": name, **keys}}))
write("config/optimizer_alone.json", configs({"name": "muon", "lr": 0.02, "notes": "x"}, "set optimizer.b1=0.9"))
write("config/unknown.json", configs(config | {"trainer": {"step": 5}}))
write("config/misspelt.json", configs(config, "set optimizer.learning_rate=5"))
write("config/twice.json", '{"model": {"layers": 1, "layers": 2}}')
write("config/relation.json", configs(config | {"model": {**config["model"], "heads": 3}}))
write("config/numbers.json", '{"train": {"steps": 1e2, "clip": -0.0, "seed": 9007199254740993, "micro_batch": 1e-400}}')
write("config/escapes.json", '{"output": {"dir": "\\ud83d\\ude00\\ud800 \\/"}}')
write("config/not_utf8.json", b'{"notes": "\xed\xa0\x80"}')
write("config/nested.json", '{"notes": ' + "[" * 64 + "]" * 64 + "}")
write("config/comment.json", "{} // x")
write("config/empty.json", "")


def dictionary(name, words):
    escaped = (re.sub(r'["\\\\\x00-\x1f]', lambda m: f"\\x{ord(m[0]):02x}", word) for word in words)
    (pathlib.Path(__file__).parent / f"{name}.dict").write_text("".join(f'"{word}"\n' for word in escaped))


# Words for -dict=: the keys and choices that the schema names, and what files are made of.
schema = (pathlib.Path(__file__).parents[2] / "src/config/schema.cpp").read_text()
names = re.findall(r'(?:choice|number|integer|text)\(\s*"(\w+)\.(\w+)"', schema)
choices = sorted({w for group in re.findall(r"\{((?:\"[\w-]+\"(?:,\s*)?)+)\}", schema) for w in re.findall(r'"([\w-]+)"', group)})
leaves = sorted({leaf for _, leaf in names})
sections = sorted({section for section, _ in names})
dictionary("config", [f'"{w}":' for w in [*sections, *leaves, "extends", "notes"]] + [f'"{c}"' for c in choices]
           + ["\x1fset ", "\x1frun/a.json\n", "\x1frun/x.json\n", '"a.json"', '"../run/a.json"', *(f"{s}.{k}=" for s, k in names)])
types = ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "U16", "I16", "F16", "BF16", "U32", "I32", "F32", "U64", "I64", "F64"]
dictionary("safetensors", ['"__metadata__":{', '"dtype":', '"shape":[', '"data_offsets":[', *(f'"{t}"' for t in types)])


def step(number, **changes):
    record = {"gradient_norm": 1.5, "loss": 4.5, "lr": 0.001, "mfu": 0.4, "ms": 20.5, "optimizer_ms": 3.5, "step": number,
              "tokens": 256 * max(number, 0)}
    return record | changes


def lines(*records):
    return "".join((r if isinstance(r, str) else json.dumps(r, separators=(",", ":"))) + "\n" for r in records)


start = {"ceiling_gflops": 90.5, "run_steps": 12, "step": 0}
validation = {"step": 2, "unigram_entropy": 5.5, "validation_loss": 4.25}
write("metrics/whole.jsonl", lines(start, step(1), {"metric": "h.0.update_rms", "step": 2, "value": 0.5}, step(2), validation,
                                   {"sample": "\u00e9 text", "step": 2}, step(3, skipped=True, reason="loss not finite", loss=None)))
write("metrics/rewound.jsonl", lines(step(1), step(2), validation, step(3), step(2, ms=5), validation, step(3)))
write("metrics/gaps.jsonl", lines(step(2), step(5), {"run_steps": 9, "step": 5}, step(7)))
write("metrics/torn.jsonl", lines(step(1)) + '{"loss":4,"st')
write("metrics/steps.jsonl", lines(step(0), step(-1), step(2**63), step(2**64 - 1), step(10**8), step(10**8 + 1), step(1, step=1.5), step(1, step="1")))
write("metrics/tokens.jsonl", lines(step(1, tokens=2**63), step(1, tokens=-1), step(1, tokens=2**63 - 1), step(2, tokens=5), step(3, tokens=1e30)))
write("metrics/numbers.jsonl", lines(step(1, loss=1.7e308, ms=-1), step(2, loss=-1.7e308, lr=-1.7e308, ms=1e300), step(3, loss=5e-324, ms=1e12)))
write("metrics/orders.jsonl", lines(step(5), validation, {"step": 7, "validation_loss": 1}, {"step": 6, "validation_loss": 1}, step(3)))
write("metrics/rubbish.jsonl", lines("", "[1]", "\x01", "{", "[" * 3000, "null", '{"step":1}', '{"run_steps":0,"step":0}', '{"run_steps":-5,"step":0}'))
write("metrics/empty.jsonl", "")
keys = sorted({*step(1), *start, *validation, "sample", "skipped", "metric", "value"})
dictionary("metrics", [*(f'"{k}":' for k in keys), "null", "1e308", "-1e308", "9223372036854775807", "18446744073709551615", "}\n{"])

files = {"model.safetensors": {"bytes": 100, "xxh3": "00"}, "optimizer.safetensors": {"bytes": 200, "xxh3": "01"}}
manifest = {"version": 2, "step": 20, "optimizer_t": 19, "samples": 80, "data": "5 tokens", "config": json.dumps(config),
            "files": files, "guard_losses": [1.5, 2], "guard_gradient_norms": [0.5], "run_steps": 40, "ceiling_gflops": 90.5,
            "xxh3": "0"}
write("manifest/whole.json", json.dumps(manifest))
write("manifest/old.json", json.dumps({k: v for k, v in manifest.items() if not k.startswith(("guard", "run", "ceil"))}))
write("manifest/extends.json", json.dumps(manifest | {"config": '{"extends": "/etc/passwd"}'}))
write("manifest/numbers.json", json.dumps(manifest | {"step": 2**63, "samples": -1, "ceiling_gflops": -1}))
write("manifest/ceiling.json", json.dumps(manifest | {"ceiling_gflops": 0}))
write("manifest/guards.json", json.dumps(manifest | {"guard_losses": ["1", None]}))
write("manifest/files.json", json.dumps(manifest | {"files": {"model.safetensors": 3}}))
write("manifest/version.json", json.dumps(manifest | {"version": 3}))
write("manifest/cut.json", json.dumps(manifest)[:300])
write("manifest/empty.json", "")
dictionary("manifest", [f'"{k}":' for k in (*manifest, *files)])
