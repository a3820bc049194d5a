"""Memory that train.recompute saves is memory that the process does not take: the largest resident size of a run with it and
of one without differ by what their plans differ by, and their losses not at all."""

import os
import pathlib
import re
import subprocess

from support import KILN, kiln, loss_sequence, make_workplace, remove, require

# Sequences that make activations the larger part of the plan; the corpus' vocabulary is not needed for that.
folder = make_workplace(model={"family": "llama", "layers": 8, "width": 128, "heads": 4, "kv_heads": 4, "ffn": 352, "context": 256},
                        train={"steps": 3, "micro_batch": 16, "sequence": 256, "tokens_per_step": 4096}, schedule={"warmup": 1},
                        validation={"every": 0}, checkpoint={"every": 0})
config = folder / "config.json"


def measure(recompute):
    """Planned and resident bytes, and the losses."""
    overrides = [part for change in [f"train.recompute={recompute}", f"output.dir={folder}/{recompute}"] for part in ("--set", change)]
    planned = int(re.search(r"total bytes: (\d+)", kiln("plan", config, *overrides).stdout).group(1))
    process = subprocess.Popen([KILN, "train", str(config), *overrides], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    require(os.waitstatus_to_exitcode(status) == 0, f"train.recompute={recompute} failed")
    return planned, usage.ru_maxrss * 1024, loss_sequence(pathlib.Path(folder) / recompute)


planned_all, resident_all, losses_all = measure("none")
planned_less, resident_less, losses_less = measure("block")
require(losses_all == losses_less, "recomputation changes the losses")
planned, resident = planned_all - planned_less, resident_all - resident_less
# Pages that the two processes' libraries happen to touch.
require(abs(planned - resident) < 8 << 20, f"the plan is smaller by {planned} bytes, the process by {resident}")
require(planned > planned_all // 2, f"of {planned_all} bytes recomputation saves only {planned}")
remove(folder)
print(f"planned {planned_all / 2**20:.1f} MiB and with recomputation {planned_less / 2**20:.1f} MiB; "
      f"resident {resident_all / 2**20:.1f} and {resident_less / 2**20:.1f} MiB")
