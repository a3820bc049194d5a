#!/usr/bin/env python3
"""Every symbol that a CPU kernel variant exports must be its own.

The same files are compiled once per instruction set. An inline function that is not inlined becomes a weak symbol, of
which the linker keeps any one copy: if that is the AVX-512 copy of, say, a std::string constructor, the program crashes
on a machine without AVX-512, far away from any kernel. So each variant may define only symbols that carry its own
namespace, kiln::kernels::cpu::<variant>, in their names.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

# Data that the compiler emits for exception handling: a pointer, the same in every copy.
HARMLESS = {"DW.ref.__gxx_personality_v0"}


def exported(objects):
    """(object, symbol) of every global or weak definition."""
    command = ["nm", "--demangle", "--defined-only", "--extern-only", "--print-file-name", *map(str, objects)]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        match = re.match(r"(.*?\.o):([0-9a-f]*) +(\S) (.*)", line)
        if not match:
            sys.exit(f"nm wrote a line that this test does not understand: {line}")
        yield Path(match[1]).name, match[4]


def main():
    build = Path(os.environ["KILN_BUILD"])
    folders = sorted(build.glob("CMakeFiles/kiln_kernels_*.dir"))
    if not folders:
        sys.exit(f"no kernel variants in {build}/CMakeFiles: build kiln first")
    failures = 0
    for folder in folders:
        isa = folder.name[len("kiln_kernels_") : -len(".dir")]
        objects = sorted(folder.rglob("*.o"))
        if not objects:
            sys.exit(f"{folder} holds no object files: build kiln first")
        own = f"kiln::kernels::cpu::{isa}::"
        symbols = list(exported(objects))
        foreign = [(name, symbol) for name, symbol in symbols if own not in symbol and symbol not in HARMLESS]
        for name, symbol in foreign:
            print(f"{isa}/{name} defines {symbol}")
        print(f"{isa}: {len(objects)} objects, {len(symbols)} exported symbols, {len(foreign)} outside of {own}")
        failures += len(foreign)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
