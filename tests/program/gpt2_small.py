"""GPT-2 124M as its preset has it really runs: one step of 2 x 1024 tokens takes one mapping of exactly the planned memory,
the process is not larger than that and what a tiny run has besides, and the loss is that of a model that knows nothing."""

import array
import math
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import time

from support import KILN, kiln, metrics, preload, remove, require

VOCAB = 50257
PRESET = pathlib.Path(os.environ.get("KILN_SOURCE", ".")) / "configs" / "gpt2-124m" / "adamw.json"
# Beyond the plan: pages that the two runs' libraries happen to touch, and the tables of pages themselves (1/512).
SLACK = 32 << 20

folder = pathlib.Path(tempfile.mkdtemp(prefix="kiln-test-"))
rng = random.Random(1)
tokens = array.array("H", (rng.randrange(VOCAB) for _ in range(5000)))
(folder / "train.bin").write_bytes(struct.pack("<3i", 20240520, 1, len(tokens)) + bytes(1012) + tokens.tobytes())


def step(name, *changes):
    """Planned bytes, largest resident bytes of the run, seconds."""
    overrides = [part for change in [f"output.dir={folder}/{name}", f"data.train={folder}/train.bin", "data.validation=", "train.steps=1",
                                     "schedule.warmup=0", *changes] for part in ("--set", change)]
    planned = int(re.search(r"total bytes: (\d+)", kiln("plan", PRESET, *overrides).stdout).group(1))
    log = folder / f"{name}.allocations"
    begin = time.monotonic()
    process = subprocess.Popen([KILN, "train", str(PRESET), *overrides], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=os.environ | preload("allocation_log") | {"ALLOCATION_LOG": str(log)})
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"FAILED: {name}\n{output}")
    events = [line.split() for line in open(log, encoding="utf-8")]
    slabs = [i for i, event in enumerate(events) if event[0] == "mmap" and int(event[1]) == planned]
    require(len(slabs) == 1, f"{name}: one mapping of exactly the planned {planned} bytes expected, found {len(slabs)}")
    after = [event for event in events[slabs[0] + 1:] if event[0] != "step"]
    require(not after, f"{name}: allocations of 64 KiB or more outside the plan: {after}")
    seconds = time.monotonic() - begin
    resident = usage.ru_maxrss * 1024
    print(f"{name}: planned {planned / 2**20:.1f} MiB, resident at most {resident / 2**20:.1f} MiB, {seconds:.0f} s", flush=True)
    return planned, resident


tiny_planned, tiny_resident = step("tiny", "model.layers=1", "model.width=8", "model.heads=1", "model.ffn=8", "model.vocab_multiple=1",
                                   "train.micro_batch=1", "train.sequence=16", "train.tokens_per_step=16", "train.loss_rows=16")
planned, resident = step("small", "train.micro_batch=1", "train.tokens_per_step=2048")
besides = max(tiny_resident - tiny_planned, 0)
require(resident <= planned + besides + planned // 512 + SLACK,
        f"{resident} bytes resident, {planned} planned and {besides} besides in a tiny run")
record = metrics(folder / "small")[0]
# Logits of N(0, 0.02) weights on normalised activations have a variance of 768 x 0.02^2 = 0.31: the expected loss is
# ln V + half of it, 10.98.
require(abs(record["loss"] - math.log(VOCAB) - 0.155) < 0.15, f"the first loss is {record['loss']}")
require(math.isfinite(record["gradient_norm"]), f"gradient norm {record['gradient_norm']}")
print(f"first loss {record['loss']:.4f}, gradient norm {record['gradient_norm']:.3f}, {record['ms'] / 1000:.1f} s a step")
remove(folder)
