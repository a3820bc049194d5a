"""kiln sweep: successive halving by the final validation loss, a stopped or killed sweep that goes on, runs that go on from
shorter ones, runs that diverge, refusals. The expected winner is found here by reading the runs' own logs."""

import json
import os
import shutil
import signal
import subprocess
import time

from support import KILN, kiln, loss_sequence, make_workplace, metrics, remove, require

folder = make_workplace(train={"steps": 30}, checkpoint={"every": 10}, validation={"every": 0, "tokens": 1024})
config = folder / "config.json"
spec = {
    "output": f"{folder}/sweep",
    "arms": [
        {"name": "adamw", "config": str(config), "grid": {"optimizer.lr": [0.0001, 0.003, 0.01]}},
        {"name": "muon", "config": str(config), "set": {"optimizer.name": "muon"}, "grid": {"optimizer.lr": [0.02]}},
    ],
    "rungs": [{"steps": 10, "keep": 2}, {"steps": 20}],
    "final": {"seeds": [1, 2]},
}
path = folder / "spec.json"


def save(**changes):
    path.write_text(json.dumps({**spec, **changes}))


def final_loss(run):
    return [record["validation_loss"] for record in metrics(run) if "validation_loss" in record][-1]


def training_losses(run):
    return [(record["step"], record["loss"]) for record in loss_sequence(run) if "loss" in record]


