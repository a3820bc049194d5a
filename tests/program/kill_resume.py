"""Kills a run many times, at random moments and inside the checkpoint write, resumes each time, and compares the whole
log with that of a run that was never stopped, bit for bit.  Usage: kill_resume.py [KILLS] [SEED]"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from support import BUILD, KILN, kiln, loss_sequence, make_workplace, remove, require

kills = int(sys.argv[1]) if len(sys.argv) > 1 else 20
seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
rng = random.Random(seed)

# A kill comes some 12 steps after the start on average, so the kills fall inside the run; a checkpoint every 4 steps, so
# that many of them hit its write.
steps = 40 + 25 * kills
folder = make_workplace(train={"steps": steps}, checkpoint={"every": 4, "keep": 2}, validation={"every": 25},
                        sampling={"every": 100, "tokens": 8})
config = folder / "config.json"


def seconds_of(*arguments):
    started = time.monotonic()
    kiln("train", config, *arguments)
    return time.monotonic() - started


start_seconds = seconds_of("--set", f"output.dir={folder}/start", "--set", "train.steps=5")
step_seconds = (seconds_of("--set", f"output.dir={folder}/whole") - start_seconds) / steps

run = folder / "killed"
command = [KILN, "train", str(config), "--resume", "--set", f"output.dir={run}"]
interposer = f"{BUILD}/tests/libkill_at_file_call.so"
killed_at_random = killed_in_write = left_temporary = 0
while killed_at_random + killed_in_write < kills:
    environment = dict(os.environ)
    in_write = rng.random() < 0.5
    if in_write:
        # Dies inside the n-th file operation (open for writing, write, fsync, rename, unlink) below checkpoints/.
        environment |= {"LD_PRELOAD": interposer, "KILL_AT_FILE_CALL": str(rng.randint(1, 90)), "KILL_BELOW": "checkpoints"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    if not in_write:
        time.sleep(rng.uniform(0.5 * start_seconds, start_seconds + 25 * step_seconds))
        process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1].decode(errors="replace")
    if process.returncode == 0:
        break  # the run was done before the kill came
    require(process.returncode == -signal.SIGKILL, f"kiln failed by itself with {process.returncode}: {errors}")
    killed_in_write += in_write
    killed_at_random += not in_write
    left_temporary += any(p.name.startswith(".") for p in pathlib.Path(run, "checkpoints").glob("*")) if run.exists() else 0

require(killed_at_random + killed_in_write == kills, f"the run ended after only {killed_at_random + killed_in_write} kills")
kiln("train", config, "--resume", "--set", f"output.dir={run}")
expected, found = loss_sequence(folder / "whole"), loss_sequence(run)
require(found == expected, f"the log of the killed run differs ({len(found)} lines against {len(expected)}), seed {seed}; see {folder}")
require(not [p for p in (run / "checkpoints").iterdir() if p.name.startswith(".")], "temporary checkpoints were left behind")
remove(folder)
print(f"{killed_at_random} kills at random times, {killed_in_write} inside the checkpoint write "
      f"({left_temporary} left a half-written one): bitwise the uninterrupted run")
