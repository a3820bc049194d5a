"""kiln spectrum on a run: every step and matrix, the tail's gap as the run itself logged it, a price that follows from it,
refusals. The gap is recomputed here from the eigenvalues, and these from the factors' traces."""

import json
import math
import struct

from support import kiln, make_workplace, metrics, remove, require

folder = make_workplace(optimizer={"name": "kl-shampoo", "lr": 0.003}, train={"steps": 12}, metrics={"every": 4, "tail_rank": 8},
                        checkpoint={"every": 4, "keep": 10})
config = folder / "config.json"


def tensors(path):
    """name -> (shape, floats) of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    out = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            out[name] = (entry["shape"], struct.unpack(f"<{(end - begin) // 4}f", data[begin:end]))
    return out


def gap(descending, rank):
    floor = 1e-10 * sum(descending) / len(descending)
    tail = [max(x, floor) for x in descending[rank:]]
    return math.log(sum(tail) / len(tail)) - sum(map(math.log, tail)) / len(tail)


try:
    kiln("train", config)
    run = folder / "run"
    spectra = json.loads(kiln("spectrum", run, "--json").stdout)
    require(spectra["rank"] == 8 and [c["step"] for c in spectra["checkpoints"]] == [4, 8, 12], "steps or rank")
    logged = {(r["step"], r["metric"]): r["value"] for r in metrics(run) if "metric" in r}
    for checkpoint in spectra["checkpoints"]:
        step = checkpoint["step"]
        state = tensors(run / f"checkpoints/step_{step:08}/optimizer.safetensors")
        names = [name.removesuffix(".s_a") for name in state if name.endswith(".s_a")]
        require(sorted(m["name"] for m in checkpoint["matrices"]) == sorted(names), "matrices")
        require(len(names) == 12, f"6 matrices in each of 2 layers, not {len(names)}")
        for m in checkpoint["matrices"]:
            for side, other, metric in (("s_a", m["cols"], "left"), ("s_b", m["rows"], "right")):
                factor, (shape, values) = m[side], state[f"{m['name']}.{side}"]
                n = shape[0]
                eigenvalues = factor["eigenvalues"]
                require(len(eigenvalues) == n == factor["n"] and eigenvalues == sorted(eigenvalues, reverse=True), "order")
                trace, squares = sum(values[::n + 1]), sum(x * x for x in values)
                # n eigenvalues, each off by some n units of fp32's rounding of the largest.
                bound = n * 8 * n * 2**-24 * eigenvalues[0]
                require(abs(sum(eigenvalues) - trace) <= bound, f"the trace of {m['name']}.{side}")
                require(abs(sum(x * x for x in eigenvalues) - squares) <= 2 * bound * eigenvalues[0], "the norm")
                require(abs(factor["gap"] - gap(eigenvalues, 8)) <= 1e-9, f"the gap: {factor['gap']}")
                require(abs(factor["price"] - other * (n - 8) / 2 * factor["gap"]) <= 1e-9 * (1 + factor["price"]), "the price")
                # The run decomposed the very factor that the checkpoint holds, with as many threads or not.
                key = (step, f"{m['name']}.{metric}_tail_gap")
                require(key in logged and abs(logged[key] - factor["gap"]) <= 1e-9, f"{key}: {logged.get(key)}, {factor['gap']}")
    text = kiln("spectrum", run, "--rank", 4, "--matrix", "h.1.mlp", "--pictures", 1).stdout
    for words in ("step 12, r = 4", "h.1.mlp.fc.weight", "| S_b", "flat", "a: step 4, b: step 8, c: step 12", "|: r = 4"):
        require(words in text, f"'{words}' is missing:\n{text}")
    require("h.0." not in text, "--matrix chooses")
    one = kiln("spectrum", run / "checkpoints/step_00000008", "--pictures", 0).stdout
    require("step 8" in one and "step 12" not in one and "eigenvalues, the largest" not in one, one)

    def refused(code, *arguments, says):
        result = kiln("spectrum", *arguments, check=False)
        require(result.returncode == code and says in result.stderr and "hint" in result.stderr, f"{arguments}: {result.stderr}")

    refused(2, run, "--matrix", "h.9", says="no matrix has such a name")
    kiln("train", config, "--set", "optimizer.name=muon", "--set", "optimizer.lr=0.01", "--set", f"output.dir={folder}/muon", "--set", "train.steps=2",
         "--set", "schedule.warmup=0")
    refused(2, folder / "muon", says="is a checkpoint of muon, which keeps a momentum and no factors")
    refused(3, folder / "shards", says="holds neither a run nor a checkpoint")
    damaged = run / "checkpoints/step_00000012/optimizer.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-5] ^= 1
    damaged.write_bytes(data)
    refused(3, damaged.parent, says="the file is damaged")
    result = kiln("spectrum", run, "--json")
    require([c["step"] for c in json.loads(result.stdout)["checkpoints"]] == [4, 8], "the damaged one is passed over")
    require("passing over a checkpoint" in result.stderr, result.stderr)
    print("spectrum: eigenvalues, gaps, prices, refusals")
finally:
    remove(folder)
