"""Breaks the CUDA code one place at a time and sees its tests fail, on the CUDA emulator.

    cuda.py --build BUILD --nvcc-flags='FLAGS' [--count N] [--jobs J]

Mutants: an operator at a place (cuda_places.py), drawn by a hash of seed, file, operator and line (and, among equal lines, of
which it is), so they stay as they are when other lines change. Five of six are of device code in kernels/cuda: only the PTX is
made of them, which the emulator executes in the place of what is linked (KILN_EMULATOR_PTX). Every sixth is of host code (HOST
below): its object is compiled and linked into the program of tests in the place of the original's. Then the tests of that file
run. What the compiler refuses, and what it translates to the same as before, is no mutant: it is counted apart, and another
takes its place.

A mutant is killed by a test that fails, by what the emulator finds (exit code 86, with a text), or, in host code, by a crash.
It hangs, which counts as killed, if it uses at least ten times as much time as the original, of the processor's or in the
emulator's steps. Whatever else ends the tests (no memory, an instruction or an option that the emulator does not know, a
program that does not start) says nothing of them: the mutant is invalid, and another takes its place. If more are invalid than
a tenth of those judged, the run fails.

At least 95 % must be killed. Each survivor must be argued in docs/cuda-mutants.md, in a table of file, operator, mutated line
(and which of equal ones it is, as printed) and why (a run of fewer than 60 allows one that is not: whoever draws others may
meet a survivor that nobody has seen)."""

import argparse
import concurrent.futures
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
import time

from cuda_places import draw_all
from cuda_verdicts import run_tests, self_test, too_many_invalid

