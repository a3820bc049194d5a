"""Guards of a run: outliers that are skipped, also across a resume; one batch learnt by heart; lengths in epochs and
tokens; too little memory said before anything is computed; a log with a gap; NaN without a sign."""

import json
import re
import resource
import shutil
import signal
import subprocess
import time

from support import KILN, kiln, loss_sequence, make_workplace, metrics, remove, require

folder = make_workplace(validation={"every": 0})
config = folder / "config.json"


def options(run, *changes):
    return [part for change in (f"output.dir={folder}/{run}", *changes) for part in ("--set", change)]


def steps_of(run):
    return [r for r in metrics(folder / run) if "loss" in r]


# A threshold so low that ordinary steps are outliers: they change nothing, are counted, and the resumed run agrees.
guards = ["train.skip_loss_z=0.2", "train.skip_norm_z=0.5", "train.skip_window=8", "checkpoint.every=10", "checkpoint.keep=9"]
output = kiln("train", config, *options("guarded", *guards)).stdout
records = steps_of("guarded")
skipped = [r for r in records if r.get("skipped")]
require(len(skipped) > 3, f"only {len(skipped)} steps were skipped")
require(all(r["step"] > 8 for r in skipped), "a step was judged before the window had filled")
require(all("deviations above its mean" in r["reason"] for r in skipped), f"reasons: {skipped}")
require({r["reason"].split(" ")[0] for r in skipped} == {"loss", "gradient"}, "both guards should have acted")
require(all(("loss_deviations" in r) == (r["step"] > 8) for r in records), "deviations are known once the window has filled")
require(f"({len(skipped)} skipped)" in output and "| skipped: " in output, f"the skipped steps are not counted:\n{output}")
state = json.loads((folder / "guarded/checkpoints/step_00000060/manifest.json").read_text())
require(state["optimizer_t"] == 60 - len(skipped), "skipped steps must not count as updates")
for checkpoint in (folder / "guarded" / "checkpoints").iterdir():
    step = int(checkpoint.name.removeprefix("step_"))
    again = folder / "again"
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(folder / "guarded", again)
    for other in (again / "checkpoints").iterdir():
        if int(other.name.removeprefix("step_")) > step:
            shutil.rmtree(other)
    kiln("train", config, "--resume", *options("again", *guards))
    for name in ("model.safetensors", "optimizer.safetensors", "manifest.json"):
        a, b = (folder / run / "checkpoints/step_00000060" / name for run in ("guarded", "again"))
        if name == "manifest.json":  # holds the folder's name
            a, b = ({k: v for k, v in json.loads(p.read_text()).items() if k.startswith("guard") or k == "optimizer_t"} for p in (a, b))
            require(a == b and len(a) == 3, f"resumed from step {step}: other guards: {a} {b}")
        else:
            require(a.read_bytes() == b.read_bytes(), f"resumed from step {step}: {name} differs")
    require(loss_sequence(again) == loss_sequence(folder / "guarded"), f"resumed from step {step}: other losses")
kiln("train", config, *options("plain"))
kiln("train", config, *options("lenient", "train.skip_loss_z=1e6", "train.skip_norm_z=1e6", "train.skip_window=8"))
require(loss_sequence(folder / "plain") == loss_sequence(folder / "lenient"), "guards that see nothing must change nothing")

# One batch, again and again.
output = kiln("train", config, *options("overfit", "train.overfit_one_batch=true", "train.steps=300", "optimizer.lr=0.01",
                                        "optimizer.wd=0", "train.tokens_per_step=128")).stdout
require("overfit_one_batch" in output, "the start-up block must say that the run trains on one batch")
final = steps_of("overfit")[-1]["loss"]
require(final < 0.05, f"one batch has a loss of {final} after 300 steps")

