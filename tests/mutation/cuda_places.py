"""What is broken and where: the operators of cuda.py, and the places that they are applied to."""

import hashlib
import itertools
import re

SEED = 1


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

HOST_OPERATORS = {
    "swapped sizes": exchanged(("p.M", "p.N"), ("p.rows", "p.K"), ("rows", "cols"), ("p.out_dtype", "p.dtype")),
    "wrong leading dimension": either(by_pattern(r"(\.ld[abo] = )(p\.\w+)", r"\1\2 + 1"),
                                      exchanged(("p.lda", "p.K"), ("p.ldb", "p.ldo"))),
    "swapped transposes": either(by_pattern(r"(_transposed = )(true|false)", lambda m: m[1] + ("false" if m[2] == "true" else "true")),
                                 exchanged(("p.a_transposed", "p.b_transposed"), ("CUBLAS_OP_T", "CUBLAS_OP_N"))),
    "swapped operands": exchanged(("p.a", "p.b"), ("product.a", "product.b"), ("p.in", "p.d_out"), ("p.d_in", "p.weight->weight")),
    "dropped beta": either(by_pattern(r"(accumulate = )(?:true|p\.accumulate)", r"\1false"), by_pattern(r"p\.accumulate \? 1 : 0", "0")),
    "dropped wait or event": either(by_pattern(r"^ +[\w.>()\[\]-]*\b(?:synchronize|record|wait_for)\([^;]*\);$", ""),
                                    by_pattern(r"^ +check\(cuda(?:Stream|Event)(?:Synchronize|Record|WaitEvent)\([^;]*;$", "")),
    "short by one": by_pattern(r"\b(piece|bytes|chunks|piece\.bytes|buffer_bytes_)(?=[,)])", r"\1 - 1"),
    "index off by one": by_pattern(r" \+ (at|piece\.at|buffer_bytes_)\b", r" + \1 + 1"),
    "wrong alignment": by_pattern(r" % 16 != 0", " % 4 != 0"),
    "swapped grid": by_pattern(r"dim3\((\w+), (\w+)\)", r"dim3(\2, \1)"),
    "dropped remainder": by_pattern(r"\((\w+) \+ (\w+) - 1\) / \2\b", r"\1 / \2"),
    "dropped statement": by_pattern(r"^ +(?!return\b|if\b|for\b|require\b|static_assert\b)[\w.]+(?:<[\w ]+>)?\([^;{}]*\);$", ""),
    **{name: OPERATORS[name] for name in ("wrong sign", "wrong comparison", "exchanged extremes", "exchanged branches", "dropped factor")},
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


SAYS_ONLY = ("text_of", "name_of_status", "check", "cuda_versions")  # functions of messages


def host_code(code):
    """(begin, end) of the bodies of functions that run on the host."""
    device = list(device_code(code))
    for match in re.finditer(r"^(?!struct|class|namespace|enum|extern|using|__global__|__device__)\w[^;{}]*?\b(\w+)\([^;{}]*\{\n", code, re.M):
        end = code.find("\n}", match.end())
        is_device = any(begin <= match.end() <= last for begin, last in device)
        if match[1] not in SAYS_ONLY and end >= 0 and not is_device:
            yield match.end(), end + 1


class Mutant:
    def __init__(self, file, text, operator, begin, end, replacement, host=False):
        self.file, self.operator, self.text, self.host = file, operator, text[:begin] + replacement + text[end:], host
        self.name = file.split("/")[-1]
        self.number = text.count("\n", 0, begin) + 1
        lines = [line.strip() for line in text.splitlines()]
        self.line = lines[self.number - 1]
        self.mutated = self.text.splitlines()[self.number - 1].strip()
        self.ordinal = lines[self.number - 1:].count(self.line)  # among equal lines, counted from the end of the file
        start = text.rfind("\n", 0, begin) + 1
        key = f"{SEED} {file} {operator} {self.line} {begin - start}" + (f" {self.ordinal}" if self.ordinal > 1 else "")
        self.rank = hashlib.sha256(key.encode()).hexdigest()

    def __str__(self):
        which = f" ({self.ordinal} from the end)" if self.ordinal > 1 else ""
        return f"{self.name}:{self.number}: {self.operator}: {self.line}  ->  {self.mutated or '(nothing)'}{which}"


def in_turn(queues):
    """What is in the queues, one of each at a time."""
    return [item for turn in itertools.zip_longest(*queues) for item in turn if item]


def draw(files, regions, operators, host=False):
    """All mutants of {file: text} in the order in which they are taken: the operators in turn, within an operator the files in
    turn. `regions` of a text are looked at."""
    queues = {}
    for file, text in files.items():
        code = only_code(text)
        for begin, end in regions(code):
            for name, operator in operators.items():
                for first, last, replacement in operator(code[begin:end]):
                    mutant = Mutant(file, text, name, begin + first, begin + last, replacement, host)
                    queues.setdefault(name, {}).setdefault(file, {})[mutant.rank] = mutant
    names = sorted(queues, key=lambda name: hashlib.sha256(f"{SEED} {name}".encode()).digest())
    return in_turn([in_turn([[mutants[rank] for rank in sorted(mutants)] for _, mutants in sorted(queues[name].items())])
                    for name in names])


HOST_EVERY = 6


def draw_all(device_files, host_files):
    """Of device code, and every sixth of host code while there is any."""
    device = draw(device_files, device_code, OPERATORS)
    host = draw(host_files, host_code, HOST_OPERATORS, host=True)
    while device or host:
        take = min(HOST_EVERY - 1, len(device))
        yield from device[:take]
        yield from host[:1]
        device, host = device[take:], host[1:]
