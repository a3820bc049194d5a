"""A gigabyte of text is prepared in memory that does not grow with it, and a kill on the way changes nothing.
Usage: prepare_memory.py [MEGABYTES]"""

import json
import os
import pathlib
import random

import signal
import subprocess
import sys
import tempfile
import time

from support import KILN, kiln, remove, require

megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
folder = pathlib.Path(tempfile.mkdtemp(prefix="kiln-test-"))
rng = random.Random(1)
words = ["".join(rng.choice("etaoinshrdlu") for _ in range(rng.randint(1, 9))) for _ in range(20000)]
paragraphs = [" ".join(rng.choices(words, k=rng.randint(20, 150))) + ".\n\n" for _ in range(3000)]

def write_text(path, size):
    """Half .jsonl, half one long .txt; every document is another one."""
    count = 0
    with open(path / "a.jsonl", "w", encoding="utf-8") as jsonl:
        while jsonl.tell() < size // 2:
            count += 1
            jsonl.write(json.dumps({"text": f"{count} " + "".join(rng.choices(paragraphs, k=8))}) + "\n")
    with open(path / "b.txt", "w", encoding="utf-8") as text:
        while text.tell() < size // 2:
            count += 1
            text.write(f"{count} " + "".join(rng.choices(paragraphs, k=8)))

def prepare(path, out, kill_after=None):
    """Peak resident memory in MB, seconds and the exit code."""
    command = [KILN, "data", "prepare", "--keep-duplicates", "--threads", "2", "--tokenizer", str(folder / "tokenizer.json"),
               "--out", str(out), str(path / "a.jsonl"), str(path / "b.txt")]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    if kill_after:
        while not (out / "preparing.json").exists() or json.loads((out / "preparing.json").read_text())["journal"]["train"]["tokens"] < kill_after:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    return usage.ru_maxrss / 1024, time.monotonic() - started, os.waitstatus_to_exitcode(status)

small, large = folder / "small", folder / "large"
for path, size in ((small, 100_000_000), (large, megabytes * 1_000_000)):
    path.mkdir()
    write_text(path, size)
kiln("data", "train-tokenizer", "--vocab-size", 4096, "--out", folder / "tokenizer.json", small / "a.jsonl")
small_peak, _, code = prepare(small, folder / "small_out")
require(code == 0, "the small text cannot be prepared")
large_peak, seconds, code = prepare(large, folder / "large_out")
require(code == 0, "the large text cannot be prepared")
_, _, code = prepare(large, folder / "killed", kill_after=20_000_000)
require(code == -signal.SIGKILL, "the run was over before it was killed")
_, _, code = prepare(large, folder / "killed")
require(code == 0, "a killed run cannot be continued")
for file in (folder / "large_out").iterdir():
    same = subprocess.run(["cmp", "-s", file, folder / "killed" / file.name], check=False).returncode == 0
    require(same, f"{file.name} differs after a kill")
require(len(list((folder / "large_out").iterdir())) == len(list((folder / "killed").iterdir())), "files are left over")
print(f"max RSS: {small_peak:.1f} MB for 100 MB of text, {large_peak:.1f} MB for {megabytes} MB ({megabytes / seconds:.1f} MB/s); "
      "the same bytes after a kill")
require(large_peak < 150 and large_peak < 1.3 * small_peak + 10, "memory grows with the text")
remove(folder)
