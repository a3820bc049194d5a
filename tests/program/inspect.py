"""kiln inspect: what a run folder and a checkpoint hold, told while the run trains, after it, and when files are damaged."""

import json
import pathlib
import shutil
import signal
import subprocess
import time

from support import KILN, kiln, make_workplace, metrics, remove, require

DATA = 3
folder = make_workplace(sampling={"every": 30, "tokens": 8})
config = folder / "config.json"
run = folder / "run"


def inspect(*arguments, code=0):
    result = kiln("inspect", *arguments, check=False)
    require(result.returncode == code, f"inspect {arguments}: exit code {result.returncode}, not {code}\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr


def facts(*arguments, code=0):
    return json.loads(inspect("--json", *arguments, code=code))


# While a process trains there, and after it has stopped.
long = ["--set", "train.steps=1000000", "--set", f"output.dir={folder}/long"]
process = subprocess.Popen([KILN, "train", str(config), *long], stdout=subprocess.DEVNULL)
deadline = time.monotonic() + 60
while not (folder / "long" / "metrics.jsonl").exists() or len(metrics(folder / "long")) < 30:
    require(time.monotonic() < deadline, "the run does not get on")
    time.sleep(0.05)
for _ in range(5):  # the run prunes and writes checkpoints meanwhile
    text = inspect(folder / "long")
    require(f"process {process.pid} is training here" in text and "of 1000000" in text, text)
process.send_signal(signal.SIGINT)
process.wait(60)
require("no process is training here" in inspect(folder / "long"), "a process that has ended trains no more")

# A whole run, against its own log.
kiln("train", config)
log = metrics(run)
steps = [r for r in log if "loss" in r]
validations = [r for r in log if "validation_loss" in r]
found = facts("--verify", run)
require(found["step"] == 60 and found["tokens"] == steps[-1]["tokens"] and found["loss"] == steps[-1]["loss"], found)
require(abs(found["seconds"] - sum(r["ms"] for r in steps) / 1000) < 1e-6, f"{found['seconds']} s")
require(found["validation"]["loss"] == validations[-1]["validation_loss"], found["validation"])
require(found["best_validation"]["loss"] == min(r["validation_loss"] for r in validations), found["best_validation"])
require(found["config"] == json.loads((run / "config.json").read_text()), "the resolved config")
require([c["step"] for c in found["checkpoints"]] == [60, 55] and all(c["intact"] for c in found["checkpoints"]), found["checkpoints"])
plan = kiln("plan", config).stdout
require(f"parameters: {found['parameters']}\n" in plan, f"{found['parameters']} parameters, but {plan}")
text = inspect(run)
for words in ("step 60 of 60 (100.0 %)", "adamw", "tokens/s", "intact by manifest and sizes", "2 layers", "shards/train_*.bin"):
    require(words in text, f"inspect lacks '{words}':\n{text}")
require("every byte checked" in inspect("--verify", run), "--verify says what it did")

# A checkpoint.
checkpoint = run / "checkpoints" / "step_00000060"
found = facts("--verify", "--stats", checkpoint)
require(found["step"] == 60 and found["samples"] == 480 and found["problems"] == [], found)
parameters = sum(1 for _ in found["parameters"])
elements = 0
for tensor in found["parameters"]:
    size = 1
    for side in tensor["shape"]:
        size *= side
    elements += size
    require(tensor["non_finite"] == 0 and 0 <= tensor["rms"] <= tensor["abs_max"] < 100, tensor)
require(f"parameters: {elements}\n" in plan, f"{elements} elements")
require({k["name"]: k["elements"] for k in found["optimizer_kinds"]} == {"m": elements, "v": elements}, found["optimizer_kinds"])
text = inspect("--stats", checkpoint)
for words in ("h.1.attn.qkv.weight", "96 x 32", "F32", "rms", "xxh3", "optimizer state", "--verify compares"):
    require(words in text, f"inspect lacks '{words}':\n{text}")

# Nothing has changed on disk.
before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
inspect("--verify", run)
require(before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}, "inspect writes nothing")

# Damage: words and exit code 3; the rest is told all the same.
def damaged(change):
    copy = folder / "damaged"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    change(copy)
    return copy


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


newest = pathlib.Path("checkpoints") / "step_00000060"
copy = damaged(lambda c: flip(c / newest / "model.safetensors", -5))
require("intact" in inspect(copy), "a flipped bit is found by reading all only")
text = inspect("--verify", copy, code=DATA)
require("damaged: the checkpoint of step 60" in text and "its checksum is" in text and "step       55" in text, text)
text = inspect("--verify", copy / newest, code=DATA)
require("the file is damaged" in text and "wte.weight" in text, text)

copy = damaged(lambda c: (c / newest / "optimizer.safetensors").unlink())
require("No such file" in inspect(copy, code=DATA), "a missing file is named")
require("wte.weight" in inspect(copy / newest, code=DATA), "what is there is told")

copy = damaged(lambda c: (c / newest / "manifest.json").write_text("{"))
require("is not a JSON object" in inspect(copy, code=DATA), "a broken manifest is named")
require("hint:" in inspect(copy / newest, code=DATA), "with a hint")

def tear(c):
    with open(c / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step":61,"lo')


require("has no end" in inspect(damaged(tear)), "a torn last line is no damage")
copy = damaged(lambda c: (c / "metrics.jsonl").write_text("rubbish\n" + (c / "metrics.jsonl").read_text()))
require("the first is line 1" in inspect(copy, code=DATA), "a broken line is")
copy = damaged(lambda c: (c / "config.json").write_text('{"model": 3}'))
require("config.json:1:11" in inspect(copy, code=DATA), "a broken config is")

require("neither a run nor a checkpoint" in inspect(folder / "shards", code=DATA), "a folder of something else")
require("not there" in inspect(folder / "nowhere", code=DATA), "no folder")

remove(folder)
print("inspect: a run that trains, a run, a checkpoint, eight kinds of damage")
