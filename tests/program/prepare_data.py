"""kiln data, as a person uses it: a tokenizer is trained, text prepared from files and from standard input, inspected;
a preparation that is killed many times, at random moments and inside its writes, ends with the same bytes.
Usage: prepare_data.py [KILLS] [SEED]"""

import json
import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import tempfile

from support import KILN, kiln, preload, remove, require

kills = int(sys.argv[1]) if len(sys.argv) > 1 else 25
rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
folder = pathlib.Path(tempfile.mkdtemp(prefix="kiln-test-"))


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


words = ["".join(rng.choice("etaoinshrdlu") for _ in range(rng.randint(1, 9))) for _ in range(2000)]
with open(folder / "a.jsonl", "w", encoding="utf-8") as file:
    for i in range(3000):
        text = " ".join(rng.choices(words, k=rng.randint(1, 120))) if i % 10 else "a duplicate"
        file.write(json.dumps({"text": text + "\u00e9\U0001F600" * (i % 3)}) + "\n")
(folder / "b.txt").write_text("\n\n".join(" ".join(rng.choices(words, k=60)) for _ in range(1000)))
inputs = [folder / "a.jsonl", folder / "b.txt"]
tokenizer = folder / "tokenizer.json"

# A tokenizer of its own.
result = kiln("data", "train-tokenizer", "--vocab-size", 1000, "--out", tokenizer, *inputs)
require("1000 tokens" in result.stdout, result.stdout)
first = tokenizer.read_bytes()
refused = kiln("data", "train-tokenizer", "--vocab-size", 1000, "--out", tokenizer, *inputs, check=False)
require(refused.returncode == 2 and "already there" in refused.stderr and "--overwrite" in refused.stderr, refused.stderr)
kiln("data", "train-tokenizer", "--vocab-size", 1000, "--overwrite", "--threads", 3, "--out", tokenizer, *inputs)
require(tokenizer.read_bytes() == first, "the same text must give the same tokenizer, whatever the threads")
refused = kiln("data", "train-tokenizer", "--vocab-size", 100, "--out", folder / "none.json", *inputs, check=False)
require(refused.returncode == 2 and "257" in refused.stderr, refused.stderr)

# Prepared, inspected, prepared again.
options = ["--tokenizer", tokenizer, "--shard-tokens", 7000, "--journal-bytes", 30000, "--validation-fraction", 0.05]
whole = folder / "whole"
prepare = ["data", "prepare", *options, "--out"]
result = kiln(*prepare, whole, *inputs)
require("297 duplicates" in result.stdout and "bpe-1000" in result.stdout, result.stdout)
require("already there" in kiln(*prepare, whole, *inputs).stdout, "the same again must be recognised")
expected = contents(whole)
shown = kiln("data", "inspect", "--verify", whole).stdout
for part in ("train_000001.bin", "uint16", "bytes a token", "most frequent tokens", "end-of-text", "verified"):
    require(part in shown, f"inspect does not show {part}:\n{shown}")
one = kiln("data", "inspect", "--text-tokens", 20, whole / "validation_000000.bin").stdout
require("--- validation_000000.bin begins ---" in one, one)

# Standard input gives the same shards as a file of the same lines, and cannot be resumed.
for name, source in (("file", str(inputs[0])), ("stream", "-")):
    with open(inputs[0], "rb") as stream:
        subprocess.run([KILN, *map(str, prepare), str(folder / name), "--format", "jsonl", source], stdin=stream, check=True,
                       capture_output=True)
file, stream = contents(folder / "file"), contents(folder / "stream")
require({n: c for n, c in file.items() if n.endswith(".bin")} == {n: c for n, c in stream.items() if n.endswith(".bin")},
        "standard input and a file differ")
again = subprocess.run([KILN, *map(str, prepare), str(folder / "stream"), "--format", "jsonl", "-"], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, check=False)
require(again.returncode == 2 and "holds another dataset" in again.stderr, again.stderr)
require("--format" in kiln(*prepare, folder / "x", "-", check=False).stderr, "- without a format must be refused")

# Errors name file, line and offset, and leave nothing behind.
(folder / "broken.jsonl").write_text('{"text": "fine"}\n{"txt": "not"}\n')
broken = kiln(*prepare, folder / "broken", inputs[0], folder / "broken.jsonl", check=False)
require(broken.returncode == 3 and "broken.jsonl, line 2, column 1 (byte offset 17)" in broken.stderr, broken.stderr)
require(not list((folder / "broken").iterdir()), "a broken input leaves something behind")

# A disk that takes no more: here, files that may not grow past a limit.
def limit_file_size():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))


full = subprocess.run([KILN, *map(str, prepare), str(folder / "full"), *map(str, inputs)], preexec_fn=limit_file_size,
                      capture_output=True, text=True, check=False)
require(full.returncode == 3 and "cannot write" in full.stderr and "goes on where this one stopped" in full.stderr, full.stderr)
kiln(*prepare, folder / "full", *inputs)
require(contents(folder / "full") == expected, "after a full disk the result is another one")

# Kills: inside the n-th file operation below the folder, or after a while.
spent = {"at a random time": 0, "inside a write": 0}
runs = half = 0
while sum(spent.values()) < kills:
    killed = folder / "killed"
    remove(killed)
    runs += 1
    while True:
        environment = dict(os.environ)
        kind = rng.choice(list(spent))
        if kind == "inside a write":
            environment |= preload("file_fault") | {"FAULT": "kill", "FAULT_AT": str(rng.randint(1, 120)),
                                                    "FAULT_BELOW": str(killed)}
        process = subprocess.Popen([KILN, *map(str, prepare), str(killed), *map(str, inputs)], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env=environment)
        if kind == "at a random time":
            try:
                process.wait(rng.uniform(0.0, 0.3))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        errors = process.communicate()[1].decode(errors="replace")
        if process.returncode == 0:
            break
        require(process.returncode == -signal.SIGKILL, f"kiln failed by itself with {process.returncode}: {errors}")
        require(not (killed / "dataset.json").exists() or not (killed / "preparing.json").exists() or
                "already there" in kiln(*prepare, killed, *inputs).stdout, "an unfinished dataset calls itself finished")
        spent[kind] += 1
        half += killed.exists() and any(file.suffix == ".tmp" for file in killed.iterdir())
    require(contents(killed) == expected, f"a dataset that was killed on its way differs: see {killed}")

require(kills < 20 or min(spent.values()) > kills / 10, f"kills of one kind only: {spent}")
remove(folder)
print(f"{', '.join(f'{count} kills {kind}' for kind, count in spent.items())} ({half} left half-written files), {runs} runs: "
      "the same bytes")
