"""scripts/demo --all on a few steps: four runs under one budget, one table, whose numbers are recomputed here from logs and
checkpoints; a second call trains nothing, an interrupted one goes on."""

import os
import pathlib
import signal
import statistics
import struct
import subprocess
import json
import time

from support import KILN, make_workplace, metrics, remove, require

SOURCE = pathlib.Path(os.environ.get("KILN_SOURCE", "."))
STEPS = 4
folder = make_workplace(vocab=400)
data = folder / "shards"
(folder / "tokenizer.json").rename(data / "tokenizer.json")
out = folder / "runs"
command = [SOURCE / "scripts/demo", "--all", "--steps", str(STEPS), "--data", data, "--out", out, "--kiln", os.path.abspath(KILN)]


def demo():
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    require(result.returncode == 0, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def state_bytes(run):
    path = run / f"checkpoints/step_{STEPS:08}/optimizer.safetensors"
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    return sum(entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__")


def logs():
    return {path: path.read_bytes() for path in sorted(out.rglob("metrics.jsonl"))}


try:
    # Ctrl-C in the middle of the second run.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 100
    while not (out / "muon/metrics.jsonl").exists():
        require(time.monotonic() < deadline and process.poll() is None, "the second run does not begin")
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    first = (out / "adamw/metrics.jsonl").read_bytes()
    text = demo()
    require((out / "adamw/metrics.jsonl").read_bytes() == first, "a finished run was trained again")
    table = (out / "table.txt").read_text()
    require(table in text, text)
    rows = {line.split()[0]: line for line in table.splitlines()[1:5]}
    require(list(rows) == ["adamw", "muon", "kl-shampoo", "pro-kl-shampoo"], table)
    for name, line in rows.items():
        run = out / ("pro-kl-shampoo-r32" if name == "pro-kl-shampoo" else name)
        records = metrics(run)
        steps = [record for record in records if "loss" in record]
        require([record["step"] for record in steps] == list(range(1, STEPS + 1)), f"{name}: steps")
        loss = [record["validation_loss"] for record in records if "validation_loss" in record][-1]
        spectra = sum(1000 * record["value"] for record in records if record.get("metric", "").endswith("tail_report_seconds"))
        share = (sum(s["optimizer_ms"] for s in steps) - spectra) / (sum(s["ms"] for s in steps) - spectra)
        ms = statistics.median(s["ms"] for s in steps)
        words = line.split()
        require(words[1] == ("32" if name == "pro-kl-shampoo" else "-"), line)
        require(words[2] == f"{loss:.4f}" and words[7] == f"{ms:.1f}" and words[8] == f"{100 * share:.1f}", f"{line}: {loss} {ms} {share}")
        mebibytes = state_bytes(run) / 2**20
        require(words[5] == f"{mebibytes:.2f}", f"{line}: {mebibytes}")
        # Each buffer of the plan is rounded up to 128 bytes: a few KiB in all.
        require(words[4] == "MiB" and abs(float(words[3]) - mebibytes) < 0.05, line)
    before = logs()
    require(demo().endswith(text[text.index(table):]) and logs() == before, "a second call must train nothing")
    for bad in (["--steps", "0"], ["--steps"], ["--stepz"]):
        result = subprocess.run([*command[:2], *bad], capture_output=True, text=True)
        require(result.returncode == 2 and "Usage" in result.stderr, f"{bad}: {result.stderr}")
    print("demo --all: four runs, one table")
finally:
    remove(folder)
