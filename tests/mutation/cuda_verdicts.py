"""Runs a program of tests on the emulator and tells what ended it."""

import os
import pathlib
import re
import subprocess
import tempfile

FINDING = 86
CRASHES = {-4: "illegal instruction", -7: "bus error", -8: "division by zero", -11: "segmentation fault"}
ABORTED = -6
ABORTS = re.compile(r"terminate called|free\(\):|malloc|corrupted")  # as the C++ library and glibc's heap say it
LONGEST = 3600  # seconds, for what neither computes nor ends

# Findings that say what the emulator cannot do, or has no room for, and nothing of the code.
INCAPABLE = re.compile(r"unsupported instruction|cannot be read|not implemented|does not know|too small for the module|"
                       r"KILN_EMULATOR_PTX|more than 4 billion segments|reserving addresses|the table of allocations|no PTX|fat binary")


def verdict(returncode, stdout, stderr, host):
    """None if the tests passed, or ("killed" | "hung" | "invalid", how)."""
    findings = re.findall(r"^CUDA emulator: ([^\n]+)", stderr, re.M)
    if returncode == 0:
        return None if re.search(r"\[  PASSED  \] [1-9]", stdout) else ("invalid", "no test ran")
    if returncode == FINDING:
        finding = findings[-1] if findings else ""  # those before it are only notes
        said = re.split(r"[(:]", finding)[0].strip()[:60]
        if not finding or INCAPABLE.search(finding):
            return "invalid", said or "exit code 86 without a word"
        if "an endless loop" in finding:
            return "hung", "steps"
        if re.match(r"signal \d+", finding):
            return ("killed" if host else "invalid"), said
        return "killed", said
    if returncode == 1 and "[  FAILED  ]" in stdout:
        if "std::bad_alloc" in stdout:  # of device code, the emulator's own; a size that host code got wrong is its mistake
            return ("killed", "a size that is none") if host else ("invalid", "no memory")
        return "killed", "wrong results"
    if returncode == -24:  # SIGXCPU
        return "hung", "time"
    if host and returncode in CRASHES:
        return "killed", CRASHES[returncode]
    if host and returncode == ABORTED and (said := ABORTS.search(stderr)):
        return "killed", f"aborted: {said[0]}"
    return "invalid", f"exit code {returncode}"


def run_tests(program, tests, seconds, environment, host):
    """As verdict(); `seconds` of the processor's time, which does not depend on who else uses the machine."""
    command = ["sh", "-c", f'ulimit -c 0; ulimit -S -t {int(seconds)}; exec "$@"', "sh", program, f"--gtest_filter={tests}", "--gtest_fail_fast",
               "--gtest_brief=1"]
    try:
        ran = subprocess.run(command, env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment}, capture_output=True, text=True,
                             errors="replace", timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        return "invalid", "neither computes nor ends"
    return verdict(ran.returncode, ran.stdout, ran.stderr, host)


MOST_INVALID = 0.1  # of the mutants that are judged: what ends more of them so is at fault itself


def too_many_invalid(invalid, judged):
    return invalid > MOST_INVALID * judged


FAILED = "echo '[  FAILED  ] CudaLinear.Forward'"
ENDS = [  # what a program does; what that says of device code, and of host code where it differs
    ("echo '[  PASSED  ] 3 tests.'", None),
    ("echo '[  PASSED  ] 0 tests.'", "invalid"),
    (f"{FAILED}; exit 1", "killed"),
    ("echo 'cannot open shared object'; exit 1", "invalid"),
    (f"echo 'C++ exception with description \"std::bad_alloc\"'; {FAILED}; exit 1", "invalid", "killed"),
    ("echo 'CUDA emulator: data race in shared memory: a read' >&2; exit 86", "killed"),
    ("echo 'CUDA emulator: unsupported instruction: wgmma' >&2; exit 86", "invalid"),
    ("echo 'CUDA emulator: a launch of 2048 threads' >&2; echo 'CUDA emulator: the PTX of f cannot be read: no label' >&2; exit 86", "invalid"),
    ("echo 'CUDA emulator: attribute 9 is not implemented' >&2; exit 86", "invalid"),
    ("echo 'CUDA emulator: an endless loop? The warp has run out of its budget of steps' >&2; exit 86", "hung"),
    ("echo 'CUDA emulator: signal 11 at host address 0x8' >&2; exit 86", "invalid", "killed"),
    ("exit 86", "invalid"),
    ("echo 'skipped: no CUDA device'; exit 77", "invalid"),
    ("exit 127", "invalid"),
    ("kill -KILL $$", "invalid"),
    ("kill -ABRT $$", "invalid"),
    ("echo \"terminate called after throwing an instance of 'kiln::Error'\" >&2; kill -ABRT $$", "invalid", "killed"),
    ("echo 'free(): invalid pointer' >&2; kill -ABRT $$", "invalid", "killed"),
    ("echo 'malloc(): invalid size (unsorted)' >&2; kill -ABRT $$", "invalid", "killed"),
    ("echo 'corrupted size vs. prev_size' >&2; kill -ABRT $$", "invalid", "killed"),
    ("kill -FPE $$", "invalid", "killed"),
    ("while :; do :; done", "hung"),
]


def self_test():
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="kiln-verdicts-") as folder:
        program = pathlib.Path(folder) / "tests"
        for does, *expected in ENDS:
            program.write_text(f"#!/bin/sh\n{does}\n")
            program.chmod(0o755)
            for host in (False, True):
                found = run_tests(program, "*", 1, {}, host)
                if (found and found[0]) != expected[-1 if host else 0]:
                    print(f"{does}: {found} instead of {expected}, host={host}")
                    wrong += 1
    limits = [(0, 0, False), (7, 72, False), (8, 72, True), (1, 12, False), (2, 12, True)]
    wrong += sum(too_many_invalid(invalid, judged) != expected for invalid, judged, expected in limits)
    print(f"{len(ENDS)} programs and {len(limits)} tallies, {wrong} judged wrongly")
    return 1 if wrong else 0
