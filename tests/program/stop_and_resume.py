"""Stops by signal, and what --resume refuses: another process in the folder, other data, checkpoints of which none is
sound.  Whatever happens, the log of the resumed run is bitwise that of one that was never stopped."""

import signal
import subprocess
import time

from support import KILN, kiln, loss_sequence, make_workplace, metrics, remove, require, write_text

INTERRUPTED = 5
folder = make_workplace(train={"steps": 300}, checkpoint={"every": 50}, validation={"every": 100},
                        sampling={"every": 150, "tokens": 12})
config = folder / "config.json"


def options(run, *overrides):
    return [part for change in (f"output.dir={run}", *overrides) for part in ("--set", change)]


def start(run, *overrides):
    return subprocess.Popen([KILN, "train", str(config), *options(run, *overrides)], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True)


def wait_for(run, reached):
    """Until reached(records of the log so far)."""
    deadline = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() or not reached(metrics(run)):
        require(time.monotonic() < deadline, f"the run in {run} does not get on")
        time.sleep(0.01)


def stop(process, number):
    process.send_signal(number)
    begin = time.monotonic()
    code = process.wait(60)
    require(code == INTERRUPTED, f"{number.name}: exit code {code}: {process.stderr.read()}")
    return time.monotonic() - begin


kiln("train", config, *options(folder / "whole"))
expected = loss_sequence(folder / "whole")

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
    run = folder / number.name
    process = start(run)
    wait_for(run, lambda records: len(records) > 7)
    stop(process, number)
    at = metrics(run)[-1]["step"]
    require((run / "checkpoints" / f"step_{at:08d}").exists(), f"{number.name}: no checkpoint of the last step, {at}")
    kiln("train", config, "--resume", *options(run))
    require(loss_sequence(run) == expected, f"{number.name}: the resumed run differs")

# What a kill left of a checkpoint goes, also where the run has all its steps.
left = run / "checkpoints" / ".tmp-step_00000003"
left.mkdir()
(left / "manifest.json").write_text("half")
require("nothing to do" in kiln("train", config, "--resume", *options(run)).stdout, "the run has all its steps")
require(not left.exists(), "what a kill left of a checkpoint stays for ever")

# A validation that would take minutes is left, made up for by the resumed run, and so is the sample behind it.
run, long = folder / "validating", ["validation.tokens=30000000", f"data.validation={folder}/shards/train_*.bin",
                                    "model.layers=6", "sampling.every=4", "train.steps=8", "validation.every=4"]
process = start(run, *long)
wait_for(run, lambda records: len(records) > 4)
seconds = stop(process, signal.SIGTERM)
require(seconds < 10, f"a run that validates took {seconds:.0f} s to stop")
require([r["step"] for r in metrics(run)] == [0, 1, 2, 3, 4], f"what was cut short must not be logged: {metrics(run)}")
short = ["validation.tokens=1000" if change.startswith("validation.tokens") else change for change in long]
kiln("train", config, "--resume", *options(run, *short))
kiln("train", config, *options(folder / "validated", *short))
require(loss_sequence(run) == loss_sequence(folder / "validated"), "validation and sample must be made up for")

# One process at a time.
run = folder / "shared"
process = start(run, "train.steps=100000")
wait_for(run, lambda records: len(records) > 3)
for arguments in (["--resume"], ["--overwrite"], []):
    second = kiln("train", config, *arguments, *options(run, "train.steps=100000"), check=False)
    require(second.returncode == 2 and f"process {process.pid} is training" in second.stderr, second.stderr)
stop(process, signal.SIGINT)
steps = [r["step"] for r in metrics(run) if "loss" in r]
require(steps == list(range(1, len(steps) + 1)), "a second process must not touch the log")

# Checkpoints that cannot be used: nothing is touched, nothing starts again.
run = folder / "whole"
log = (run / "metrics.jsonl").read_bytes()
for checkpoint in (run / "checkpoints").iterdir():
    (checkpoint / "manifest.json").write_text("{}")
refused = kiln("train", config, "--resume", *options(run), check=False)
require(refused.returncode == 3 and "can be used" in refused.stderr and "--overwrite" in refused.stderr, refused.stderr)
require((run / "metrics.jsonl").read_bytes() == log, "the log of a run that cannot be resumed stays")

# Other data under the same names.
run = folder / "SIGINT"
write_text(folder / "documents.jsonl", seed=2)
kiln("data", "prepare", "--overwrite", "--out", folder / "shards", folder / "documents.jsonl")
refused = kiln("train", config, "--resume", *options(run), check=False)
require(refused.returncode == 3 and "other data" in refused.stderr, refused.stderr)

remove(folder)
print("4 signals, a stop during validation, a second process, unusable checkpoints, other data")
