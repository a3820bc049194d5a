"""A disk that is full or broken, at every single file operation of a short run in turn and for a while: the run goes on or
ends with the documented code and a message, and what it leaves resumes to bitwise the losses of an undisturbed run.
Usage: disk_faults.py [STRIDE]: every STRIDE-th operation only"""

import sys

from support import kiln, loss_sequence, make_workplace, preload, remove, require

DATA_ERROR = 3
stride = int(sys.argv[1]) if len(sys.argv) > 1 else 1
folder = make_workplace(model={"layers": 1, "width": 16}, train={"steps": 12}, checkpoint={"every": 4, "keep": 2},
                        validation={"every": 6})
config = folder / "config.json"


def train(run, *arguments, **fault):
    environment = preload("file_fault") | {k.upper(): str(v) for k, v in fault.items()}
    return kiln("train", config, "--set", f"output.dir={run}", *arguments, check=False, env=environment if fault else None)


require(train(folder / "whole").returncode == 0, "the undisturbed run")
expected = loss_sequence(folder / "whole")

outcomes = {"went on": 0, "ended cleanly": 0}
for error, count in (("ENOSPC", 1), ("EIO", 1), ("ENOSPC", 25)):
    at = 1
    while True:
        run = folder / "run"
        result = train(run, fault=error, fault_at=at, fault_count=count, fault_below="/run/")
        place = f"{error} in operations {at} to {at + count - 1}"
        require(result.returncode in (0, DATA_ERROR), f"{place}: exit code {result.returncode}\n{result.stderr}")
        reached = result.returncode != 0 or "cannot" in result.stderr
        outcomes["went on" if result.returncode == 0 else "ended cleanly"] += reached
        if result.returncode:
            require("hint" in result.stderr, f"{place}: no advice\n{result.stderr}")
            resumed = train(run, "--resume")
            require(resumed.returncode == 0, f"{place}: cannot resume\n{resumed.stderr}")
            require("broken" not in resumed.stderr, f"{place}: a broken checkpoint counted\n{resumed.stderr}")
        require(loss_sequence(run) == expected, f"{place}: other losses, or lost lines")
        remove(run)
        if not reached:
            break  # the run has fewer operations than that
        at += stride

require(min(outcomes.values()) > 0, f"both outcomes must occur: {outcomes}")
remove(folder)
print(f"{sum(outcomes.values())} faults: {outcomes}")
