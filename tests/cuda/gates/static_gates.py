"""What can be said of every CUDA kernel without executing it, held to what kernels/cuda/gates.json declares.

    static_gates.py --objects DIR --occupancy PROGRAM [--ptxas PTXAS]     a table on stdout; exit code 1 if a gate is shut
    static_gates.py --self-test --nvcc NVCC --occupancy PROGRAM           planted bad kernels, each of which must be found

Of each kernels/cuda/X.cu the build leaves DIR/X.cu.o, which holds PTX of every architecture. ptxas translates it once
more and reports: no spills, no stack, registers within the budget. Blocks on a multiprocessor are computed from that by
NVIDIA's occupancy calculator. In the text: no local memory, no fp64, no calls; 128-bit accesses, mma.sync and the like
where they are declared.

gates.json: {"X.cu": {"KERNEL": {...}}}, where KERNEL is a name with template arguments as c++filt writes them, without
namespaces; * stands for anything. The first that fits a kernel holds for it; every kernel must fit one, and every one must
fit a kernel.

  registers       the most that a thread may have, on any architecture
  dynamic_shared  bytes asked for at launch (0) for which the blocks are counted; where a launch asks for more if rows are wider,
                  those of a usual width: norm_backward's are 2 C floats with C = 768
  blocks          the least number of blocks that must fit a multiprocessor then (1)
  ptx             {instruction: how many of them there must be at least, on every architecture}: parts of the name in order
                  ("cp.async", "mma.sync.bf16"); 128 stands for a width of 128 bits in whatever type ("ld.global.128")
  narrow          {"ld.global" | "st.shared" | ...: the most narrower accesses of that kind that there may be, on any
                  architecture, or {"80": ..., "90": ..., "100": ...} on each}. Only where ptx asks for 128 bits of that kind; there it is 0 unless declared, so that one wide
                  access does not hide that the others have been taken apart
  allowed         {"spills" | "stack" | "local" | "f64" | "calls": why}
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("KILN_SOURCE", pathlib.Path(__file__).resolve().parents[3]))
ARCHITECTURES = (80, 90, 100)
TEXT_FAULTS = {"local": r"\.local\b", "f64": r"\.f64\b", "calls": r"^\s*(?:@!?%\w+\s+)?call\b"}
KEYS = {"registers", "dynamic_shared", "blocks", "ptx", "narrow", "allowed"}


class GateError(Exception):
    """Something that keeps the gates from looking at all."""


def ptx_in_object(path):
    """{architecture: PTX} of the fat binary in an object of nvcc (--compress-mode=none)."""
    data = pathlib.Path(path).read_bytes()
    begin = data.find(struct.pack("<I", 0xBA55ED50))
    if begin < 0:
        raise GateError(f"{path} holds no device code")
    header, size = struct.unpack_from("<HQ", data, begin + 6)
    found, at = {}, begin + header
    while at < begin + header + size:  # kind, version, size of this header, size of the payload; architecture at 28
        kind, _, head, payload = struct.unpack_from("<HHIQ", data, at)
        if kind == 1:
            text = data[at + head:at + head + payload].split(b"\0")[0].decode(errors="replace")
            if ".version" not in text:
                raise GateError(f"{path}: the PTX is compressed; nvcc --compress-mode=none leaves it readable")
            found[struct.unpack_from("<I", data, at + 28)[0]] = text
        at += head + payload
    return found


def entries(ptx):
    """{mangled name: (what stands before the body, body)} of the kernels in a text of PTX."""
    found = {}
    for match in re.finditer(r"^(?:\.visible\s+|\.weak\s+)?\.entry\s+(\S+?)\s*\(", ptx, re.M):
        begin = ptx.index("\n{", match.end())
        found[match[1]] = ptx[match.start():begin], ptx[begin:ptx.index("\n}", begin)]
    return found


def demangled(names):
    """{mangled: name<arguments> without namespaces}"""
    said = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    result = {}
    for mangled, text in zip(names, said.splitlines()):
        text = re.sub(r"\(anonymous namespace\)::|\b\w+::", "", text).replace("(kiln::", "(")
        depth = 0
        for end, c in enumerate(text):
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                break
        else:
            end = len(text)
        text = text[:end]
        result[mangled] = re.sub(r"^void ", "", text).replace("> >", ">>")
    return result


def is_match(wanted, opcode):
    """Whether the parts of `wanted` occur in the opcode in this order."""
    parts = opcode.split(".")
    vector = next((int(p[1:]) for p in parts if re.fullmatch(r"v[248]", p)), 1)
    bits = next((int(p[1:]) for p in reversed(parts) if re.fullmatch(r"[bfsu](8|16|32|64|128)", p)), 0)
    rest = iter(parts)
    return all(vector * bits == 128 if part == "128" else part in rest for part in wanted.split("."))


def opcodes(body):
    return re.findall(r"^\s*(?:@!?%\w+\s+)?([a-z][\w.:]*)[^\n]*;", body, re.M)


def most_narrow(gate, kind, architecture):
    most = gate.get("narrow", {}).get(kind, 0)
    return most.get(str(architecture), 0) if isinstance(most, dict) else most


def miscounted(gate, there, architecture):
    """What the opcodes lack, and which accesses are too narrow, as ends of sentences."""
    for wanted, least in gate.get("ptx", {}).items():
        found = sum(is_match(wanted, opcode) for opcode in there)
        if found < least:
            yield f"no {wanted}" if found == 0 else f"{found} {wanted}, {least} are declared"
        if wanted.endswith(".128"):
            kind = wanted.removesuffix(".128")
            narrow = sum(is_match(kind, opcode) and not is_match(wanted, opcode) for opcode in there)
            if narrow > (most := most_narrow(gate, kind, architecture)):
                yield f"{narrow} {kind} narrower than 128 bits, {most} are declared"
    for kind in gate.get("narrow", {}):
        if f"{kind}.128" not in gate.get("ptx", {}):
            yield f"narrow {kind} are declared, but no {kind}.128"


def report_of(ptxas, ptx, architecture):
    """{mangled: {registers, stack, spills, shared}} as ptxas reports."""
    with tempfile.TemporaryDirectory(prefix="kiln-gates-") as folder:
        path = pathlib.Path(folder) / "kernels.ptx"
        path.write_text(ptx)
        ran = subprocess.run([ptxas, f"-arch=sm_{architecture}", "-v", path, "-o", path.with_suffix(".cubin")],
                             capture_output=True, text=True, check=False)
    if ran.returncode:
        raise GateError(f"ptxas refuses the PTX for sm_{architecture}:\n{ran.stderr}")
    found, current = {}, None
    for line in (ran.stdout + ran.stderr).splitlines():
        if match := re.search(r"Compiling entry function '(\S+)'", line):
            current = found[match[1]] = {"shared": 0}
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            current["stack"], current["spills"] = int(match[1]), int(match[2]) + int(match[3])
        elif match := re.search(r"Used (\d+) registers", line):
            current["registers"] = int(match[1])
            if match := re.search(r"(\d+) bytes smem", line):
                current["shared"] = int(match[1])
    for name, values in found.items():
        if not {"stack", "spills", "registers"} <= values.keys():
            raise GateError(f"ptxas' report on {name} cannot be understood:\n{ran.stderr}")
    return found


def occupancies(program, lines):
    said = subprocess.run([program], input="".join(" ".join(map(str, line)) + "\n" for line in lines), capture_output=True,
                          text=True, check=False)
    if said.returncode or len(said.stdout.splitlines()) != len(lines):
        raise GateError(f"{program} does not answer: {said.stderr.strip()}")
    return [tuple(map(int, line.split())) for line in said.stdout.splitlines()]


def gate_of(declared, name):
    """The key of the first declaration that fits, or None."""
    return next((key for key in declared if re.fullmatch(fnmatch.translate(key.replace("[", "[[]")), name)), None)


def look(sources, table, ptxas, occupancy):
    """`sources`: {X.cu: {architecture: PTX}}. Faults as a list of sentences, and rows for the table."""
    faults, rows = [], []
    for name in sorted(table.keys() - sources.keys()):
        faults.append(f"{name}: declared in gates.json, but there is no such file")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        reports = {(source, architecture): pool.submit(report_of, ptxas, ptx, architecture)
                   for source, texts in sources.items() for architecture, ptx in texts.items()}
        for source, texts in sorted(sources.items()):
            declared, used = table.get(source, {}), set()
            for key, gate in declared.items():
                for unknown in sorted(gate.keys() - KEYS):
                    faults.append(f"{source}: {key}: gates.json says {unknown}, which means nothing")
            for architecture, ptx in sorted(texts.items()):
                kernels = entries(ptx)
                names = demangled(list(kernels))
                for mangled, (header, body) in sorted(kernels.items(), key=lambda kernel: names[kernel[0]]):
                    kernel, key = names[mangled], gate_of(declared, names[mangled])
                    where = f"{source}: {kernel} on sm_{architecture}"
                    if key is None:
                        faults.append(f"{where}: not declared in gates.json")
                        continue
                    used.add(key)
                    gate, made = declared[key], reports[source, architecture].result()[mangled]
                    allowed = gate.get("allowed", {})
                    if made["registers"] > gate.get("registers", 0):
                        faults.append(f"{where}: {made['registers']} registers, {gate.get('registers', 0)} are declared")
                    for what in ("spills", "stack"):
                        if made[what] and what not in allowed:
                            faults.append(f"{where}: {made[what]} bytes of {what}")
                    for what, pattern in TEXT_FAULTS.items():
                        if what not in allowed and (found := re.search(pattern, body, re.M)):
                            faults.append(f"{where}: {what}: {line_around(body, found)}")
                    faults += [f"{where}: {fault}" for fault in miscounted(gate, opcodes(body), architecture)]
                    threads = re.search(r"\.(?:max|req)ntid (\d+)(?:, (\d+))?(?:, (\d+))?", header)
                    if not threads:
                        faults.append(f"{where}: no __launch_bounds__, so its registers are nobody's")
                        continue
                    size = int(threads[1]) * int(threads[2] or 1) * int(threads[3] or 1)
                    rows.append({"where": where, "source": source, "kernel": kernel, "architecture": architecture,
                                 "threads": size, "dynamic": gate.get("dynamic_shared", 0), "blocks": gate.get("blocks", 1), **made})
            for key in declared.keys() - used:
                faults.append(f"{source}: {key}: declared in gates.json, but no kernel is called so")
    asked = [(row["architecture"], row["threads"], row["registers"], row["shared"], row["dynamic"]) for row in rows]
    for row, (blocks, share) in zip(rows, occupancies(occupancy, asked)):
        row["together"], row["share"] = blocks, share
        if blocks < row["blocks"]:
            faults.append(f"{row['where']}: {blocks} blocks fit a multiprocessor, {row['blocks']} are declared")
    return faults, rows


def line_around(text, match):
    return text[text.rfind("\n", 0, match.start()) + 1:].split("\n", 1)[0].strip()


def print_table(rows):
    """One line a kernel; what differs between architectures as 80/90/100."""
    kernels = {}
    for row in rows:
        kernels.setdefault((row["source"], row["kernel"]), []).append(row)
    width = max((len(kernel) for _, kernel in kernels), default=0)
    print(f"{'kernel':{width}}  threads  registers   shared      blocks  occupancy %")
    source = None
    for (file, kernel), same in sorted(kernels.items()):
        if file != source:
            print(file)
            source = file

        def per_architecture(key, same=same):
            values = [str(row[key]) for row in sorted(same, key=lambda row: row["architecture"])]
            return values[0] if len(set(values)) == 1 else "/".join(values)
        shared = f"{max(row['shared'] for row in same)}+{same[0]['dynamic']}"
        print(f"{kernel:{width}}  {same[0]['threads']:7}  {per_architecture('registers'):>9}  {shared:>8}"
              f"  {per_architecture('together'):>10}  {per_architecture('share'):>11}")


def check_build(options):
    folder = ROOT / "kernels/cuda"
    table = json.loads((folder / "gates.json").read_text())
    sources = {}
    for file in sorted(folder.glob("*.cu")):
        found = ptx_in_object(pathlib.Path(options.objects) / f"{file.name}.o")
        if missing := [a for a in ARCHITECTURES if a not in found]:
            raise GateError(f"{file.name}.o holds no PTX of {', '.join(f'compute_{a}' for a in missing)}")
        sources[file.name] = {architecture: found[architecture] for architecture in ARCHITECTURES}
    faults, rows = look(sources, table, options.ptxas, options.occupancy)
    print_table(rows)
    for fault in faults:
        print(f"error: {fault}")
    print(f"{len(rows)} kernels of {len(sources)} files (sm_{', sm_'.join(map(str, ARCHITECTURES))} counted apart), "
          f"{len(faults)} faults")
    return 1 if faults else 0


# ---- The self-test: planted.cu holds one kernel a fault. ----

GOOD = {"registers": 255}
PLANTED = {  # kernel: (what is declared, what must be found; None: nothing)
    "good": ({"registers": 40, "ptx": {"ld.global.128": 1, "st.global.128": 1}}, None),
    "many_registers": ({"registers": 40}, "registers, 40 are declared"),
    "spills": (GOOD, "bytes of spills"),
    "stack": ({**GOOD, "allowed": {"local": "test"}}, "bytes of stack"),
    "local_array": ({**GOOD, "allowed": {"stack": "test"}}, "local: "),
    "fp64": (GOOD, "f64: "),
    "fp64_on_purpose": ({**GOOD, "allowed": {"f64": "test"}}, None),
    "calls": (GOOD, "calls: call"),
    "narrow": ({**GOOD, "ptx": {"ld.global.128": 1}}, "no ld.global.128"),
    "narrow_store": ({**GOOD, "ptx": {"ld.global.128": 1, "st.global.128": 1}}, "no st.global.128"),
    "one_wide_of_two": ({**GOOD, "ptx": {"ld.global.128": 2}, "narrow": {"ld.global": 4}}, "1 ld.global.128, 2 are declared"),
    "taken_apart": ({**GOOD, "ptx": {"st.global.128": 1}}, "4 st.global narrower than 128 bits, 0 are declared"),
    "narrow_on_purpose": ({**GOOD, "ptx": {"st.global.128": 1}, "narrow": {"st.global": 4}}, None),
    "narrow_elsewhere": ({**GOOD, "ptx": {"st.global.128": 1}, "narrow": {"st.global": {"80": 3, "90": 4}}},
                         "4 st.global narrower than 128 bits, 3 are declared"),
    "nothing_wide": ({**GOOD, "narrow": {"st.global": 1}}, "narrow st.global are declared, but no st.global.128"),
    "without_mma": ({**GOOD, "ptx": {"mma.sync": 1}}, "no mma.sync"),
    "with_mma": ({**GOOD, "ptx": {"mma.sync.bf16": 1}}, None),
    "unbounded": (GOOD, "no __launch_bounds__"),
    "wide_block": ({**GOOD, "dynamic_shared": 100 << 10, "blocks": 3}, "blocks fit a multiprocessor, 3 are declared"),
    "instance<2>": ({"registers": 40}, None),
    "instance<*>": ({"registers": 10}, "instance<1> on sm_80: "),
    "misspelt": ({**GOOD, "register": 1}, "gates.json says register, which means nothing"),
    "is_gone": (GOOD, "no kernel is called so"),
}


def self_test(options):
    with tempfile.TemporaryDirectory(prefix="kiln-gates-") as folder:
        path = pathlib.Path(folder) / "planted.o"
        subprocess.run([options.nvcc, "-std=c++20", "-O3", "-gencode", "arch=compute_80,code=compute_80", "--compress-mode=none",
                        "-c", ROOT / "tests/cuda/gates/planted.cu", "-o", path], check=True)
        sources = {"planted.cu": {80: ptx_in_object(path)[80]}}
    table = {"planted.cu": {name: gate for name, (gate, _) in PLANTED.items()}, "gone.cu": {}}
    faults, rows = look(sources, table, options.ptxas, options.occupancy)
    print_table(rows)
    expected = {f"planted.cu: {name}": fault for name, (_, fault) in PLANTED.items()}
    expected["planted.cu: undeclared"] = "not declared in gates.json"
    expected["planted.cu: instance"] = expected.pop("planted.cu: instance<*>")
    expected["gone.cu"] = "there is no such file"
    wrong = []
    for begin, fault in expected.items():
        found = [f for f in faults if re.match(re.escape(begin) + r"\b" * begin[-1].isalnum(), f)]
        if fault is None and found:
            wrong.append(f"a false alarm: {found}")
        elif fault is not None and not any(fault in f for f in found):
            wrong.append(f"not found: {begin}: {fault} (found: {found})")
    for fault in wrong:
        print(fault)
    print(f"{len(expected)} planted kernels and tables, {len(wrong)} judged wrongly")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", help="where X.cu.o are")
    parser.add_argument("--occupancy", required=True, help="the built tests/cuda/gates/occupancy.cpp")
    parser.add_argument("--ptxas", default="ptxas")
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    try:
        return self_test(options) if options.self_test else check_build(options)
    except GateError as error:
        print(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
