"""Two runs of one config, and runs with other numbers of threads, write bitwise the same losses; another seed does not.
The same of every optimizer, with resuming: a run that is interrupted by its number of steps goes on bitwise."""

from support import kiln, loss_sequence, make_workplace, remove, require

folder = make_workplace()
config = folder / "config.json"
losses = {}
for name, changes in {"first": [], "second": [], "one thread": ["device.threads=1"], "three threads": ["device.threads=3"],
                      "discrete arena": ["device.arena=discrete"], "other seed": ["train.seed=7"],
                      "recomputed blocks": ["train.recompute=block"],
                      "baseline": ["device.isa=baseline"],
                      "baseline, three threads": ["device.isa=baseline", "device.threads=3"]}.items():
    run = folder / name.replace(" ", "_").replace(",", "")
    overrides = [part for change in [f"output.dir={run}", *changes] for part in ("--set", change)]
    kiln("train", config, *overrides)
    losses[name] = loss_sequence(run)

require(len([r for r in losses["first"] if "loss" in r]) == 60, "a run of 60 steps must log 60 losses")
for name in ("second", "one thread", "three threads", "discrete arena", "recomputed blocks"):
    require(losses[name] == losses["first"], f"run '{name}' differs from the first run")
require(losses["baseline, three threads"] == losses["baseline"], "the baseline kernels depend on the number of threads")
require(losses["other seed"] != losses["first"], "another seed must give other losses")
steps = [r["loss"] for r in losses["first"] if "loss" in r]
first, last = steps[0], steps[-1]
require(last < first - 1.0, f"the small model must learn: loss went from {first} to {last}")

# A run may go on with recomputation where it began without: memory is another, the bits are the same.
run = folder / "later_recomputed"
common = [part for change in (f"output.dir={run}", "train.steps=60") for part in ("--set", change)]
kiln("train", config, *common)
for step in (run / "checkpoints").iterdir():
    if step.name == "step_00000060":
        remove(step)
kiln("train", config, "--resume", *common, "--set", "train.recompute=block")
require(loss_sequence(run) == losses["first"], "a run that goes on with recomputation differs")

MATRIX_OPTIMIZERS = {
    "muon": ["optimizer.name=muon"],
    "kl-shampoo": ["optimizer.name=kl-shampoo"],
    "kl-shampoo roots": ["optimizer.name=kl-shampoo", "optimizer.root=newton_schulz"],
    "pro-kl-shampoo": ["optimizer.name=pro-kl-shampoo", "optimizer.rank=8"],
    "pro-kl-shampoo accumulate": ["optimizer.name=pro-kl-shampoo", "optimizer.rank=8", "optimizer.tracker=accumulate"],
    "pro-kl-shampoo roots": ["optimizer.name=pro-kl-shampoo", "optimizer.rank=8", "optimizer.root=newton_schulz"],
    "llama adamw": [],
    "llama muon": ["optimizer.name=muon"],
    "llama kl-shampoo": ["optimizer.name=kl-shampoo"],
    "llama pro-kl-shampoo": ["optimizer.name=pro-kl-shampoo", "optimizer.rank=8", "train.recompute=block"],
}
for name, changes in MATRIX_OPTIMIZERS.items():
    if name.startswith("llama"):
        changes += ["model.family=llama", "model.heads=4", "model.kv_heads=2"]
for name, changes in MATRIX_OPTIMIZERS.items():
    def run(folder_name, *more):
        run_folder = folder / (name.replace(" ", "_") + folder_name)
        overrides = [part for change in [f"output.dir={run_folder}", "train.steps=34", "schedule.kind=constant",
                                         "checkpoint.every=17", *changes, *more] for part in ("--set", change)]
        return run_folder, overrides

    whole, overrides = run("_whole")
    kiln("train", config, *overrides)
    expected = loss_sequence(whole)
    other, overrides = run("_threads", "device.threads=1")
    kiln("train", config, *overrides)
    require(loss_sequence(other) == expected, f"{name}: one thread computes something else")
    # The newest checkpoint goes, and with it what came after step 17.
    other, overrides = run("_resumed")
    kiln("train", config, *overrides)
    remove(other / "checkpoints" / "step_00000034")
    kiln("train", config, *overrides, "--resume")
    require(loss_sequence(other) == expected, f"{name}: a resumed run computes something else")
    losses_of_steps = [r["loss"] for r in expected if "loss" in r]
    require(losses_of_steps[-1] < losses_of_steps[0] - 1.0, f"{name} must learn: {losses_of_steps[0]} to {losses_of_steps[-1]}")
remove(folder)
print(f"bitwise equal over 2 runs, 1-3 threads and both arenas; {len(MATRIX_OPTIMIZERS)} variants of matrix optimizers, resumed too")