ROOT = pathlib.Path(os.environ.get("KILN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
FOLDER = "kernels/cuda"
TESTS = {  # which tests execute the kernels of a file
    "activation.cu": "CudaGelu*:CudaResidual*:CudaSwiglu*",
    "classifier.cu": "CudaClassifier*",
    "column_sums.cu": "CudaLayerNorm.Backward*:CudaRmsNorm.Backward*:CudaLinear.BackwardWeight*:CudaLinear.Takes*",
    "norm.cu": "CudaLayerNorm*:CudaRmsNorm*",
}
HOST = {  # and which the host code
    "kernels/cuda/linear.cpp": "CudaLinear*:CudaKernels*",
    "kernels/cuda/cublaslt.cpp": "CudaLinear*:CudaKernels*",
    "src/device/cuda_check.cpp": "CudaCheck*:CudaDevice*:CudaKernels*:CudaObstacle*",
    "src/device/cuda_device.cpp": "CudaCheck*:CudaDevice*:CudaObstacle*",
    "src/device/cuda_memory.cpp": "CudaArena*:CudaDevice*:CudaStaging*",
    "src/device/cuda_staging.cpp": "CudaStaging*:CudaStream*:CudaArena*",
    "src/device/cuda_stream.cpp": "CudaStaging*:CudaStream*",
    **{f"{FOLDER}/{name}": f"{tests}:CudaKernels*" for name, tests in TESTS.items()},
    **{f"{FOLDER}/{name}.cpp": f"{TESTS[name + '.cu']}:CudaKernels*" for name in ("activation", "classifier", "norm")},
}
DOC = "docs/cuda-mutants.md"
LEAST_KILLED = 0.95
FULL = 60  # mutants: a run of so many has the last word
STEPS = 3_000_000  # a warp's, after which a kernel counts as endless


def includers(file, texts):
    """The .cu files that `file` is part of."""
    found, todo = set(), [file]
    while todo:
        current = todo.pop()
        if current.endswith(".cu"):
            found.add(current)
        todo += [name for name, text in texts.items()
                 if f'"{FOLDER}/{current}"' in text and name not in found and name != current]
    return sorted(found)


UNIT = r"_GLOBAL__N__[0-9a-f]{8}_\d+_\w+?_cu_[0-9a-f]{8}"  # how nvcc calls an anonymous namespace: from path and options


def essence(ptx):
    """What is left of PTX without names and lines of the source."""
    return re.sub(r"^\s*(?://.*|\.loc .*|\.file .*)?\n", "", re.sub(UNIT, "", ptx), flags=re.M)


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, **options)


def used_seconds():
    """Of the processor's, by all that the script has run: what others ran meanwhile only makes the patience greater."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Device:
    """Trials of device code: PTX in the place of PTX."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.texts = {path.name: path.read_text() for path in sorted((ROOT / FOLDER).glob("*.cu*"))}
        if unknown := [name for name in self.texts if name.endswith(".cu") and name not in TESTS]:
            sys.exit(f"{', '.join(unknown)}: TESTS does not say which tests execute them")
        self.units, self.before, self.patience = {}, {}, {}

    def prepare(self, pool):
        """Translates the files as they are and runs their tests, which must pass with a tenth of the steps."""
        originals = [name for name in self.texts if name.endswith(".cu")]
        for name in originals:
            built = (self.options.build / FOLDER / f"{name}.o").read_bytes().decode("latin-1")
            self.units[name] = sorted(set(re.findall(UNIT, built)))
        for name, ptx in zip(originals, pool.map(lambda name: self.translate(name, None, "whole"), originals)):
            if ptx is None:
                sys.exit(f"nvcc refuses {name} as it is")
            self.before[name] = ptx
        for name in originals:
            start = used_seconds()
            self.patience[name] = 600
            if verdict := self.run_tests(name, self.before[name], "whole", STEPS // 10):
                sys.exit(f"the tests of {name} fail as it is: {verdict}")
            self.patience[name] = 20 + 10 * (used_seconds() - start)

    def translate(self, name, mutant, label):
        """The PTX of a .cu file, with a mutant or without; None: it does not compile."""
        place = self.folder / label
        if mutant:
            (place / FOLDER).mkdir(parents=True, exist_ok=True)
            (place / FOLDER / mutant.file).write_text(mutant.text)
        source = (place if mutant and mutant.file == name else ROOT) / FOLDER / name
        place.mkdir(exist_ok=True)
        output = place / f"{name}.ptx"
        ran = run([self.options.nvcc, *self.options.nvcc_flags, "-arch=compute_80", "-ptx", "-I", place, "-I", ROOT,
                   source, "-o", output])
        if ran.returncode:
            return None
        ptx = output.read_text()
        here = sorted(set(re.findall(UNIT, ptx)))
        for made, linked in zip(here, self.units[name]):
            ptx = ptx.replace(made, linked)
        return ptx

    def run_tests(self, name, ptx, label, steps):
        file = self.folder / label / f"{name}.renamed.ptx"
        file.write_text(ptx)
        return run_tests(self.options.build / "tests/test_cuda", TESTS[name], self.patience[name],
                         {"KILN_EMULATOR_PTX": str(file), "KILN_EMULATOR_STEPS": str(steps)}, host=False)

    def judge(self, label, mutant):
        names, same = includers(mutant.file, self.texts), True
        names.sort(key=lambda name: hashlib.sha256(f"{mutant.rank} {name}".encode()).hexdigest())  # not always the same first
        for name in names:
            ptx = self.translate(name, mutant, label)
            if ptx is None:
                return "refused", ""
            if essence(ptx) == essence(self.before[name]):
                continue
            same = False
            if verdict := self.run_tests(name, ptx, label, STEPS):
                return verdict
        return ("the same" if same else "survived"), ""


class Host:
    """Trials of host code: an object in the place of an object. Each file of HOST has its own, also where the build compiles
    several together."""

    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        self.texts = {name: (ROOT / name).read_text() for name in [*HOST, f"{FOLDER}/launch.cuh"]}
        self.commands, self.together = {}, {}  # by file: how it is compiled, and what with, by the build
        self.objects, self.patience, self.lock = {}, {}, threading.Lock()

    def prepare(self):
        self.read_commands()
        self.link_command = self.read_link_command()

    def make_ready(self, name):
        """Compiles a file as it is, and what the build compiles together with it, and runs its tests, which must pass. When a
        mutant of it is drawn: to do so for all would take longer than a few trials."""
        with self.lock:
            if name in self.patience:
                return
            for each in self.together[name]:
                if each not in self.objects:
                    self.objects[each] = self.compile(each, ROOT / each, [], "whole")
                    if self.objects[each] is None:
                        raise RuntimeError(f"the compiler refuses {each} as it is:\n{self.said}")
            program = self.link(name, None, "whole")
            if program is None:
                raise RuntimeError(f"with an object of its own for {name} the program of tests cannot be linked")
            start = used_seconds()
            if verdict := run_tests(program, HOST[name], 600, {"KILN_EMULATOR_STEPS": str(STEPS // 10)}, host=True):
                raise RuntimeError(f"the tests of {name} fail as it is: {verdict}")
            self.patience[name] = 20 + 10 * (used_seconds() - start)

    def read_commands(self):
        """How each file is compiled, without what stops at warnings."""
        entries = json.loads((self.options.build / "compile_commands.json").read_text())
        for entry in entries:
            source = pathlib.Path(entry["file"])
            inside = [str(source)]
            if "/Unity/" in str(source):
                inside = re.findall(r'#include "([^"]+)"', source.read_text())
            inside = [os.path.relpath(file, ROOT) for file in inside]
            if any(name in HOST for name in inside):
                words = shlex.split(entry["command"])
                at = words.index("-o")
                kept = [word for word in words[:at] if word != "-Werror" and not re.fullmatch(r"-W\w[\w-]*", word)]
                for name in inside:
                    self.commands[name], self.together[name] = [*kept, "-w"], inside
        nvcc = [self.options.nvcc, *self.options.nvcc_flags, "-w", "-gencode", "arch=compute_80,code=compute_80", "-I", str(ROOT)]
        kernels = [name for name in HOST if name.endswith(".cu")]
        self.commands.update(dict.fromkeys(kernels, nvcc))
        self.together.update(dict.fromkeys(kernels, ()))  # as they are, they are in the library
        if missing := [name for name in HOST if name not in self.commands]:
            sys.exit(f"{self.options.build}/compile_commands.json does not say how {', '.join(missing)} are compiled")

    def read_link_command(self):
        """(words before the first library, words from there on)"""
        ran = run([self.options.ninja, "-C", self.options.build, "-t", "commands", "tests/test_cuda"])
        link = next(line for line in reversed(ran.stdout.splitlines()) if " -o tests/test_cuda " in line)
        words = shlex.split(link.removeprefix(": && ").split(" && ")[0])
        first = next(i for i, word in enumerate(words) if word.endswith(".a"))
        return [word for word in words[:first] if word not in ("-o", "tests/test_cuda")], words[first:]

    def compile(self, name, source, includes, label):
        place = self.folder / label
        place.mkdir(exist_ok=True)
        output = place / (name.replace("/", "_") + ".o")
        words = [word for folder in includes for word in ("-I", folder)]
        command = self.commands[name]
        first = next(i for i, word in enumerate(command) if word.startswith("-"))
        ran = run([*command[:first], *words, *command[first:], "-c", source, "-o", output], cwd=self.options.build)
        self.said = ran.stderr
        return None if ran.returncode else output

    def link(self, name, changed, label):
        """The program of tests with another object of `name`; what comes before the libraries is not taken from them."""
        before, libraries = self.link_command
        program = self.folder / label / "test_cuda"
        program.parent.mkdir(exist_ok=True)
        objects = {each: self.objects[each] for each in self.together[name]} | ({name: changed} if changed else {})
        ran = run([*before, *objects.values(), "-o", program, *libraries], cwd=self.options.build)
        return None if ran.returncode else program

    def judge(self, label, mutant):
        place = self.folder / label
        written = place / mutant.file
        written.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(mutant.text)
        if mutant.file.endswith(".cuh"):
            kernels = {path.name: path.read_text() for path in (ROOT / FOLDER).glob("*.cu*")}
            names = [f"{FOLDER}/{name}" for name in includers(pathlib.Path(mutant.file).name, kernels)]
            names.sort(key=lambda name: hashlib.sha256(f"{mutant.rank} {name}".encode()).hexdigest())
        else:
            names = [mutant.file]
        for name in names:
            self.make_ready(name)
            made = self.compile(name, written if name == mutant.file else ROOT / name, [place], label)
            if made is None:
                return "refused", ""
            if name in self.objects and made.read_bytes() == self.objects[name].read_bytes():
                return "the same", ""
            program = self.link(name, made, label)
            if program is None:
                return "refused", ""
            verdict = run_tests(program, HOST[name], self.patience[name], {"KILN_EMULATOR_STEPS": str(STEPS)}, host=True)
            program.unlink()
            if verdict:
                return verdict
        return "survived", ""


def argued():
    """{(file, operator, line as mutated, which of equal lines)} of the table in DOC."""
    path = ROOT / DOC
    row = r"^\| `([^`]+)` \| ([^|]+?) \| `(.+?)`(?: \((\d+) from the end\))? \|"
    rows = re.findall(row, path.read_text(), re.M) if path.exists() else []
    return {(file, operator, line.replace("\\|", "|"), int(ordinal or 1)) for file, operator, line, ordinal in rows}


def try_all(options, pool, folder):
    """{verdict: number}, and the survivors."""
    device, host = Device(options, folder), Host(options, folder)
    device.prepare(pool)
    host.prepare()
    tally = dict.fromkeys(("refused", "the same", "invalid", "killed", "hung", "survived"), 0)
    tally_of_host = dict(tally)
    mutants = itertools.islice(enumerate(draw_all(device.texts, host.texts)), options.skip, None)
    survivors, running = [], {}
    while True:
        done = tally["killed"] + tally["hung"] + tally["survived"]
        wanted = 0 if too_many_invalid(tally["invalid"], options.count) else options.count - done
        while len(running) < min(options.jobs, wanted) and (following := next(mutants, None)):
            number, mutant = following
            running[pool.submit((host if mutant.host else device).judge, f"mutant{number}", mutant)] = mutant
        if not running:
            return tally, tally_of_host, survivors
        finished, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in finished:
            mutant, (verdict, how) = running.pop(future), future.result()
            tally[verdict] += 1
            tally_of_host[verdict] += mutant.host
            if verdict == "survived":
                survivors.append(mutant)
            shown = f"{verdict} ({how})" if how else verdict.upper() if verdict == "survived" else verdict
            print(f"{shown:40} {mutant}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, help="where kiln was built: tests/test_cuda and kernels/cuda/X.cu.o")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--nvcc-flags", default="", help="how the build calls nvcc, but for architectures and warnings")
    parser.add_argument("--ninja", default="ninja")
    parser.add_argument("--count", type=int, default=72, help="mutants that compile and differ (72)")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first of the order drawn")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--self-test", action="store_true", help="whether what ends a program of tests is told apart")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not (options.build and options.nvcc_flags):
        parser.error("--build or --nvcc-flags is missing")
    options.build = options.build.resolve()
    options.nvcc_flags = [flag for flag in shlex.split(options.nvcc_flags) if flag != "-lineinfo"]  # lines are no difference
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kiln-mutants-") as folder, \
            concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        tally, of_host, survivors = try_all(options, pool, pathlib.Path(folder))
    killed = tally["killed"] + tally["hung"]
    done = killed + tally["survived"]
    share = killed / max(1, done)
    print(f"{done} mutants, {of_host['killed'] + of_host['hung'] + of_host['survived']} of them of host code: {killed} killed "
          f"({100 * share:.1f} %; {tally['hung']} of them hung), {tally['survived']} survived; besides, {tally['the same']} translate to the same, "
          f"the compiler refuses {tally['refused']}, {tally['invalid']} are invalid; {time.monotonic() - start:.0f} s")
    known = argued()
    open_ones = [m for m in survivors if (m.name, m.operator, m.mutated, m.ordinal) not in known]
    for mutant in open_ones:
        print(f"not argued in {DOC}: {mutant}")
    if too_many_invalid(tally["invalid"], options.count):
        print("too many are invalid to say anything: see what ended them")
        return 1
    if done < options.count:
        print(f"{options.count} were asked for, there are no more")
        return 1
    if options.count >= FULL:
        return 1 if share < LEAST_KILLED or open_ones else 0
    return 1 if len(open_ones) > math.ceil((1 - LEAST_KILLED) * options.count) else 0


if __name__ == "__main__":
    sys.exit(main())
