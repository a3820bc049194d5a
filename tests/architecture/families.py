#!/usr/bin/env python3
"""What the families of models share is written once.

    families.py              list what every file of models/ includes of models/, and check the rules below
    families.py --self-test  break each rule in a copy and see it reported

A family's file is a Design: it includes its own header and models/transformer.h, has no loop and calls no kernel. No two
files of models/ have six lines of code in a row in common.
"""

import os
import re
import sys
from pathlib import Path

RUN = 6  # lines in a row that count as a copy


def lines_of_code(text):
    """(number, line) without comments, blank lines, includes and what every file has."""
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"//.*", "", line).strip()
        if line and not line.startswith(("#", "namespace", "using", "}")):
            yield number, line


def check(files):
    failures = []
    families = re.findall(r'family == "(\w+)"', files["models/families.cpp"])
    if len(families) < 2:
        failures.append("models/families.cpp: no two families found: has the dispatch changed?")
    for family in families:
        path = f"models/{family}.cpp"
        allowed = {f"models/{family}.h", "models/transformer.h"}
        for include in re.findall(r'#include "([^"]+)"', files[path]):
            if include not in allowed:
                failures.append(f"{path}: includes {include}; a family is a Design and stands on models/transformer.h")
        for number, line in lines_of_code(files[path]):
            if re.search(r"\b(for|while|if|kernels::)", line):
                failures.append(f"{path}:{number}: a family decides nothing and calls no kernel: {line}")
    seen = {}
    for path, text in files.items():
        code = list(lines_of_code(text))
        for i in range(len(code) - RUN + 1):
            run = tuple(line for _, line in code[i:i + RUN])
            where = f"{path}:{code[i][0]}"
            if run in seen and seen[run].split(":")[0] != path:
                failures.append(f"{where}: {RUN} lines that also stand at {seen[run]}")
            seen.setdefault(run, where)
    return failures


def self_test(files):
    block = "\n".join(f"  step_{i}(x);" for i in range(RUN))
    breaks = {
        "a kernel's header": ("models/llama.cpp", '#include "kernels/norm.h"\n'),
        "another family": ("models/llama.cpp", '#include "models/gpt2.h"\n'),
        "a loop": ("models/gpt2.cpp", "for (;;) {}\n"),
        "a copy": ("models/gpt2.cpp", block),
    }
    wrong = [f"untouched: {failure}" for failure in check(files)]
    for what, (path, text) in breaks.items():
        broken = {**files, path: files[path] + text}
        if what == "a copy":
            broken["models/llama.cpp"] += block
        if not check(broken):
            wrong.append(f"{what} in {path} is not reported")
    return wrong


def main():
    root = Path(os.environ.get("KILN_SOURCE", Path(__file__).resolve().parents[2]))
    files = {path.relative_to(root).as_posix(): path.read_text() for path in sorted((root / "models").iterdir())}
    if sys.argv[1:] == ["--self-test"]:
        failures = self_test(files)
    else:
        for path, text in files.items():
            included = re.findall(r'#include "(models/[^"]+)"', text)
            print(f"{path}: {', '.join(included) or '-'}")
        failures = check(files)
    for failure in failures:
        print(failure)
    print("broken" if failures else "what families share is written once")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
