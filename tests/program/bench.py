"""kiln bench needs no data, plans memory as training does, and its parts add up; MFU of a run is a fraction of one number, through
its resumes too."""

import json
import os
import re
import shutil
import tempfile

from support import kiln, make_workplace, metrics, remove, require

folder = make_workplace(train={"steps": 8})
config = folder / "config.json"
temporary = tempfile.mkdtemp(prefix="kiln-test-")
nothing = ["--set", "data.train=nowhere_*.bin", "--set", "data.validation=", "--set", "device.threads=1"]


def bench(*arguments):
    return json.loads(kiln("bench", config, *nothing, "--steps", 6, "--json", *arguments, env={"TMPDIR": temporary}).stdout)


for name, optimizers in (("adamw", {"adamw"}), ("muon", {"adamw", "muon"}), ("kl-shampoo", {"adamw", "kl-shampoo"})):
    result = bench("--set", f"optimizer.name={name}")
    require(set(result["optimizers"]) == optimizers, f"{name}: {result['optimizers']}")
    ms = result["ms"]
    parts = ms["forward_backward"]["mean"] + ms["rest"]["mean"] + sum(o["mean"] for o in result["optimizers"].values())
    require(abs(parts - ms["step"]["mean"]) < 1e-6 * parts, f"{name}: parts of {parts} ms, steps of {ms['step']['mean']} ms")
    require(result["steps"] == len(result["step_ms"]) == 6 and result["step_tokens"] == 256, result)
    require(0 < result["mfu"] <= 1, f"{name}: MFU {result['mfu']}")
    expected = result["tokens_per_second"] * result["flops_per_token"] / result["ceiling_gflops"] / 1e9
    require(abs(result["mfu"] - expected) < 1e-9, "MFU is what its formula says")
    plan = kiln("plan", config, *nothing, "--set", f"optimizer.name={name}").stdout
    require(f"total bytes: {result['planned_bytes']}\n" in plan, f"{name}: {result['planned_bytes']} bytes against {plan}")
require(os.listdir(temporary) == [], f"left behind: {os.listdir(temporary)}")

text = kiln("bench", config, *nothing, "--steps", 2, "--warmup", 1, "--micro-batches", 1).stdout
for words in ("Gflop/s = 2 x 512 x 384 x 1536 / s", "forward + backward", "optimizer adamw", "tokens/s:", "MFU:",
              "a step of the config has 2 micro-batches"):
    require(words in text, f"bench lacks '{words}':\n{text}")

many = kiln("bench", config, *nothing, "--steps", 1, "--set", f"device.threads={os.cpu_count() + 1}")
require("device.threads" in many.stderr and "processor" in many.stderr, many.stderr)
trained = kiln("train", config, "--set", f"device.threads={len(os.sched_getaffinity(0)) + 1}")
require("warning: device.threads" in trained.stderr, f"no warning of too many threads: {trained.stderr}")

# MFU of a whole run is a fraction of one number, which its log says first: tokens/s x flops a token / that number.
flops = float(re.search(r"MFU = tokens/s x ([\d.]+) Mflop/token", trained.stdout).group(1)) * 1e6


def ceiling_of(run):
    start, records = metrics(run)[0], [r for r in metrics(run) if "mfu" in r]
    for r in records:
        expected = r["tokens_per_second"] * flops / (start["ceiling_gflops"] * 1e9)
        require(abs(r["mfu"] - expected) < 0.01 * expected, f"MFU {r['mfu']} instead of {expected}")  # flops have three digits
        quotient = r["mfu"] / r["tokens_per_second"]
        require(abs(quotient / (records[0]["mfu"] / records[0]["tokens_per_second"]) - 1) < 1e-12, f"another ceiling: {r}")
    return start["ceiling_gflops"], len(records)


require(ceiling_of(folder / "run")[1] == 8, "eight steps")
# A run that goes on keeps it, though another number of threads measures another; it says so where they differ.
gone_on = ["--set", f"output.dir={folder}/on", "--set", "checkpoint.every=4"]
kiln("train", config, *gone_on)
shutil.rmtree(folder / "on" / "checkpoints" / "step_00000008")
before = ceiling_of(folder / "on")[0]
again = kiln("train", config, "--resume", *gone_on, "--set", "device.threads=1")
require(ceiling_of(folder / "on") == (before, 8), "the ceiling of a run that goes on")
require(f"/ {before:.1f} Gflop/s" in again.stdout and "measured when the run began" in again.stdout, again.stdout)
notes = re.findall(r"runs at ([\d.]+) Gflop/s now, at ([\d.]+) when the run began", again.stderr)
require(all(then == f"{before:.1f}" and abs(float(now) - before) > 0.04 * before for now, then in notes), again.stderr)
for stderr in (trained.stderr, again.stderr):
    require(stderr.count("may exceed 100 %") <= 1, stderr)

remove(folder)
os.rmdir(temporary)
print("bench: three optimizers, parts, plan, MFU of one ceiling, too many threads")
