"""Kills a run many times, at random moments and inside the checkpoint write, resumes each time, and compares the whole
log with that of a run that was never stopped, bit for bit.  Usage: kill_resume.py [KILLS] [SEED]"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from support import KILN, kiln, loss_sequence, make_workplace, preload, remove, require

kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
rng = random.Random(seed)

# A checkpoint every 4 steps, so that many kills hit its write. A run that ends before all kills are spent is compared,
# and the next one starts.
STEPS = 400
folder = make_workplace(train={"steps": STEPS}, checkpoint={"every": 4, "keep": 2}, validation={"every": 25},
                        sampling={"every": 100, "tokens": 8})
config = folder / "config.json"


def seconds_of(*arguments):
    started = time.monotonic()
    kiln("train", config, *arguments)
    return time.monotonic() - started


start_seconds = seconds_of("--set", f"output.dir={folder}/start", "--set", "train.steps=5")
step_seconds = (seconds_of("--set", f"output.dir={folder}/whole") - start_seconds) / STEPS
expected = loss_sequence(folder / "whole")
spent = {"at a random time": 0, "inside the checkpoint write": 0}
half_written = 0


def run_and_kill(run):
    """Starts or resumes the run and kills it; True if it reached its end before the kill came."""
    global half_written
    environment = dict(os.environ)
    kind = rng.choice(list(spent))
    if kind == "inside the checkpoint write":
        # Dies inside the n-th file operation (open for writing, write, fsync, rename, mkdir, unlink) below checkpoints/.
        environment |= preload("file_fault") | {"FAULT": "kill", "FAULT_AT": str(rng.randint(1, 90)),
                                                "FAULT_BELOW": "checkpoints"}
    process = subprocess.Popen([KILN, "train", str(config), "--resume", "--set", f"output.dir={run}"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    if kind == "at a random time":
        time.sleep(rng.uniform(0.5 * start_seconds, start_seconds + 40 * step_seconds))
        process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1].decode(errors="replace")
    if process.returncode == 0:
        return True
    require(process.returncode == -signal.SIGKILL, f"kiln failed by itself with {process.returncode}: {errors}")
    spent[kind] += 1
    checkpoints = run / "checkpoints"
    half_written += checkpoints.exists() and any(p.name.startswith(".") for p in checkpoints.iterdir())
    return False


runs = 0
while sum(spent.values()) < kills:
    run = folder / f"killed{runs}"
    runs += 1
    ended = False
    while not ended and sum(spent.values()) < kills:
        ended = run_and_kill(run)
    if not ended:
        kiln("train", config, "--resume", "--set", f"output.dir={run}")
    found = loss_sequence(run)
    require(found == expected, f"the log of a killed run differs ({len(found)} lines against {len(expected)}), seed {seed}: see {run}")
    require(not [p for p in (run / "checkpoints").iterdir() if p.name.startswith(".")], f"temporary checkpoints left in {run}")

remove(folder)
print(f"{', '.join(f'{count} kills {kind}' for kind, count in spent.items())} ({half_written} left a half-written one), "
      f"{runs} runs: bitwise the uninterrupted one")
