"""What metrics.jsonl says of every step is what the step did: the learning rate is llm.c's closed form (llmc/schedulers.h)
for each kind of schedule, and from the checkpoints before and after a step the rate and the clipping can be read back."""

import array
import json
import math
import struct

from support import kiln, make_workplace, metrics, remove, require

STEPS, LR, B1, B2, EPS, WD, CLIP = 24, 0.003, 0.9, 0.95, 1e-8, 0.1, 1.1
UNIT = 2.0**-24


def cosine(step, warmup, final):
    return final + 0.5 * (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup))) * (1 - final)


def linear(step, warmup, final):
    return 1 - (step - warmup) / (STEPS - warmup) * (1 - final)


def wsd(step, warmup, final):  # falls over the last quarter, where llm.c always takes a fifth
    decay_point = STEPS - 6
    return 1 if step < decay_point else final + (1 - math.sqrt((step - decay_point) / (STEPS - decay_point))) * (1 - final)


def constant(step, warmup, final):
    return 1


def read_tensors(path):
    content = path.read_bytes()
    header_bytes, = struct.unpack("<Q", content[:8])
    header = json.loads(content[8:8 + header_bytes])
    tensors = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = (8 + header_bytes + offset for offset in tensor["data_offsets"])
            tensors[name] = (tensor["shape"], array.array("f", content[begin:end]))
    return tensors


def norm(values):
    return math.sqrt(math.fsum(x * x for x in values))


def check_update(run, record, scale_of_norm):
    """The step between two checkpoints: the rate with which the weights moved along AdamW's direction, and the norm of the
    gradient that went into the first moments. fp32 rounds each moment, each direction and each weight some times: so far
    may both be off."""
    t = record["step"]
    (before, m_before), (after, m_after) = (
        [read_tensors(run / "checkpoints" / f"step_{step:08d}" / f"{name}.safetensors") for name in ("model", "optimizer")]
        for step in (t - 1, t))
    along = square = uncertain = 0.0
    for name, (shape, weights) in after.items():
        decay = WD if len(shape) == 2 else 0
        for w0, w1, m, v in zip(before[name][1], weights, m_after[name + ".m"][1], m_after[name + ".v"][1]):
            u = m / (1 - B1**t) / (math.sqrt(v / (1 - B2**t)) + EPS) + decay * w0
            along += (w0 - w1) * u
            square += u * u
            uncertain += abs(u) * (10 * LR * abs(u) + 2 * abs(w0)) * UNIT
    rate = along / square
    require(abs(rate - record["lr"]) <= uncertain / square,
            f"{run.name}, step {t}: the log says lr {record['lr']}, the weights moved with {rate}")

    moments = [name for name in m_after if name.endswith(".m")]
    pairs = [(m0, m1) for name in moments for m0, m1 in zip(m_before[name][1], m_after[name][1])]
    gradient = norm((m1 - B1 * m0) / (1 - B1) for m0, m1 in pairs)
    uncertain = 5 * UNIT * (norm(m0 for m0, _ in pairs) + norm(m1 for _, m1 in pairs)) / (1 - B1)
    expected = scale_of_norm(record["gradient_norm"])
    require(abs(gradient - expected) <= uncertain,
            f"{run.name}, step {t}: a gradient of norm {gradient} reached the moments instead of {expected}")
    return record["gradient_norm"] > CLIP


folder = make_workplace(model={"layers": 1, "width": 16}, train={"steps": STEPS, "tokens_per_step": 256},
                        optimizer={"lr": LR, "b1": B1, "b2": B2, "eps": EPS, "wd": WD},
                        checkpoint={"every": 1, "keep": STEPS}, validation={"every": 0}, sampling={"every": 0})
clipped = set()
for closed_form, warmup, final, clip in ((cosine, 5, 0.1, CLIP), (linear, 0, 0.0, 0), (wsd, 3, 0.2, CLIP), (constant, 4, 0.5, CLIP)):
    run = folder / closed_form.__name__
    changes = {"output.dir": run, "schedule.kind": closed_form.__name__, "schedule.warmup": warmup, "schedule.final": final,
               "schedule.decay_fraction": 0.25, "train.clip": clip}
    kiln("train", folder / "config.json", *[part for key, value in changes.items() for part in ("--set", f"{key}={value}")])
    records = [record for record in metrics(run) if "loss" in record]
    require([record["step"] for record in records] == list(range(1, STEPS + 1)), f"{run.name}: a line for each step")
    for step, record in enumerate(records):  # updates count from 0, the log from 1
        multiplier = (step + 1) / warmup if step < warmup else closed_form(step, warmup, final)
        # fp64 on numbers of order 1: a handful of roundings.
        require(abs(record["lr"] - LR * multiplier) <= 1e-15 * LR,
                f"{run.name}, step {step + 1}: lr {record['lr']!r} instead of {LR * multiplier!r}")
        if step > 0:
            over = check_update(run, record, lambda norm, clip=clip: min(norm, clip) if clip else norm)
            clipped.add((over, clip > 0))
require({(True, True), (False, True), (True, False)} <= clipped, f"gradients above and below the clip must occur: {clipped}")
remove(folder)
print("learning rates of 4 schedules as in llm.c; rates and clipping of every update as logged")