def started():
    """The sweep, running."""
    return subprocess.Popen([KILN, "sweep", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def child_of(process):
    try:
        children = open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii").read().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def times(root):
    return {str(file): file.stat().st_mtime_ns for file in root.rglob("metrics.jsonl")}


try:
    save()
    dry = kiln("sweep", path, "--dry-run").stdout
    require("adamw, rung 1: 3 runs of 10 steps, 2 stay" in dry and "adamw, rung 2: 2 runs of 20 steps, 1 stay" in dry, dry)
    require("rung 2: 2 runs of 20 steps, 1 stay; each trains from the beginning again, because the cosine schedule over 20 steps "
            "has another learning rate at step 7 than over 10 steps" in dry, dry)
    require(f"{3 + 2 + 2 + 1 + 1 + 2} runs" in dry, dry)
    require(not (folder / "sweep").exists(), "a dry run wrote something")

    # Stopped in the middle of a run, then gone on with.
    process = started()
    deadline = time.monotonic() + 60
    while not (folder / "sweep/adamw/rung1/lr=0.003/metrics.jsonl").exists():
        require(time.monotonic() < deadline, "the sweep does not get on")
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    code = process.wait(60)
    require(code == 5, f"a stopped sweep exits with {code}: {process.stderr.read()}")
    shown = json.loads(kiln("sweep", path, "--show", "--json").stdout)["arms"][0]
    require(len(shown["rungs"][0]) == 3 and shown["rungs"][1] == [] and shown["final"] == [], f"--show: {shown}")
    require([row.get("state") for row in shown["rungs"][0]] == [None, "not run", "not run"], f"--show: {shown}")
    before = times(folder / "sweep/adamw/rung1/lr=0.0001")
    result = kiln("sweep", path)
    out, progress = result.stdout, result.stderr
    require("[11/11] muon, final, lr=0.02, seed 2: validation loss" in progress and "ETA" in progress, progress)
    require("[2/11] adamw, rung 1, lr=0.003: step 0/10" in progress, progress)
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
    require("\nadamw  lr=" in out and "\nmuon   lr=0.02" in out, out)
    require((folder / "sweep/results.txt").read_text() == out, "results.txt")
    require(kiln("sweep", path, "--show", "--markdown").stdout == (folder / "sweep/results.md").read_text(), "results.md")
    require(kiln("sweep", path, "--show", "--json").stdout == (folder / "sweep/results.json").read_text(), "results.json")
    mean = sum(row["validation_loss"] for row in adamw["final"]) / 2
    require(abs(adamw["validation_loss"]["mean"] - mean) < 1e-12 and adamw["validation_loss"]["sd"] > 0, str(adamw))
    everything = times(folder / "sweep")
    kiln("sweep", path)
    require(times(folder / "sweep") == everything, "a finished sweep trained again")

    log = (folder / "sweep/adamw/rung1/lr=0.0001.log").read_text()
    require("no checkpoint in" not in log and "warning" not in log, f"a new run begins with a warning: {log}")

    # A run is done only with its last checkpoint, whatever it has validated.
    (folder / "sweep/muon/rung2/lr=0.02/checkpoints/step_00000020/manifest.json").unlink()
    shown = json.loads(kiln("sweep", path, "--show", "--json").stdout)["arms"][1]
    require(shown["rungs"][1][0].get("state") == "not run", f"--show: {shown}")
    kiln("sweep", path)
    require((folder / "sweep/muon/rung2/lr=0.02/checkpoints/step_00000020/manifest.json").exists(), "it was not repaired")
    require(json.loads((folder / "sweep/results.json").read_text())["arms"][0] == results["arms"][0], "another result")

    # Other settings in the same folder are refused before anything runs, by a dry run too.
    def refuses(words, code=2):
        for mode in ([], ["--dry-run"]):
            refused = kiln("sweep", path, *mode, check=False)
            require(refused.returncode == code and words in refused.stderr, f"{mode}: {refused.returncode}: {refused.stderr}")

    save(final={"set": {"train.clip": 0.5}, "seeds": [1, 2]})
    refuses("train.clip: 1.0 -> 0.5")
    save(set={"validation.tokens": 512})
    refuses("validation.tokens: 1024 -> 512")
    save(output=f"{folder}/mixed", arms=[*spec["arms"], {"name": "c", "config": str(config), "set": {"validation.tokens": 512}}])
    refuses('validation.tokens is 1024 in the run "adamw, rung 1, lr=0.0001" and 512 in the run "c, rung 1, default"')
    save()
    damaged = folder / "sweep/muon/rung1/lr=0.02/config.json"
    whole = damaged.read_text()
    damaged.write_text(whole[:40])
    refuses(f"{damaged}: the config is damaged", code=3)
    damaged.write_text(whole)
    (folder / "file").write_text("")
    save(output=f"{folder}/file/sweep")
    refused = kiln("sweep", path, check=False)
    require(refused.returncode == 3 and f"cannot create {folder}/file/sweep" in refused.stderr, refused.stderr)

    # Whoever watched it may go away.
    save(output=f"{folder}/unwatched", rungs=[{"steps": 8}], final={"steps": 8, "seeds": [1]})
    reader, writer = os.pipe()
    os.close(reader)
    unwatched = subprocess.run([KILN, "sweep", str(path)], stdout=subprocess.DEVNULL, stderr=writer, timeout=300)
    os.close(writer)
    require(unwatched.returncode == 0, f"a sweep with a closed stderr exits with {unwatched.returncode}")
    require(all(arm["final"] for arm in json.loads((folder / "unwatched/results.json").read_text())["arms"]), "it is not complete")
    save(arms=[{"name": "adamw", "config": str(config), "grid": {"optimizer.lrr": [1]}}])
    refuses(f"{path}: arms[0].grid: optimizer.lrr=1: ")

    # A run that diverges loses, and is not tried again.
    wild = {"train.max_skipped": 3, "train.clip": 0, "optimizer.eps": 1e-30, "optimizer.wd": 10, "schedule.kind": "constant",
            "schedule.warmup": 0}
    save(output=f"{folder}/wild", rungs=[{"steps": 100}], final={"steps": 5, "seeds": [1]},
         arms=[{"name": "a", "config": str(config), "set": wild, "grid": {"optimizer.lr": [10, 0.003]}}])
    kiln("sweep", path)
    results = json.loads((folder / "wild/results.json").read_text())["arms"][0]
    require(results["rungs"][0][0]["state"] == "diverged" and results["chosen"] == {"optimizer.lr": 0.003}, str(results))
    everything = times(folder / "wild")
    kiln("sweep", path)
    require(times(folder / "wild") == everything, "a diverged run was trained again")
    # Killed (the sweep alone, or first the run that it watches) again and again, it ends with the runs of one that was not.
    # With a constant learning rate rungs go on from checkpoints: their losses are those of a run from the beginning.
    constant = {"schedule.kind": "constant", "checkpoint.every": 3}
    save(output=f"{folder}/killed", set=constant, arms=spec["arms"][:1], final={"steps": 40, "seeds": [42, 5]})
    dry = kiln("sweep", path, "--dry-run").stdout
    require("rung 2: 2 runs of 20 steps, 1 stay; each goes on from step 10 of the rung before" in dry, dry)
    kills = 0
    for wait in range(100):
        process = started()
        deadline = time.monotonic() + 0.3 + 0.2 * wait
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is not None:
            break
        child = child_of(process)
        if child and wait % 2:
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()
        kills += 1
    error = process.stderr.read()
    require(process.returncode == 0 and kills >= 3, f"{kills} kills, exit code {process.returncode}: {error}")
    killed = json.loads((folder / "killed/results.json").read_text())["arms"][0]
    require([row["from_step"] for row in killed["rungs"][1]] == [10, 10], str(killed))
    require([row["from_step"] for row in killed["final"]] == [20, 0], str(killed))
    chosen = killed["chosen"]["optimizer.lr"]
    for seed in (42, 5):
        whole = [part for key, value in {**constant, "train.steps": 40, "optimizer.lr": chosen, "train.seed": seed,
                                         "output.dir": f"{folder}/whole{seed}"}.items() for part in ("--set", f"{key}={value}")]
        kiln("train", config, *whole)
        run = folder / f"killed/adamw/final/lr={chosen},seed={seed}"
        require(training_losses(run) == training_losses(folder / f"whole{seed}"), f"the losses of seed {seed}")
        require(final_loss(run) == final_loss(folder / f"whole{seed}"), f"the final loss of seed {seed}")
    # Where there is nothing to copy, a run begins at the beginning, and the table says so.
    shutil.copytree(folder / "killed", folder / "lost")
    shutil.rmtree(folder / "lost/adamw/rung2")
    for step in list((folder / "lost/adamw/rung1").glob("*/checkpoints/step_00000010")):  # its sizes right, its content not
        content = bytearray((step / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (step / "model.safetensors").unlink()
        (step / "model.safetensors").write_bytes(content)
        for older in step.parent.iterdir():
            if older != step:
                shutil.rmtree(older)
    for file in (folder / "lost").rglob("*.json"):
        file.write_text(file.read_text().replace(f"{folder}/killed", f"{folder}/lost"))
    for file in (folder / "lost/adamw/rung1").glob("*/checkpoints/*/manifest.json"):
        shutil.copy(str(file).replace("/lost/", "/killed/"), file)
    save(output=f"{folder}/lost", set=constant, arms=spec["arms"][:1])
    again = kiln("sweep", path)
    require("trains from the beginning again, because" in again.stderr and "has no checkpoint that can be used" in again.stderr,
            again.stderr)
    require("goes on from step 10" not in again.stderr, again.stderr)
    lost = json.loads((folder / "lost/results.json").read_text())["arms"][0]
    require([row["from_step"] for row in lost["rungs"][1]] == [0, 0], str(lost))

    save(output=f"{folder}/killed", set=constant, arms=spec["arms"][:1], final={"steps": 40, "seeds": [42, 5]})
    everything = times(folder / "killed")
    shutil.rmtree(folder / "killed/adamw/rung2")  # what is missing is made again, from the rung before
    again = kiln("sweep", path)
    require("goes on from step 10 of the rung before" in again.stderr, again.stderr)
    require(json.loads((folder / "killed/results.json").read_text())["arms"][0]["chosen"] == killed["chosen"], "chosen again")
    kept = {file: at for file, at in everything.items() if "/rung2/" not in file}
    require(kept.items() <= times(folder / "killed").items(), "finished runs were trained again")

    # What resuming says: runs beside a mistyped folder, also with a slash, and which of two lengths was the longer one.
    mistyped = kiln("train", config, "--resume", "--set", f"output.dir={folder}/killed/adamw/rung1/new/", "--set", "train.steps=6")
    require("(beside it, runs are in lr=" in mistyped.stderr, mistyped.stderr)
    run = folder / f"killed/adamw/final/lr={chosen},seed=42"
    shutil.rmtree(run / "checkpoints/step_00000040")
    cut = kiln("train", run / "config.json", "--resume", "--set", "train.steps=39")
    require("up to step 39 it is the same as the longer one was" in cut.stderr, cut.stderr)
    print(f"sweep: halving, {kills} kills, runs that go on, diverged ones, refusals")
finally:
    remove(folder)
