#!/usr/bin/env python3
"""Reads every #include of the source and enforces who may include whom.

    includes.py              check the repository
    includes.py --self-test  break every rule once in a copy, and see each break reported with file and line
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

# Room: the folder (or file) it lives in, and the rooms it stands on. A room may include itself, what it stands on, and
# whatever that may include.
ROOMS = {
    "core": ("src/core", []),
    "device": ("src/device", ["core"]),
    "families": ("models/families", ["core"]),
    "config": ("src/config", ["core", "families"]),
    "kernels": ("kernels", ["device"]),
    "models": ("models", ["kernels", "families"]),
    "optim": ("optim", ["kernels"]),
    "data": ("data", ["core"]),
    "dist": ("src/dist", ["device"]),
    "plan": ("src/plan", ["config", "models", "optim", "dist"]),
    "train": ("src/train", ["plan", "data"]),
    "report": ("src/report", ["core"]),
    "cli": ("src/cli", ["train", "report"]),
    "main": ("src/main.cpp", ["cli"]),
}
FOLDERS = ["src", "kernels", "models", "optim", "data", "tests"]
SUFFIXES = {".h", ".hpp", ".cuh", ".inc", ".c", ".cc", ".cpp", ".cu"}

CUDA_HEADER = re.compile(
    r"^(cuda|cublas|cusolver|cusparse|curand|cufft|cudnn|nccl|nvrtc|nvml|nvtx|nvToolsExt|cooperative_groups|"
    r"driver_types|device_launch|cub/|thrust/|cutlass/|cute/|mma\.h)"
)
CUDA_PLACES = ("kernels/cuda/", "src/device/cuda", "src/dist/nccl", "tests/cuda_emulator/", "tests/cuda/")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include(?:_next)?[ \t]*(?:"([^"\n]*)"|<([^>\n]*)>|(\S.*))', re.MULTILINE)


def may_include(room):
    allowed, todo = set(), [room]
    while todo:
        next_room = todo.pop()
        if next_room not in allowed:
            allowed.add(next_room)
            todo += ROOMS[next_room][1]
    return allowed


def room_of(path):
    for room, (place, _) in ROOMS.items():
        if path == place or path.startswith(place + "/"):
            return room
    return None


def is_reference(path):
    return path.startswith("tests/") and re.match(r"reference.*\.h$", path.rsplit("/", 1)[-1]) is not None


def includes_of(text):
    """(line, path, quoted or not; path None for a macro) of each include outside comments."""
    text = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment.group().count("\n"), text, flags=re.DOTALL)
    for match in INCLUDE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        quoted, angled, _ = match.groups()
        yield line, quoted if quoted is not None else angled, quoted is not None


def read(root):
    """File -> its includes, for all source files of the repository."""
    project = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                project[path.relative_to(root).as_posix()] = list(includes_of(path.read_text(errors="replace")))
    return project


def check(project):
    """Every broken rule, as "file:line: what"."""
    failures = []
    for path, includes in project.items():
        room = room_of(path)
        in_tests = path.startswith("tests/")
        if not room and not in_tests:
            failures.append(f"{path}:1: belongs to no room of tests/architecture/includes.py")
        for line, included, quoted in includes:
            where = f"{path}:{line}"
            if included is None:
                failures.append(f"{where}: an include through a macro cannot be checked")
            elif CUDA_HEADER.match(included):
                if not path.startswith(CUDA_PLACES):
                    failures.append(f"{where}: CUDA header {included} outside of {', '.join(CUDA_PLACES)}")
            elif included not in project:
                if quoted:
                    failures.append(f"{where}: {included} is no source file (includes are rooted at the repository)")
            elif included.startswith("tests/"):
                if not in_tests:
                    failures.append(f"{where}: {included} belongs to the tests, which only tests may include")
            else:
                # A room's tests may include what the room may; tests of whole programs stand above everything.
                reader, target = room or room_of_tests(path), room_of(included)
                if reader and target and target not in may_include(reader):
                    stands_on = ", ".join(sorted(may_include(reader) - {reader})) or "the libraries"
                    failures.append(f"{where}: {reader} may not include {included}: it stands on {stands_on}")
        if is_reference(path):
            failures += check_reference(path, project)
    return failures


def room_of_tests(path):
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[1] in ROOMS else None


def check_reference(path, project):
    """A numeric reference reaches nothing of kernels/ or optim/, directly or through others."""
    failures = []
    for line, included, _ in project[path]:
        seen, todo = set(), [included]
        while todo:
            reached = todo.pop()
            if reached in seen:
                continue
            seen.add(reached)
            if reached.startswith(("kernels/", "optim/")):
                failures.append(f"{path}:{line}: a numeric reference must not reach {reached}")
            todo += [further for _, further, _ in project.get(reached, [])]
    return failures


def self_test(root):
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for folder in FOLDERS:
            shutil.copytree(root / folder, copy / folder)
        for room, (place, _) in ROOMS.items():  # a header of each room to include
            if room != "main":
                write(copy / place / "probe_target.h", "#pragma once\n")
        write(copy / "tests/probe_target.h", "#pragma once\n")
        for room in ("kernels", "optim"):
            write(copy / f"tests/probe_{room}.h", f'#include "{ROOMS[room][0]}/probe_target.h"\n')
        project = read(copy)
        untouched = check(project)
        if untouched:
            wrong.append("the copy fails before it is broken:\n  " + "\n  ".join(untouched))

        def expect(path, text, line, what):
            """Appends to (or makes) `path` what breaks a rule on the given line of `text`; line 0: breaks none."""
            file = copy / path
            before = file.read_text() if file.exists() else ""
            offset = before.count("\n")
            write(file, before + text)
            failures = [f for f in check({**project, path: list(includes_of(file.read_text()))}) if f not in untouched]
            write(file, before)
            if line == 0 and failures:
                wrong.append(f"{what} is allowed, but reported: {failures}")
            elif line and (len(failures) != 1 or not failures[0].startswith(f"{path}:{offset + line}: ")):
                wrong.append(f"{what} must be reported once, at {path}:{offset + line}, but: {failures}")

        count = 0
        for room, (place, _) in ROOMS.items():
            for other, (other_place, _) in ROOMS.items():
                if other == "main":
                    continue
                text = f'// a comment\n#include "{other_place}/probe_target.h"\n'
                line = 0 if other in may_include(room) else 2
                expect(place if room == "main" else f"{place}/probe.cpp", text, line, f"{room} -> {other}")
                if room != "main":
                    expect(f"tests/{room}/probe_test.cpp", text, line, f"tests of {room} -> {other}")
                    for real in [file for file in project if room_of(file) == room and "probe" not in file][:1]:
                        expect(real, text, line, f"{real} -> {other}")
                count += 1
            if room != "main":
                expect(f"{place}/probe.h", '#include "tests/probe_target.h"\n', 1, f"{room} -> tests")
                expect(f"{place}/probe.h", "#include <cuda_runtime.h>\n", 1, f"a CUDA header in {room}")
        for header in ("cuda_fp16.h", "cublasLt.h", "cusolverDn.h", "cudnn.h", "nccl.h", "cub/cub.cuh"):
            expect("models/probe.h", f"#pragma once\n#include <{header}>\n", 2, header)
            expect("tests/kernels/probe.h", f"#pragma once\n#include <{header}>\n", 2, header)
            for place in ("kernels/cuda/probe.cu", "src/device/cuda_probe.cpp", "src/dist/nccl_probe.cpp"):
                expect(place, f"#include <{header}>\n", 0, f"{header} in {place}")
        for room in ("kernels", "optim"):
            place = ROOMS[room][0]
            for include in (f"{place}/probe_target.h", f"tests/probe_{room}.h"):
                text = f'#pragma once\n\n#include "{include}"\n'
                expect("tests/plan/reference_probe.h", text, 3, f"a reference -> {include}")
                expect("tests/plan/probe.h", text, 0, f"another header of tests -> {include}")
        expect("models/probe.h", '#include "probe_target.h"\n', 1, "an include relative to its own folder")
        expect("models/probe.h", "#include PROBE\n", 1, "an include through a macro")
        expect("models/probe.h", '/*\n#include "optim/probe_target.h"\n*/\n// #include "optim/probe_target.h"\n', 0,
               "an include in a comment")
        expect("models/probe.h", '/* one\n   two */\n#  include <optim/probe_target.h>\n', 3, "a spaced, angled include")
        expect("src/attic/probe.h", "#pragma once\n", 1, "a folder that is no room")
    for failure in wrong:
        print(failure)
    print(f"{count} pairs of rooms and the other rules: " + ("all breaks reported" if not wrong else "FAILED"))
    return not wrong


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main():
    root = Path(os.environ.get("KILN_SOURCE", Path(__file__).resolve().parents[2]))
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(0 if self_test(root) else 1)
    project = read(root)
    failures = check(project)
    for failure in failures:
        print(failure)
    print(f"{len(project)} files: " + (f"{len(failures)} broken rules" if failures else "every include allowed"))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
