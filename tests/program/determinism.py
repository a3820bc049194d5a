"""Two runs of one config, and runs with other numbers of threads, write bitwise the same losses; another seed does not."""

from support import kiln, loss_sequence, make_workplace, remove, require

folder = make_workplace()
config = folder / "config.json"
losses = {}
for name, changes in {"first": [], "second": [], "one thread": ["device.threads=1"], "three threads": ["device.threads=3"],
                      "discrete arena": ["device.arena=discrete"], "other seed": ["train.seed=7"],
                      "baseline": ["device.isa=baseline"],
                      "baseline, three threads": ["device.isa=baseline", "device.threads=3"]}.items():
    run = folder / name.replace(" ", "_").replace(",", "")
    overrides = [part for change in [f"output.dir={run}", *changes] for part in ("--set", change)]
    kiln("train", config, *overrides)
    losses[name] = loss_sequence(run)

require(len([r for r in losses["first"] if "loss" in r]) == 60, "a run of 60 steps must log 60 losses")
for name in ("second", "one thread", "three threads", "discrete arena"):
    require(losses[name] == losses["first"], f"run '{name}' differs from the first run")
require(losses["baseline, three threads"] == losses["baseline"], "the baseline kernels depend on the number of threads")
require(losses["other seed"] != losses["first"], "another seed must give other losses")
first, last = losses["first"][0]["loss"], [r for r in losses["first"] if "loss" in r][-1]["loss"]
require(last < first - 1.0, f"the small model must learn: loss went from {first} to {last}")
remove(folder)
print("bitwise equal over 2 runs, 1-3 threads and both arenas")
