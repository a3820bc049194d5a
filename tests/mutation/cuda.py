"""Breaks CUDA kernels one place at a time and sees their tests fail, on the CUDA emulator.

    cuda.py --tests BUILD/tests/test_cuda --objects BUILD/kernels/cuda [--count N] [--jobs J]

Mutants: an operator (OPERATORS below) at a place in device code of kernels/cuda. The places are drawn by a hash of seed, file,
operator and line, so they stay as they are when other lines change. Of a mutant only the PTX is made, which the emulator
executes in the place of what is linked (KILN_EMULATOR_PTX); then the tests of that file's kernels run. What nvcc refuses, and
what it translates to the same PTX as before, is no mutant: it is counted apart, and another takes its place.

At least 95 % must be killed. Each survivor must be argued in docs/cuda-mutants.md, in a table of file, operator, mutated line and why
(a run of fewer than 60 allows one that is not: whoever draws others may meet a survivor that nobody has seen)."""

import argparse
import concurrent.futures
import hashlib
import itertools
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(os.environ.get("KILN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
FOLDER = "kernels/cuda"
TESTS = {  # which tests execute the kernels of a file
    "activation.cu": "CudaGelu*:CudaResidual*:CudaSwiglu*",
    "classifier.cu": "CudaClassifier*",
    "column_sums.cu": "CudaLayerNorm.Backward*:CudaRmsNorm.Backward*:CudaLinear.BackwardWeight*:CudaLinear.Takes*",
    "norm.cu": "CudaLayerNorm*:CudaRmsNorm*",
}
DOC = "docs/cuda-mutants.md"
SEED = 1
LEAST_KILLED = 0.95
FULL = 60  # mutants: a run of so many has the last word
STEPS = 3_000_000  # a warp's, after which a kernel counts as endless


# ---- Operators: each yields (begin, end, replacement) of places in a text, where only code is left. ----

def by_pattern(pattern, replacement, unless=None):
    """`unless`: a pattern of lines that are left alone."""
    def places(text):
        for match in re.finditer(pattern, text, re.M):
            line = text[text.rfind("\n", 0, match.start()) + 1:(text + "\n").index("\n", match.start())]
            if not ("static_assert" in line or (unless and re.search(unless, line))):
                yield match.start(), match.end(), match.expand(replacement) if isinstance(replacement, str) else replacement(match)
    return places


def either(*operators):
    return lambda text: itertools.chain(*(operator(text) for operator in operators))


def exchanged(*pairs):
    """Each name in the place of its partner, both ways."""
    both = {**dict(pairs), **{b: a for a, b in pairs}}
    names = "|".join(re.escape(name) for name in sorted(both, key=len, reverse=True))
    return by_pattern(rf"(?<![\w.]){'(?:' + names + ')'}\b", lambda match: both[match[0]], unless=DECLARATION)


DECLARATION = r"^\s*(?:extern )?(?:__shared__ )?(?:const(?:expr)? )?\w[\w:<>]*[ *]+\w+(?:\[[^\]]*\])+(?: = |;)"
LOOP = r"^\s*for \("
OPERATORS = {
    "index off by one": by_pattern(r"\[([^\[\]]+)\]", r"[\1 + 1]", unless=DECLARATION),
    "dropped barrier or wait": by_pattern(r"\b(?!\w*shfl)\w*(?:sync|wait|commit)\w*(?:<[^;()]*>)?\([^;()]*\);", ";"),
    "wrong reduction width": either(by_pattern(r"/ 2\b", "/ 4", unless=r"^(?!.*for \()"),
                                    by_pattern(r"(\w*(?:offset|distance|half)\w*) > 0", r"\1 > 1")),
    "swapped stride": exchanged(("p.C", "p.rows"), ("kLanes", "kWarps"), ("blockIdx.x", "threadIdx.x"), ("threadIdx.y", "blockIdx.y"),
                                ("stride", "columns"), ("vectors", "kThreads"), ("p.V", "p.Vp"), ("lane", "warp")),
    "dropped tail check": either(by_pattern(r"if \([^;{}]*? (?:<|>=) [^;{}]*?\) (return|\{)",
                                            lambda m: "if (false) return" if m[1] == "return" else "if (true) {"),
                                 by_pattern(r" && [^&|;{}()]+ < [^&|;{}()]+(?=[)&])", "")),
    "wrong mask": by_pattern(r"\bkAllLanes\b|\b0xffffffffu?\b", "0x7fffffffu"),
    "widened store": either(by_pattern(r"(\*reinterpret_cast<\w+\*>\(\w+\)) = ", lambda m: f"{m[1][1:]}[1] = {m[1]} = "),
                            by_pattern(r"(reinterpret_cast<\w+\*>\(\w+\))\[([^\]]+)\] = ", r"\1[\2 + 1] = \1[\2] = "),
                            by_pattern(r"^( *)\*(\w+) = ", r"\1\2[1] = *\2 = "),
                            by_pattern(r"^( *)([\w.]+(?<!\.v))\[([^\[\]]+)\] = ", r"\1\2[\3 + 1] = \2[\3] = ")),
    "dropped accumulate": by_pattern(r" \+= ", " = ", unless=LOOP),
    "wrong loop step": by_pattern(r" \+= ([^;()]+)\)", r" += 2 * (\1))", unless=rf"^(?!{LOOP[1:]})"),
    "wrong sign": either(by_pattern(r" \+ ", " - "), by_pattern(r" - ", " + "), by_pattern(r" \+= ", " -= ", unless=LOOP)),
    "changed constant": either(by_pattern(r"(?<![\w.])(\d+\.\d*(?:e-?\d+)?f?)(?![\w.])", r"(1.25f * \1)"),
                               by_pattern(r"(?<![\w.<])([0-9]+)(?![\w.>])", lambda m: str(int(m[1]) + 1), unless=DECLARATION)),
    "wrong comparison": either(by_pattern(r" < ", " <= "), by_pattern(r" > ", " >= "), by_pattern(r" <= ", " < "),
                               by_pattern(r" >= ", " > "), by_pattern(r" == ", " != ")),
    "dropped rounding": either(by_pattern(r"__float2bfloat16_rn\b", "__float2bfloat16_rz"),
                               by_pattern(r"__floats2bfloat162_rn\(([^,]+), ([^)]+)\)",
                                          r"__halves2bfloat162(__float2bfloat16_rz(\1), __float2bfloat16_rz(\2))")),
    "exchanged extremes": either(by_pattern(r"\bf?max(f?)\(", lambda m: f"fmin{m[1]}(" if m[1] else "min("),
                                 by_pattern(r"\bf?min(f?)\(", lambda m: f"fmax{m[1]}(" if m[1] else "max(")),
    "dropped statement": by_pattern(r"^ +(?!return\b|if\b|for\b|\w*sync|\w*wait|\w*commit)[\w.]+(?:<[\w ]+>)?\([^;]*\);$", ""),
    "dropped factor": by_pattern(r" \* [\w.]+(?![\w.<\[(])", "", unless=LOOP),
    "exchanged branches": by_pattern(r"\? ([^:?;]+) : ([^?:;,]+)(?=[;,])", r"? \2 : \1"),
}


# ---- Places ----

def only_code(text):
    """The text with comments and strings blanked, each character in its place."""
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^#[^\n]*', lambda match: re.sub(r"[^\n]", " ", match[0]), text,
                  flags=re.S | re.M)


def device_code(code):
    """(begin, end) of the bodies of device functions and of constants that such may use."""
    end = 0
    for match in re.finditer(r"\b__(?:global|device)__\b|^(?:inline )?constexpr float \w+ =", code, re.M):
        if match.start() < end:
            continue
        at = match.end()
        while code[at] not in "{;" and at + 1 < len(code):
            at += 1
        begin, depth = at, 0
        if code[at] == ";":
            if "constexpr" in match[0]:
                yield match.end(), at
            continue
        for at in range(begin, len(code)):
            depth += (code[at] == "{") - (code[at] == "}")
            if depth == 0:
                break
        end = at + 1
        yield begin, end


class Mutant:
    def __init__(self, file, text, operator, begin, end, replacement):
        self.file, self.operator, self.text = file, operator, text[:begin] + replacement + text[end:]
        self.number = text.count("\n", 0, begin) + 1
        self.line = text.splitlines()[self.number - 1].strip()
        self.mutated = self.text.splitlines()[self.number - 1].strip()
        start = text.rfind("\n", 0, begin) + 1
        key = f"{SEED} {file} {operator} {self.line} {begin - start}"
        self.rank = hashlib.sha256(key.encode()).hexdigest()

    def __str__(self):
        return f"{self.file}:{self.number}: {self.operator}: {self.line}  ->  {self.mutated or '(nothing)'}"


def draw(files):
    """All mutants in the order in which they are taken: the operators in turn, within an operator the files in turn."""
    queues = {}
    for file, text in files.items():
        code = only_code(text)
        for begin, end in device_code(code):
            for name, operator in OPERATORS.items():
                for first, last, replacement in operator(code[begin:end]):
                    mutant = Mutant(file, text, name, begin + first, begin + last, replacement)
                    queues.setdefault(name, {}).setdefault(file, {})[mutant.rank] = mutant
    per_operator = []
    for name in sorted(queues, key=lambda name: hashlib.sha256(f"{SEED} {name}".encode()).digest()):
        per_file = [[mutants[rank] for rank in sorted(mutants)] for _, mutants in sorted(queues[name].items())]
        per_operator.append([m for turn in itertools.zip_longest(*per_file) for m in turn if m])
    return [m for turn in itertools.zip_longest(*per_operator) for m in turn if m]


# ---- Trials ----

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


class Laboratory:
    def __init__(self, options, folder):
        self.options, self.folder = options, pathlib.Path(folder)
        self.texts = {path.name: path.read_text() for path in sorted((ROOT / FOLDER).glob("*.cu*"))}
        if unknown := [name for name in self.texts if name.endswith(".cu") and name not in TESTS]:
            sys.exit(f"{', '.join(unknown)}: TESTS does not say which tests execute them")
        self.units, self.before, self.patience = {}, {}, {}

    def prepare(self, pool):
        """Translates the files as they are and runs their tests, which must pass."""
        originals = [name for name in self.texts if name.endswith(".cu")]
        for name in originals:
            built = (pathlib.Path(self.options.objects) / f"{name}.o").read_bytes().decode("latin-1")
            self.units[name] = sorted(set(re.findall(UNIT, built)))
        for name, ptx in zip(originals, pool.map(lambda name: self.translate(name, None, "whole"), originals)):
            if ptx is None:
                sys.exit(f"nvcc refuses {name} as it is")
            self.before[name] = ptx
        for name in originals:
            start = time.monotonic()
            verdict = self.run_tests(name, self.before[name], "whole", 600)
            if verdict:
                sys.exit(f"the tests of {name} fail as it is: {verdict}")
            self.patience[name] = 20 + 10 * (time.monotonic() - start)

    def translate(self, name, mutant, label):
        """The PTX of a .cu file, with a mutant or without; None: it does not compile."""
        place = self.folder / label
        if mutant:
            (place / FOLDER).mkdir(parents=True, exist_ok=True)
            (place / FOLDER / mutant.file).write_text(mutant.text)
        source = (place if mutant and mutant.file == name else ROOT) / FOLDER / name
        place.mkdir(exist_ok=True)
        output = place / f"{name}.ptx"
        ran = subprocess.run([self.options.nvcc, "-std=c++20", "-O3", "--expt-relaxed-constexpr", "-arch=compute_80", "-ptx", "-I", place,
                              "-I", ROOT, source, "-o", output], capture_output=True, text=True, check=False)
        if ran.returncode:
            return None
        ptx = output.read_text()
        here = sorted(set(re.findall(UNIT, ptx)))
        for made, linked in zip(here, self.units[name]):
            ptx = ptx.replace(made, linked)
        return ptx

    def run_tests(self, name, ptx, label, patience):
        """None if they pass, or how they fail."""
        file = self.folder / label / f"{name}.renamed.ptx"
        file.write_text(ptx)
        environment = {**os.environ, "KILN_EMULATOR_PTX": str(file), "KILN_EMULATOR_STEPS": str(STEPS)}
        command = [self.options.tests, f"--gtest_filter={TESTS[name]}", "--gtest_fail_fast", "--gtest_brief=1"]
        try:
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", timeout=patience, check=False)
        except subprocess.TimeoutExpired:
            return "no end"
        if ran.returncode == 0:
            return None if re.search(r"\[  PASSED  \] [1-9]", ran.stdout) else f"no test is called {TESTS[name]}"
        said = re.search(r"CUDA emulator: ([^\n(:]+)", ran.stderr)
        return said[1].strip()[:60] if said and ran.returncode == 86 else "wrong results" if ran.returncode == 1 else f"exit code {ran.returncode}"

    def judge(self, number, mutant):
        """'refused', 'the same', ('killed', how) or 'survived'."""
        label = f"mutant{number}"
        names, same = includers(mutant.file, self.texts), True
        names.sort(key=lambda name: hashlib.sha256(f"{mutant.rank} {name}".encode()).digest())  # not always the same first
        for name in names:
            ptx = self.translate(name, mutant, label)
            if ptx is None:
                return "refused"
            if essence(ptx) == essence(self.before[name]):
                continue
            same = False
            if how := self.run_tests(name, ptx, label, self.patience[name]):
                return "killed", how
        return "the same" if same else "survived"


def argued():
    """{(file, operator, line as mutated)} of the table in DOC."""
    path = ROOT / DOC
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \| `(.+?)` \|", path.read_text(), re.M) if path.exists() else []
    return {(file, operator, line.replace("\\|", "|")) for file, operator, line in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", required=True, help="the program of tests, linked with the emulator")
    parser.add_argument("--objects", required=True, help="where X.cu.o are")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--count", type=int, default=120, help="mutants that compile and differ (120)")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first of the order drawn")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    start = time.monotonic()
    tally, survivors, done = {"refused": 0, "the same": 0, "killed": 0, "survived": 0}, [], 0
    with tempfile.TemporaryDirectory(prefix="kiln-mutants-") as folder, \
            concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        laboratory = Laboratory(options, folder)
        laboratory.prepare(pool)
        mutants = iter(enumerate(draw(laboratory.texts)))
        mutants = itertools.islice(mutants, options.skip, None)
        running = {}
        while True:
            while len(running) < min(options.jobs, options.count - done) and (following := next(mutants, None)):
                running[pool.submit(laboratory.judge, *following)] = following[1]
            if not running:
                break
            finished, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in finished:
                mutant, verdict = running.pop(future), future.result()
                how = ""
                if isinstance(verdict, tuple):
                    verdict, how = verdict
                tally[verdict] += 1
                done += verdict in ("killed", "survived")
                if verdict == "survived":
                    survivors.append(mutant)
                shown = f"killed ({how})" if how else verdict.upper() if verdict == "survived" else verdict
                print(f"{shown:40} {mutant}", flush=True)
    known = argued()
    open_ones = [m for m in survivors if (m.file, m.operator, m.mutated) not in known]
    share = tally["killed"] / max(1, done)
    print(f"{done} mutants in {time.monotonic() - start:.0f} s: {tally['killed']} killed ({100 * share:.1f} %), {tally['survived']} survived; "
          f"besides, {tally['the same']} translate to the same PTX and nvcc refuses {tally['refused']}")
    for mutant in open_ones:
        print(f"not argued in {DOC}: {mutant}")
    if done < options.count:
        print(f"{options.count} were asked for, there are no more")
        return 1
    if options.count >= FULL:
        return 1 if share < LEAST_KILLED or open_ones else 0
    return 1 if len(open_ones) > math.ceil((1 - LEAST_KILLED) * options.count) else 0


if __name__ == "__main__":
    sys.exit(main())
