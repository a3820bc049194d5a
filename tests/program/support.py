"""What the whole-program tests share: a small text, a small config, running kiln, reading its logs."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

KILN = os.environ.get("KILN_BINARY", "build/release/kiln")
BUILD = os.environ.get("KILN_BUILD", "build/release")


def write_text(path, words=60_000, seed=1):
    """Words drawn from a small vocabulary with a strong successor preference: easy to learn, never constant."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 7))) for _ in range(300)]
    with open(path, "w", encoding="utf-8") as file:
        for document in range(200):
            index = rng.randrange(300)
            text = []
            for _ in range(words // 200):
                text.append(vocabulary[index])
                index = (7 * index + 3) % 300 if rng.random() < 0.8 else rng.randrange(300)
            file.write(json.dumps({"text": " ".join(text)}) + "\n")


def make_workplace(vocab=None, **sections):
    """A temporary folder with shards and config.json; `sections` override the small default config. The tokens are bytes,
    or those of a tokenizer of `vocab` tokens that is trained on the text."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kiln-test-"))
    write_text(folder / "documents.jsonl")
    tokenizer = "bytes"
    if vocab:
        tokenizer = f"{folder}/tokenizer.json"
        kiln("data", "train-tokenizer", "--vocab-size", vocab, "--out", tokenizer, folder / "documents.jsonl")
    kiln("data", "prepare", "--tokenizer", tokenizer, "--out", folder / "shards", folder / "documents.jsonl")
    config = {
        "model": {"family": "gpt2", "layers": 2, "width": 32, "heads": 2, "vocab": vocab or 257, "vocab_multiple": 64, "context": 64},
        "data": {"train": f"{folder}/shards/train_*.bin", "validation": f"{folder}/shards/validation_*.bin",
                 "tokenizer": tokenizer},
        "train": {"steps": 60, "micro_batch": 4, "sequence": 32, "tokens_per_step": 256, "loss_rows": 48},
        "optimizer": {"lr": 0.003},
        "schedule": {"warmup": 5},
        "validation": {"every": 20, "tokens": 1024},
        "checkpoint": {"every": 5, "keep": 2},
        "output": {"dir": f"{folder}/run"},
    }
    for name, values in sections.items():
        config.setdefault(name, {}).update(values)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def preload(library):
    """The environment that loads tests/program/LIBRARY.cpp into kiln, after the sanitizer that kiln may be built with."""
    file = pathlib.Path(BUILD) / f"tests/lib{library}.so"
    if not file.exists():
        sys.exit(f"FAILED: {file} is not built")
    return {"LD_PRELOAD": f"{os.environ.get('KILN_SANITIZER_RUNTIME', '')}:{file}".lstrip(":")}


def kiln(*arguments, check=True, env=None, timeout=300):
    """Runs kiln to its end; with check, a failure ends the test with what kiln printed."""
    result = subprocess.run([KILN, *map(str, arguments)], capture_output=True, text=True, timeout=timeout,
                            errors="replace", env={**os.environ, **(env or {})})
    if check and result.returncode != 0:
        sys.exit(f"kiln {' '.join(map(str, arguments))} exited with {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result


def metrics(run):
    return [json.loads(line) for line in open(pathlib.Path(run) / "metrics.jsonl", encoding="utf-8")]


def loss_sequence(run):
    """Everything of a run that must not depend on when it was stopped; floats compare bit for bit."""
    kept = ("step", "loss", "gradient_norm", "lr", "tokens", "validation_loss", "sample")
    return [{key: record[key] for key in kept if key in record} for record in metrics(run) if "run_steps" not in record]


def require(condition, message):
    if not condition:
        sys.exit("FAILED: " + message)


def remove(folder):
    shutil.rmtree(folder, ignore_errors=True)
