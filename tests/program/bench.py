"""kiln bench needs no data, plans memory as training does, and its parts add up; MFU never exceeds 100 %."""

import json
import os
import re
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
require(all(0 <= r["mfu"] <= 1 for r in metrics(folder / "run") if "mfu" in r), "MFU above 100 %")
require(not re.search(r"MFU 1\d\d\.[1-9]", trained.stdout), trained.stdout)

remove(folder)
os.rmdir(temporary)
print("bench: three optimizers, parts, plan, MFU, too many threads")
