#!/usr/bin/env python3
"""What the families of models share is written once, and one more family is one more file.

    families.py              list what every file of models/ includes of models/, and check the rules below
    families.py --self-test  break each rule in a copy and see it reported

A family is a header of models/families that fills in a Family and stands on nothing but family.h. Of the other source no line
includes or qualifies one, or has its name as a string (but where that is the tokenizer's). No two files of models/ but
families have six lines of code in a row in common.
"""

import os
import re
import sys
from pathlib import Path

RUN = 6  # lines in a row that count as a copy
FOLDER = "models/families/"
SHARED = {FOLDER + "family.h", FOLDER + "list.h", FOLDER + "list.cpp"}
MAY_INCLUDE = {FOLDER + "family.h", "src/core/shape.h"}
ROOMS = ("models", "optim", "kernels", "data", "src")
# "gpt2" is a tokenizer too.
TOKENIZERS = {("src/config/relations.cpp", "gpt2"), ("src/train/run_tokenizer.cpp", "gpt2")}


def lines_of_code(text):
    """(number, line) without comments, blank lines, includes and what every file has."""
    for number, line in enumerate(text.splitlines(), 1):
        line = re.sub(r"//.*", "", line).strip()
        if line and not line.startswith(("#", "namespace", "using", "}")):
            yield number, line


def is_family(path):
    return path.startswith(FOLDER) and path not in SHARED


def check(files):
    failures = []
    families = [path[len(FOLDER):].removesuffix(".h") for path in files if is_family(path)]
    if len(families) < 2:
        failures.append(f"{FOLDER}: no two families found: have they moved?")
    names = "|".join(families)
    for path, text in files.items():
        if is_family(path):
            for include in re.findall(r'#include "([^"]+)"', text):
                if include not in MAY_INCLUDE:
                    failures.append(f"{path}: includes {include}; a family stands on {', '.join(sorted(MAY_INCLUDE))}")
            for number, line in lines_of_code(text):
                if re.search(r"\b(for|while|if)\s*\(|\bkernels::", re.sub(r'"[^"]*"', '""', line)):
                    failures.append(f"{path}:{number}: a family decides nothing and calls no kernel: {line}")
        else:
            for include in re.findall(rf'#include "({FOLDER}(?:{names})\.h)"', text):
                failures.append(f"{path}: includes {include}; only the list knows families by name")
            for number, line in lines_of_code(text):
                known = re.search(rf'"({names})"|\b({names})::', line)
                if known and (path, known[1]) not in TOKENIZERS:
                    failures.append(f"{path}:{number}: knows a family by name: {line}")
    seen = {}
    for path, text in files.items():
        if not path.startswith("models/") or is_family(path):  # families that are alike look alike
            continue
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
        "a kernel's header": (FOLDER + "llama.h", '#include "kernels/norm.h"\n'),
        "another family": (FOLDER + "llama.h", f'#include "{FOLDER}gpt2.h"\n'),
        "a loop": (FOLDER + "gpt2.h", "for (;;) {}\n"),
        "a family's header": ("models/transformer.cpp", f'#include "{FOLDER}gpt2.h"\n'),
        "a family's name": ("src/cli/cli.cpp", 'return name == "llama";\n'),
        "a family's design": ("models/transformer.cpp", "norm(families::gpt2::kFamily.norm_name);\n"),
        "a copy": ("models/transformer.cpp", block),
    }
    wrong = [f"untouched: {failure}" for failure in check(files)]
    third = re.sub(r"\bllama\b", "third", files[FOLDER + "llama.h"]).replace("rotary positions", "rotary positions for each head")
    wrong += [f"one more family: {failure}" for failure in check({**files, FOLDER + "third.h": third})]
    for what, (path, text) in breaks.items():
        broken = {**files, path: files[path] + text}
        if what == "a copy":
            broken["models/blocks.cpp"] += block
        if not check(broken):
            wrong.append(f"{what} in {path} is not reported")
    return wrong


def main():
    root = Path(os.environ.get("KILN_SOURCE", Path(__file__).resolve().parents[2]))
    files = {path.relative_to(root).as_posix(): path.read_text()
             for room in ROOMS for path in sorted((root / room).rglob("*")) if path.suffix in (".h", ".cpp")}
    if sys.argv[1:] == ["--self-test"]:
        failures = self_test(files)
    else:
        for path, text in files.items():
            if path.startswith("models/"):
                included = re.findall(r'#include "(models/[^"]+)"', text)
                print(f"{path}: {', '.join(included) or '-'}")
        failures = check(files)
    for failure in failures:
        print(failure)
    print("broken" if failures else "what families share is written once")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
