"""device.kind=cuda from the outside: one plain sentence and exit code 4 where there is no driver or no device, and the first
missing kernel by its name where there is. The tests of kernels are skipped in one sentence where no GPU is good enough, and
fail where one does not work. The arguments are a kiln and a program of tests that are linked with the emulator."""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "program"))
from support import KILN, make_workplace, remove, require

EMULATED, TESTS = sys.argv[1:]
folder = make_workplace()
config = str(folder / "config.json")


def run(program, *arguments, **environment):
    return subprocess.run([program, *arguments], env={**os.environ, **environment}, capture_output=True, text=True)


def refused(program, arguments, says, **environment):
    result = run(program, *arguments, "--set", "device.kind=cuda", **environment)
    require(result.returncode == 4, f"{arguments}: exit code {result.returncode} instead of 4\n{result.stdout}{result.stderr}")
    for words in says:
        require(words in result.stderr, f"{arguments}: the message lacks '{words}':\n{result.stderr}")
    require(not (folder / "run").exists(), f"{arguments} made a run folder")


TRAIN, BENCH, PLAN = ("train", config), ("bench", config, "--steps", "1"), ("plan", config)
MACHINES = {"-1": "no CUDA driver on this machine", "0": "no CUDA device on this machine"}
for devices, sentence in MACHINES.items():
    for command in (TRAIN, BENCH):
        refused(EMULATED, command, [sentence, "hint", "device.kind"], KILN_EMULATOR_DEVICES=devices)
    version = run(EMULATED, "--version", KILN_EMULATOR_DEVICES=devices).stdout
    require(sentence in version, version)

# A plan needs no device.
missing = ["kernel embedding_forward is not implemented for f32 on cuda"]
for command in (TRAIN, BENCH, PLAN):
    refused(EMULATED, command, missing)
refused(EMULATED, PLAN, missing, KILN_EMULATOR_DEVICES="-1")
require("CUDA emulator" in run(EMULATED, "--version").stdout, "kiln --version lacks the device")

for environment, sentence in (*(({"KILN_EMULATOR_DEVICES": devices}, sentence) for devices, sentence in MACHINES.items()),
                              ({"KILN_EMULATOR_CAPABILITY": "75"}, "has compute capability 7.5; kiln needs 8.0 or later")):
    result = run(TESTS, "--gtest_filter=CudaDevice.*", **environment)
    require(result.returncode == 77 and result.stdout.startswith("skipped: ") and sentence in result.stdout
            and result.stdout.count("\n") == 1, f"{environment}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
result = run(TESTS, "--gtest_filter=CudaDevice.*", KILN_TEST_BROKEN_GPU="1")
require(result.returncode == 1 and result.stdout.startswith("error: choosing the GPU"),
        f"a broken GPU: exit code {result.returncode}\n{result.stdout}{result.stderr}")

# The real one starts wherever it is, and says what it found.
version = run(KILN, "--version").stdout
require("cuda" in version and ("no CUDA driver" in version or "no CUDA device" in version or "sm_" in version), version)
refused(KILN, TRAIN, ["hint"])
refused(KILN, PLAN, missing)
remove(folder)
