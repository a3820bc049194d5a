"""`kiln replay` against Muon and AdamW written here in a few lines of Python floats; its errors; a step that is skipped."""

import json
import math
import pathlib
import random
import struct
import tempfile

from support import kiln, remove, require


def write(path, tensors):
    """tensors: name -> (shape, flat list of floats)."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        blob = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(blob)]}
        data += blob
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read(path):
    blob = path.read_bytes()
    size = struct.unpack("<Q", blob[:8])[0]
    tensors = {}
    for name, entry in json.loads(blob[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = struct.unpack(f"<{(end - begin) // 4}f", blob[8 + size + begin:8 + size + end])
    return tensors


def multiply(a, b):
    return [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]


def newton_schulz(n):
    norm = math.sqrt(sum(x * x for row in n for x in row)) + 1e-7
    x = [[v / norm for v in row] for row in n]
    for _ in range(5):
        gram = multiply(x, [list(column) for column in zip(*x)])
        square = multiply(gram, gram)
        factor = [[-4.7750 * g + 2.0315 * s for g, s in zip(*rows)] for rows in zip(gram, square)]
        x = [[3.4445 * v + w for v, w in zip(*rows)] for rows in zip(x, multiply(factor, x))]
    return x


def single(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


rng = random.Random(3)
ROWS, COLS, STEPS = 5, 9, 6


def numbers(count, size):
    return [single(rng.gauss(0, size)) for _ in range(count)]


folder = pathlib.Path(tempfile.mkdtemp(prefix="kiln-test-"))
matrix, vector = numbers(ROWS * COLS, 0.1), numbers(COLS, 0.1)
gradients = [(numbers(ROWS * COLS, 0.01), numbers(COLS, 0.01)) for _ in range(STEPS)]
gradients[2][1][4] = math.inf  # this step is skipped, for the matrix as well
tensors = {"w.param": ([ROWS, COLS], matrix), "b.param": ([COLS], vector)}
for step, (g, h) in enumerate(gradients, 1):
    tensors[f"w.grad.{step:06}"], tensors[f"b.grad.{step:06}"] = ([ROWS, COLS], g), ([COLS], h)
write(folder / "in.safetensors", tensors)
optimizer = {"name": "muon", "lr": 0.02, "b1": 0.9, "ns_precision": "f32", "adamw_lr": 0.01, "wd": 0.1}
(folder / "muon.json").write_text(json.dumps(optimizer))
arguments = ["replay", "--optimizer", folder / "muon.json", "--tensors", folder / "in.safetensors", "--output", folder / "out.safetensors"]
require("1 skipped" in kiln(*arguments).stdout, "a step with an infinite gradient must be skipped")
found = read(folder / "out.safetensors")

w = [matrix[i * COLS:(i + 1) * COLS] for i in range(ROWS)]
m = [[0.0] * COLS for _ in range(ROWS)]
b, bm, bv, t = list(vector), [0.0] * COLS, [0.0] * COLS, 0
for step, (g, h) in enumerate(gradients, 1):
    if all(map(math.isfinite, g + h)):
        t += 1
        g = [g[i * COLS:(i + 1) * COLS] for i in range(ROWS)]
        m = [[0.9 * x + 0.1 * y for x, y in zip(*rows)] for rows in zip(m, g)]
        o = newton_schulz([[0.1 * y + 0.9 * x for x, y in zip(*rows)] for rows in zip(m, g)])
        scale = 0.2 * math.sqrt(max(ROWS, COLS))
        w = [[(1 - 0.02 * 0.1) * x - 0.02 * scale * y for x, y in zip(*rows)] for rows in zip(w, o)]
        bm = [0.9 * x + 0.1 * y for x, y in zip(bm, h)]
        bv = [0.95 * x + 0.05 * y * y for x, y in zip(bv, h)]
        b = [x - 0.01 * (y / (1 - 0.9**t)) / (math.sqrt(z / (1 - 0.95**t)) + 1e-8) for x, y, z in zip(b, bm, bv)]
    for name, expected in (("w", [x for row in w for x in row]), ("b", b)):
        error = max(abs(x - y) for x, y in zip(expected, found[f"{name}.param.{step:06}"]))
        # fp32 weights of about 0.3 err by 2e-8 a step, updates of about 0.004 by 1e-5 of themselves.
        require(error < 1e-6, f"{name} after step {step} is off by {error}")
require(max(abs(x - y) for x, y in zip(found["w.m"], [x for row in m for x in row])) < 1e-8, "the final momentum differs")

for name in ("adamw", "kl-shampoo", "pro-kl-shampoo"):
    (folder / "other.json").write_text(json.dumps({"name": name}))
    arguments[2] = folder / "other.json"
    kiln(*arguments, "--overwrite")
    require(all(map(math.isfinite, read(folder / "out.safetensors")[f"w.param.{STEPS:06}"])), f"{name} diverged")


def fails(code, words, *changed):
    result = kiln(*changed, check=False)
    require(result.returncode == code and words in result.stderr + result.stdout, f"{changed}: {result.returncode} {result.stderr}")


fails(2, "exists already", *arguments)
(folder / "other.json").write_text('{"name": "muon", "rank": 3}')
fails(2, "optimizer.rank has no effect", *arguments, "--overwrite")
del tensors["b.grad.000006"]
write(folder / "in.safetensors", tensors)
(folder / "other.json").write_text('{"name": "muon"}')
fails(3, "has 5 gradients", *arguments, "--overwrite")
remove(folder)
print(f"{STEPS} steps of Muon and AdamW as in Python; errors are explained")
