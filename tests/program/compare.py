"""kiln compare against the same numbers computed here from metrics.jsonl: three runs, one of them stopped and resumed."""

import csv
import json
import signal
import statistics
import subprocess
import time

from support import KILN, kiln, make_workplace, metrics, remove, require

USAGE, DATA = 2, 3
folder = make_workplace(validation={"every": 5})
config = folder / "config.json"


def options(name, *changes):
    return [part for change in (f"output.dir={folder}/{name}", *changes) for part in ("--set", change)]


shampoo = ["optimizer.name=kl-shampoo", "metrics.every=4"]
kiln("train", config, *options("adamw"))
kiln("train", config, *options("short", "train.steps=30", "train.tokens_per_step=512"))
process = subprocess.Popen([KILN, "train", str(config), *options("shampoo", *shampoo)], stdout=subprocess.DEVNULL)
deadline = time.monotonic() + 60
while process.poll() is None and (not (folder / "shampoo" / "metrics.jsonl").exists() or len(metrics(folder / "shampoo")) < 30):
    require(time.monotonic() < deadline, "the run does not get on")
    time.sleep(0.01)
process.send_signal(signal.SIGINT)
process.wait(60)
kiln("train", config, "--resume", *options("shampoo", *shampoo))

names = ("adamw", "shampoo", "short")
runs = [folder / name for name in names]
table = folder / "losses.csv"
found = json.loads(kiln("compare", *runs, "--json", "--csv", table, "--smooth", 7, "--rows", 100).stdout)
logs = []
for run in runs:
    steps, validations, seconds, tail = [], [], 0.0, 0.0
    for record in metrics(run):
        if record.get("metric", "").endswith("tail_report_seconds"):
            tail += 1000 * record["value"]  # part of the step that comes next, but not of the optimizer's work
        if "loss" in record:
            seconds += record["ms"] / 1000
            steps.append({**record, "seconds": seconds, "tail_ms": tail})
            tail = 0.0
        if "validation_loss" in record:
            validations.append({"step": record["step"], "loss": record["validation_loss"], "seconds": seconds,
                                "tokens": steps[-1]["tokens"]})
    logs.append((steps, validations))

for (steps, validations), run in zip(logs, found["runs"]):
    require(run["steps"] == len(steps) and abs(run["seconds"] - steps[-1]["seconds"]) < 1e-6, run)
    require(run["final"]["loss"] == validations[-1]["loss"], run["final"])
    require(run["best"]["loss"] == min(v["loss"] for v in validations), run["best"])
    require(abs(run["median_ms"] - statistics.median(s["ms"] for s in steps)) < 1e-9, run["median_ms"])
for (steps, _), run in zip(logs, found["runs"]):  # whatever optimizer; a run that was stopped and resumed, too
    tails = sum(s["tail_ms"] for s in steps)
    share = (sum(s["optimizer_ms"] for s in steps) - tails) / (sum(s["ms"] for s in steps) - tails)
    require(0 < share < 1 and abs(run["optimizer_share"] - share) < 1e-12, f"{run['optimizer_share']}, not {share}")
require(any(d.startswith("optimizer.name") for d in found["runs"][1]["differences"]), found["runs"][1])


def at(records, axis, place, ends):
    reached = [r for r in records if r[axis] <= place + 1e-9]
    return reached[-1]["loss"] if reached and place <= ends + 1e-9 else None


for key, axis in (("at_equal_steps", "step"), ("at_equal_tokens", "tokens"), ("at_equal_seconds", "seconds")):
    require(found[key], f"no rows {key}")
    for row in found[key]:
        for i, (steps, validations) in enumerate(logs):
            expected = at(validations, axis, row["at"], steps[-1][axis])
            require(row["validation_loss"][i] == expected, f"{key} {row['at']}: {row['validation_loss'][i]}, not {expected}")
            window = [s["loss"] for s in steps if s[axis] <= row["at"] + 1e-9][-7:]
            mean = statistics.mean(window) if window and row["at"] <= steps[-1][axis] + 1e-9 else None
            got = row["training_loss"][i]
            require((got is None) == (mean is None) and (mean is None or abs(got - mean) < 1e-9), f"{key} {row['at']}: {got}, not {mean}")

require(len(found["reach"]) == 6, "every run to every other's end")
for entry in found["reach"]:
    (_, goal), (_, validations) = logs["ABC".index(entry["target"])], logs["ABC".index(entry["run"])]
    first = next((v for v in validations if v["loss"] <= goal[-1]["loss"]), None)
    require(entry["reached"] == (first is not None), entry)
    if first:
        require(entry["at"]["step"] == first["step"], entry)
        require(abs(entry["step_ratio"] - first["step"] / goal[-1]["step"]) < 1e-12, entry)
        require(abs(entry["time_ratio"] - first["seconds"] / goal[-1]["seconds"]) < 1e-9, entry)

rows = list(csv.DictReader(open(table, encoding="utf-8")))
require([(r["run"], int(r["step"]), float(r["validation_loss"])) for r in rows] ==
        [(str(run), v["step"], v["loss"]) for run, (_, validations) in zip(runs, logs) for v in validations], rows)

# The text; a CSV file is replaced only when asked.
text = kiln("compare", *runs[:2]).stdout
for words in ("optimizer.name: \"adamw\" -> \"kl-shampoo\"", "at equal steps", "equal steps are equal tokens", "at equal time", "to A's final",
              "validation loss against steps", "mean of the last 50 steps"):
    require(words in text, f"compare lacks '{words}':\n{text}")
require("note:" not in text, f"two runs on the same data need no warning:\n{text}")
require("at equal tokens" in kiln("compare", runs[0], runs[2]).stdout, "512 tokens a step against 256")
refused = kiln("compare", *runs, "--csv", table, check=False)
require(refused.returncode == USAGE and "--overwrite" in refused.stderr, refused.stderr)
kiln("compare", *runs, "--csv", table, "--overwrite")

# What is not comparable, not whole, or not there.
kiln("data", "prepare", "--validation-fraction", "0.3", "--out", folder / "other", folder / "documents.jsonl")
kiln("train", config, *options("elsewhere", f"data.validation={folder}/other/validation_*.bin", "train.steps=5"))
text = kiln("compare", runs[0], folder / "elsewhere").stdout
require("validations read different tokens" in text and "not comparable" in text, text)
kiln("train", config, *options("blind", "data.validation=", "train.steps=5"))
with open(folder / "blind" / "metrics.jsonl", "a", encoding="utf-8") as file:
    file.write('{"step":6,"lo')
text = kiln("compare", runs[0], folder / "blind").stdout
require("has no validation" in text and "cut off" in text, text)
for path in (folder / "nowhere", folder / "shards"):
    refused = kiln("compare", runs[0], path, check=False)
    require(refused.returncode == DATA and "metrics.jsonl" in refused.stderr, refused.stderr)
require(kiln("compare", runs[0], check=False).returncode == USAGE, "one run is nothing to compare")

remove(folder)
print("compare: losses at equal steps, tokens and time, reach, CSV, warnings")
