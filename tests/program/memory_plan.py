"""Planned memory is allocated memory: with malloc and mmap interposed, the plan's total appears as one mapping, made
before the first step, and nothing of 64 KiB or more is allocated while the run steps, validates, samples and saves."""

import re

from support import kiln, make_workplace, preload, remove, require

folder = make_workplace(
    vocab=400,
    model={"layers": 3, "width": 96, "heads": 3, "context": 128},
    train={"steps": 12, "micro_batch": 6, "sequence": 128, "tokens_per_step": 1536, "loss_rows": 200},
    validation={"every": 4}, checkpoint={"every": 4}, sampling={"every": 6, "tokens": 40, "prompt": "ab cd"})
config = folder / "config.json"
DEVICE_ERROR = 4


def check(name, overrides):
    overrides = [part for change in [f"output.dir={folder}/{name}", *overrides] for part in ("--set", change)]
    plan = kiln("plan", config, *overrides, check=False)
    if plan.returncode == DEVICE_ERROR:
        return print(f"{name}: not on this machine")
    planned = int(re.search(r"total bytes: (\d+)", plan.stdout).group(1))
    log = folder / f"{name}.allocations"
    output = kiln("train", config, *overrides, env=preload("allocation_log") | {"ALLOCATION_LOG": str(log)}).stdout

    events = [line.split() for line in open(log, encoding="utf-8")]
    steps = [i for i, event in enumerate(events) if event[0] == "step"]
    require(len(steps) == 12, f"12 steps expected in the log, found {len(steps)}")
    slabs = [event for event in events if event[0] == "mmap" and int(event[1]) == planned]
    require(len(slabs) == 1, f"one mapping of exactly the planned {planned} bytes expected, found {len(slabs)}")
    slab = events.index(slabs[0])
    # Before its plan kiln itself maps only what it measures the processor's ceiling in: in, out, weights and packed weights
    # of a product of 512 rows a thread by 384 by 1536, and at most 64 KiB a thread of scratch.
    threads = int(re.search(r"(\d+) threads\)", output).group(1))
    ceiling = 4 * (512 * threads * (1536 + 384) + 2 * 384 * 1536) + 65536 * threads
    before = {int(e[1]) for e in events[:slab] if e[2].startswith("kiln")}
    require(len(before) <= 1 and max(before, default=0) <= ceiling,
            f"{name}: kiln itself allocated before its plan: {before}, of which {ceiling} bytes may be the ceiling's")
    # From the arena on, and so from inside the very first step, nothing big may appear any more, whoever asks for it.
    after = [e for e in events[slab + 1:] if e[0] != "step"]
    require(not after, f"{name}: allocations of 64 KiB or more outside the plan: {after}")
    library = sum(int(e[1]) for e in events[:slab] if e[0] != "step" and not e[2].startswith("kiln"))
    print(f"{name}: planned {planned} bytes = one mapping; nothing else during 12 steps; libraries and thread stacks before: {library} bytes")


check("adamw", [])
check("avx2", ["device.isa=avx2"])
check("baseline", ["device.isa=baseline"])
check("recompute", ["train.recompute=block"])
check("llama", ["model.family=llama", "model.heads=6", "model.kv_heads=2"])
check("llama-recompute", ["model.family=llama", "model.kv_heads=1", "train.recompute=block", "model.tied=on"])
check("muon", ["optimizer.name=muon", "metrics.every=3"])
check("kl-shampoo", ["optimizer.name=kl-shampoo", "optimizer.refresh=5", "metrics.every=3", "metrics.tail_rank=20"])
check("kl-shampoo-roots", ["optimizer.name=kl-shampoo", "optimizer.root=newton_schulz"])
check("pro-kl-shampoo", ["optimizer.name=pro-kl-shampoo", "optimizer.rank=16", "optimizer.refresh=5", "metrics.every=3"])
remove(folder)