# Epochs: every sequence once, the last step filled up. 256 tokens a step are 8 sequences.
output = kiln("train", config, *options("epochs", "train.steps=0", "train.epochs=0.05", "schedule.warmup=2")).stdout
sequences = int(re.search(r"training .*?(\d+) sequences", output).group(1))
wanted = round(0.05 * sequences)
steps = -(-wanted // 8)
require(f"run: {steps} steps of 256 tokens (2 micro-batches of 4 x 32) = {steps * 256} tokens" in output, f"no plan:\n{output}")
require(f"train.epochs = 0.05 are {wanted} sequences; the last step is filled up with {steps * 8 - wanted} more" in output,
        f"the ragged step is not explained:\n{output}")
require(len(steps_of("epochs")) == steps, "the run has another length than planned")
require(abs(steps_of("epochs")[-1]["lr"] / 0.003 - 0.1) < 0.01, "the schedule must end with the run")
require("nothing to do" in kiln("train", folder / "epochs/config.json", "--resume").stdout, "the run's own config must be the run's")
# config.json says no number of steps; the run does, so that one that was stopped is told from one that has ended.
long = options("unfinished", "train.steps=0", "train.epochs=1000", "schedule.warmup=2", "checkpoint.every=5")
process = subprocess.Popen([KILN, "train", str(config), *long], stdout=subprocess.DEVNULL)
while process.poll() is None and not list(folder.glob("unfinished/checkpoints/step_*")):
    time.sleep(0.01)
process.send_signal(signal.SIGINT)
require(process.wait(60) == 5, "stopped by a signal")
all_steps = -(-1000 * sequences // 8)
done = steps_of("unfinished")[-1]["step"]
require(f"step {done} of {all_steps} (" in kiln("inspect", folder / "unfinished").stdout, "how far an unfinished run of epochs is")
require(f"of {all_steps}," in kiln("inspect", folder / f"unfinished/checkpoints/step_{done:08d}").stdout, "and a checkpoint of it")
noted = kiln("compare", folder / "epochs", folder / "unfinished").stdout
require(f"has done {done} of its {all_steps} steps" in noted and noted.count("has done") == 1, noted)
result = kiln("train", config, *options("short", "train.steps=0", "train.epochs=0.05", f"schedule.warmup={steps + 1}"), check=False)
require(result.returncode == 2 and "train.epochs: schedule.warmup" in result.stderr, f"warm-up: {result.stderr}")
output = kiln("train", config, *options("tokens", "train.steps=0", "train.tokens=2561")).stdout
require("run: 11 steps" in output and len(steps_of("tokens")) == 11, f"2561 tokens are 11 steps of 256:\n{output}")

# Too little memory: before anything is computed, with the plan and what to lower.
large = ["model.layers=6", "model.width=512", "model.heads=8", "model.ffn=2048", "model.context=1024", "train.sequence=1024",
         "train.micro_batch=16", "train.tokens_per_step=16384"]


def total(*changes):
    plan = kiln("plan", config, *options("large", *large, *changes)).stdout
    return int(re.search(r"total bytes: (\d+)", plan).group(1)), plan


needed, plan = total()
limit = needed // 2


def limited(*arguments):
    return subprocess.run([KILN, *map(str, arguments)], capture_output=True, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))


result = limited("train", config, *options("large", *large))
require(result.returncode == 1, f"exit code {result.returncode}: {result.stdout}{result.stderr}")
require("out of memory: the limit on address space (ulimit -v) leaves" in result.stderr, result.stderr)
for line in plan.split("memory:\n")[1].split("total bytes")[0].splitlines():
    if line.startswith("  "):
        require(line in result.stderr, f"the plan lacks '{line}':\n{result.stderr}")
advised = {key: (int(value), amount) for key, value, amount in
           re.findall(r"(train\.\w+) = (\d+) instead of \d+: ([\d.]+ [MGT]iB)", result.stderr)}
require(set(advised) >= {"train.micro_batch", "train.sequence"}, f"advice: {result.stderr}")
for key, (value, amount) in advised.items():
    planned, text = total(f"{key}={value}")
    require(amount in text and planned < needed, f"{key} = {value} was said to need {amount}:\n{text}")
require(not (folder / "large" / "metrics.jsonl").exists(), "nothing may have been trained")

# A trained model's weights are what they are: what eval and generate say to lower are keys that help them, with --set.
wide = [part for change in ("train.sequence=64", "train.micro_batch=65536", "train.tokens_per_step=4194304",
                                   "validation.tokens=4194304") for part in ("--set", change)]
result = limited("eval", folder / "plain", *wide)
require(result.returncode == 1 and "out of memory" in result.stderr, result.stdout + result.stderr)
hint = result.stderr.split("hint:")[1]
require("train.micro_batch = 32768 instead of 65536" in hint and "--set" in hint, hint)
require("optimizer" not in hint and "model." not in hint, f"advice that does not help: {hint}")
require(limited("eval", folder / "plain", *wide, "--set", "train.micro_batch=4").returncode == 0, "the advice must help")

# Lines that are lost are named; what is there stays.
kiln("train", config, *options("gap", "checkpoint.every=20", "train.steps=60"))
log = folder / "gap" / "metrics.jsonl"
lines = log.read_text().splitlines(keepends=True)
log.write_text("".join(line for line in lines if not 7 <= json.loads(line)["step"] <= 9))
result = kiln("train", config, "--resume", *options("gap", "checkpoint.every=20", "train.steps=60"))
require("has no lines of steps 7 to 9" in result.stderr, f"no warning:\n{result.stderr}")

# A NaN has no sign, wherever it is printed.
wild = kiln("train", config, *options("wild", "optimizer.lr=10", "optimizer.eps=1e-30", "train.clip=0", "optimizer.wd=10",
                                      "schedule.kind=constant", "schedule.warmup=0", "train.max_skipped=15"), check=False)
text = wild.stdout + wild.stderr + (folder / "wild" / "main.log").read_text()
require("nan" in text and "-nan" not in text, f"NaNs:\n{text}")

remove(folder)
print("guards: outliers, one batch, epochs and tokens, memory, gaps, NaN")
