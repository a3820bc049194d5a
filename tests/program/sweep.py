"""kiln sweep: successive halving by the final validation loss, a stopped sweep that goes on, runs that diverge, refusals.
The expected winner is found here by reading the runs' own logs."""

import json
import signal
import subprocess
import time

from support import KILN, kiln, make_workplace, metrics, remove, require

folder = make_workplace(train={"steps": 30}, checkpoint={"every": 10}, validation={"every": 0, "tokens": 1024})
config = folder / "config.json"
spec = {
    "output": f"{folder}/sweep",
    "arms": [
        {"name": "adamw", "config": str(config), "grid": {"optimizer.lr": [0.0001, 0.003, 0.01]}},
        {"name": "muon", "config": str(config), "set": {"optimizer.name": "muon"}, "grid": {"optimizer.lr": [0.02]}},
    ],
    "rungs": [{"set": {"train.steps": 10}, "keep": 2}, {"set": {"train.steps": 20}}],
    "final": {"seeds": [1, 2]},
}
path = folder / "spec.json"


def save(**changes):
    path.write_text(json.dumps({**spec, **changes}))


def final_loss(run):
    return [record["validation_loss"] for record in metrics(run) if "validation_loss" in record][-1]


def times(root):
    return {str(file): file.stat().st_mtime_ns for file in root.rglob("metrics.jsonl")}


try:
    save()
    dry = kiln("sweep", path, "--dry-run").stdout
    require("adamw, rung 1: 3 runs of 10 steps, 2 stay" in dry and "adamw, rung 2: 2 runs of 20 steps, 1 stay" in dry, dry)
    require("12 runs" not in dry and f"{3 + 2 + 2 + 1 + 1 + 2} runs" in dry, dry)
    require(not (folder / "sweep").exists(), "a dry run wrote something")

    # Stopped in the middle of a run, then gone on with.
    process = subprocess.Popen([KILN, "sweep", str(path)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / "sweep/adamw/rung1/lr=0.003/metrics.jsonl").exists():
        require(time.monotonic() < deadline, "the sweep does not get on")
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    code = process.wait(60)
    require(code == 5, f"a stopped sweep exits with {code}: {process.stdout.read()}")
    before = times(folder / "sweep/adamw/rung1/lr=0.0001")
    out = kiln("sweep", path).stdout
    require(times(folder / "sweep/adamw/rung1/lr=0.0001") == before, "a finished run was trained again")

    results = json.loads((folder / "sweep/results.json").read_text())
    adamw, muon = results["arms"]
    rung1 = {row["set"]["optimizer.lr"]: row for row in adamw["rungs"][0]}
    for lr, row in rung1.items():
        require(row["validation_loss"] == final_loss(folder / f"sweep/adamw/rung1/lr={lr}"), f"the loss of lr={lr}")
    losses = sorted((row["validation_loss"], lr) for lr, row in rung1.items())
    require({lr for lr, row in rung1.items() if row["kept"]} == {lr for _, lr in losses[:2]}, "the wrong candidates stay")
    rung2 = sorted((final_loss(folder / f"sweep/adamw/rung2/lr={lr}"), lr) for _, lr in losses[:2])
    require(adamw["chosen"] == {"optimizer.lr": rung2[0][1]}, f"chosen: {adamw['chosen']}, rung 2: {rung2}")
    require([row["seed"] for row in adamw["final"]] == [1, 2] and [row["seed"] for row in muon["final"]] == [1, 2], "seeds")
    require(adamw["final"][0]["validation_loss"] != adamw["final"][1]["validation_loss"], "seeds change nothing")
    for row in adamw["final"]:
        run = folder / f"sweep/adamw/final/lr={rung2[0][1]},seed={row['seed']}"
        require(row["validation_loss"] == final_loss(run), f"the final loss of seed {row['seed']}")
        require(metrics(run)[-2]["step"] == 30, "the final runs' steps are the config's")
    require("| adamw |" in out and "| muon |" in out, out)
    everything = times(folder / "sweep")
    kiln("sweep", path)
    require(times(folder / "sweep") == everything, "a finished sweep trained again")

    # Other settings in the same folder are refused before anything runs.
    save(final={"set": {"train.clip": 0.5}, "seeds": [1, 2]})
    refused = kiln("sweep", path, check=False)
    require(refused.returncode == 2 and "train.clip: 1.0 -> 0.5" in refused.stderr, refused.stderr)
    save(arms=[{"name": "adamw", "config": str(config), "grid": {"optimizer.lrr": [1]}}])
    refused = kiln("sweep", path, check=False)
    require(refused.returncode == 2 and "optimizer.lr" in refused.stderr, refused.stderr)

    # A run that diverges loses, and is not tried again.
    save(output=f"{folder}/wild", arms=[{"name": "a", "config": str(config), "set": {"train.max_skipped": 3, "train.clip": 0},
                                         "grid": {"optimizer.lr": [1e30, 0.003]}}], rungs=[{}], final={"seeds": [1]})
    kiln("sweep", path)
    results = json.loads((folder / "wild/results.json").read_text())["arms"][0]
    require(results["rungs"][0][0]["state"] == "diverged" and results["chosen"] == {"optimizer.lr": 0.003}, str(results))
finally:
    remove(folder)
