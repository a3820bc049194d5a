"""Breaks the formulas of the optimizers one at a time, in a copy of the tree, and sees their tests fail.

    optimizers.py [--only N,M] [--jobs J]    list and survivors on stdout; exit code 1 if a mutant is not killed or does not compile

Each mutant is one textual replacement that must match exactly once; operators: sign, swapped factor, dropped transpose,
dropped floor, wrong exponent, wrong seed, skipped step, wrong average, wrong order. Killed is what fails a test; a test program
that crashes or takes too long ends in a class of its own, which counts as survival until somebody has looked."""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(os.environ.get("KILN_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
MUTANTS = [
    # optim/muon
    ("muon: momentum keeps 1 - mu", "optim/muon.cpp", ".beta = mu}", ".beta = 1 - mu}"),
    ("muon: Nesterov inverted", "optim/muon.cpp", "if (options_.nesterov)", "if (!options_.nesterov)"),
    ("muon: scale by the smaller side", "optim/muon.cpp", "0.2 * std::sqrt(std::max(m, n))", "0.2 * std::sqrt(std::min(m, n))"),
    ("muon: spectral scale inverted", "optim/muon.cpp", "std::max(1.0, m / n)", "std::max(1.0, n / m)"),
    ("muon: decay after the update", "optim/muon.cpp", ".decay_first = true", ".decay_first = false"),
    ("muon: gradient scale dropped", "optim/muon.cpp", "fresh = (1 - mu) * info.gradient_scale;", "fresh = 1 - mu;"),
    ("muon: schedule dropped", "optim/muon.cpp", ".lr = options_.lr * info.lr_multiplier", ".lr = options_.lr"),
    # optim/newton_schulz
    ("newton_schulz: sign of c", "optim/newton_schulz.cpp", ".alpha = c,", ".alpha = -c,"),
    ("newton_schulz: b dropped", "optim/newton_schulz.cpp", ".beta = b,", ".beta = 0,"),
    ("newton_schulz: a dropped", "optim/newton_schulz.cpp", ".beta = a,", ".beta = 1,"),
    ("newton_schulz: no safety", "optim/newton_schulz.cpp", ".safety = set.safety", ".safety = 1"),
    ("newton_schulz: a tall matrix is not transposed back", "optim/newton_schulz.cpp",
     ".cols = cols, .x_transposed = true}", ".cols = cols}"),
    ("newton_schulz: a coefficient", "optim/newton_schulz.cpp", "{3.285753658,", "{3.285753658 * 0.99,"),
    # optim/matrix_root
    ("root: wrong exponent of the basis", "optim/matrix_root.cpp",
     ".along = kernels::Along::columns,\n                                  .power = -0.25", ".along = kernels::Along::columns,\n                                  .power = -0.5"),
    ("root: wrong exponent of the decomposition", "optim/matrix_root.cpp",
     ".along = kernels::Along::rows,\n                                  .power = -0.25", ".along = kernels::Along::rows,\n                                  .power = -0.5"),
    ("root: basis transposed", "optim/matrix_root.cpp", ".b_transposed = true,\n                                    .symmetric",
     ".a_transposed = true,\n                                    .symmetric"),
    ("root: Z from Y", "optim/matrix_root.cpp", "product(context, next_z, p, z, z,", "product(context, next_z, p, z, y,"),
    ("root: one step less", "optim/matrix_root.cpp", "for (const auto& [a, b] : kCubics) {",
     "for (const auto& [a, b] : kCubics) {\n    if (a == 1.5) continue;"),
    ("root: no take-over", "optim/matrix_root.cpp", "if (residual[k] <= 1e-2", "if (residual[k] <= 1e9"),
    # optim/factors
    ("factors: momentum", "optim/factors.cpp", ".alpha = (1 - b1) * scale", ".alpha = scale"),
    ("factors: basis on the wrong side", "optim/factors.cpp", ".a = s, .b = q,", ".a = q, .b = s,"),
    ("factors: nothing kept", "optim/factors.cpp", ".add = p.keep != 0 ? p.s : nullptr", ".add = nullptr"),
    # optim/kl_shampoo
    ("kl: S_a seed of the other size", "optim/kl_shampoo.cpp", ".add = (1 - options_.b2) * scale * scale / n,",
     ".add = (1 - options_.b2) * scale * scale / m,"),
    ("kl: seed level", "optim/kl_shampoo.cpp", "scale / std::sqrt(m * n);", "scale / std::sqrt(m);"),
    ("kl: constant of the seed", "optim/kl_shampoo.cpp", "constant ? 0.1 : rms", "constant ? 0.2 : rms"),
    ("kl: clamp", "optim/kl_shampoo.cpp", "return 1 / (clamp * clamp);", "return 1 / clamp;"),
    ("kl: Q_a not transposed", "optim/kl_shampoo.cpp", "product(left, s.state[kQa], s.state[kM], m, true, false);",
     "product(left, s.state[kQa], s.state[kM], m, false, false);"),
    ("kl: Q_b not transposed back", "optim/kl_shampoo.cpp", "product(both, left, s.state[kQb], n, false, true);",
     "product(both, left, s.state[kQb], n, false, false);"),
    ("kl: eps dropped", "optim/kl_shampoo.cpp", ".eps = options_.eps}", ".eps = 0}"),
    ("kl: whitening exponent", "optim/kl_shampoo.cpp",
     ".along = kernels::Along::columns,\n                                  .power = -0.5", ".along = kernels::Along::columns,\n                                  .power = -0.25"),
    ("kl: left whitening exponent", "optim/kl_shampoo.cpp",
     ".along = kernels::Along::rows,\n                                  .power = -0.5", ".along = kernels::Along::rows,\n                                  .power = -1"),
    ("kl: no refresh", "optim/kl_shampoo.cpp", "info.t % options_.refresh == 0", "false"),
    ("kl: refresh of one side only", "optim/kl_shampoo.cpp",
     "            power_step(context, s.state[kQb], s.state[kSb], s.count, s.cols, events_);\n", ""),
    ("kl: decay first", "optim/kl_shampoo.cpp", ".decay_first = false", ".decay_first = true"),
    ("kl: roots of the old factors", "optim/kl_shampoo.cpp",
     "          statistics_by_roots(context, s, info);\n          update_by_roots(context, s, info);",
     "          update_by_roots(context, s, info);\n          statistics_by_roots(context, s, info);"),
    ("kl: gradient scale of M dropped", "optim/kl_shampoo.cpp", "options_.b1, info.gradient_scale);", "options_.b1, 1);"),
    ("kl: gradient scale of the seed dropped", "optim/kl_shampoo.cpp", "scale = info.gradient_scale;\n  const double rms", "scale = info.gradient_scale / info.gradient_scale;\n  const double rms"),
    ("kl: gradient scale of the statistics dropped", "optim/kl_shampoo.cpp",
     "scale = info.gradient_scale, fresh = 1 - options_.b2;\n  Scratch scratch(context);\n  kernels::Matrices left", "scale = info.gradient_scale / info.gradient_scale, fresh = 1 - options_.b2;\n  Scratch scratch(context);\n  kernels::Matrices left"),
    ("kl: gradient scale of the statistics by roots dropped", "optim/kl_shampoo.cpp",
     "scale = info.gradient_scale, fresh = 1 - options_.b2;\n  Scratch scratch(context);\n  kernels::Matrices root_a", "scale = info.gradient_scale / info.gradient_scale, fresh = 1 - options_.b2;\n  Scratch scratch(context);\n  kernels::Matrices root_a"),
    ("kl: schedule dropped", "optim/kl_shampoo.cpp", ".lr = options_.lr * info.lr_multiplier", ".lr = options_.lr"),
    # optim/pro_kl_shampoo
    ("pro: gradient scale of M dropped", "optim/pro_kl_shampoo.cpp", "options_.b1, info.gradient_scale);", "options_.b1, 1);"),
    ("pro: gradient scale of the seed dropped", "optim/pro_kl_shampoo.cpp",
     "oriented(context, s, gradient, s.grad, s.ld, info.gradient_scale);\n  const double* sum", "oriented(context, s, gradient, s.grad, s.ld, info.gradient_scale / info.gradient_scale);\n  const double* sum"),
    ("pro: gradient scale of the statistics dropped", "optim/pro_kl_shampoo.cpp",
     "oriented(context, s, gradient, s.grad, s.ld, info.gradient_scale);\n  const bool basis", "oriented(context, s, gradient, s.grad, s.ld, 1);\n  const bool basis"),
    ("pro: schedule dropped", "optim/pro_kl_shampoo.cpp", ".lr = options_.lr * info.lr_multiplier", ".lr = options_.lr"),
    ("pro: complement not projected once more", "optim/pro_kl_shampoo.cpp",
     "    project(context, s, complement, complement, inside, s.state[kU], m, n, r);\n", ""),
    ("pro: complements skipped at r = n are not counted", "optim/pro_kl_shampoo.cpp", "events_.skipped_complements += s.count;", ""),
    ("pro: complements of rounding are not counted", "optim/pro_kl_shampoo.cpp", "scale[k] == 0;", "scale[k] == 1;"),
    ("pro: subspace share of the outside", "optim/pro_kl_shampoo.cpp", "inside / (inside + outside)", "inside / outside"),
    ("pro: orientation", "optim/pro_kl_shampoo.cpp", "&& rows > cols;", "&& rows < cols;"),
    ("pro: left root on the wrong side", "optim/pro_kl_shampoo.cpp", ".b_transposed = transposed});", ".b_transposed = !transposed && m == n});"),
    ("pro: core root dropped", "optim/pro_kl_shampoo.cpp",
     "multiply(context, s, {.out = scaled, .a = inside, .b = roots.core, .M = m, .N = r, .K = r});\n    multiply(context, s,\n             {.out = direction, .a = scaled",
     "multiply(context, s, {.out = scaled, .a = inside, .b = roots.core, .M = m, .N = r, .K = r});\n    multiply(context, s,\n             {.out = direction, .a = inside"),
    ("pro: projection added", "optim/pro_kl_shampoo.cpp", ".alpha = -1,\n            .add = x", ".alpha = 1,\n            .add = x"),
    ("pro: matched scale", "optim/pro_kl_shampoo.cpp", "(1 - options_.b1) / (1 + options_.b1)", "(1 - options_.b1) / (2 + options_.b1)"),
    ("pro: size of the complement", "optim/pro_kl_shampoo.cpp", "std::max(m, n - r)", "std::max(m, n)"),
    ("pro: graft off", "optim/pro_kl_shampoo.cpp", ".graft = options_.scale == ComplementScale::graft ||", ".graft ="),
    ("pro: complement subtracted", "optim/pro_kl_shampoo.cpp",
     ".alpha = 1,\n                                    .beta = 1,\n                                    .scale = scale", ".alpha = -1,\n                                    .beta = 1,\n                                    .scale = scale"),
    ("pro: l_a updated before it is read", "optim/pro_kl_shampoo.cpp", ".along = kernels::Along::rows,\n                                    .power = -0.5",
     ".along = kernels::Along::rows,\n                                    .power = -0.25"),
    ("pro: S_a forgets", "optim/pro_kl_shampoo.cpp",
     ".keep = options_.b2,\n                          .add = fresh});", ".keep = 1,\n                          .add = fresh});"),
    ("pro: tail of H dropped", "optim/pro_kl_shampoo.cpp", "  if (r == n) return;\n  project", "  if (r <= n) return;\n  project"),
    ("pro: tracker forgets U", "optim/pro_kl_shampoo.cpp", ".add = s.state[kU],\n              .beta = options_.b2});", ".add = s.state[kU],\n              .beta = 1});"),
    ("pro: tracker never turns", "optim/pro_kl_shampoo.cpp", "info.t % options_.tracker_every == 0", "info.t < 0"),
    ("pro: b transposed", "optim/pro_kl_shampoo.cpp", "{.out = b, .a = next, .b = s.state[kU]", "{.out = b, .a = s.state[kU], .b = next"),
    ("pro: Y not reset", "optim/pro_kl_shampoo.cpp", "options_.tracker == Tracker::accumulate && due", "options_.tracker == Tracker::accumulate && !due"),
    ("pro: S average", "optim/pro_kl_shampoo.cpp", ".add = (1 - options_.b2) / static_cast<double>(m)",
     ".add = (1 - options_.b2) / static_cast<double>(n)"),
    ("pro: no refresh", "optim/pro_kl_shampoo.cpp", "info.t % options_.refresh == 0", "false"),
    ("pro: seed level", "optim/pro_kl_shampoo.cpp", "1 / std::sqrt(static_cast<double>(m * n))", "2 / std::sqrt(static_cast<double>(m * n))"),
    # optim/seeding
    ("seeding: zero gradients seed", "optim/seeding.h", "squares[k] > 0", "squares[k] >= 0"),
    # optim/report, spectrum
    ("report: scale inside the root", "optim/report.cpp", "scale * std::sqrt(updates[k] / elements)", "std::sqrt(scale * updates[k] / elements)"),
    ("report: weight squared", "optim/report.cpp", "std::sqrt(weights[k] / elements)", "weights[k] / elements"),
    ("report: greatest eigenvalue for the least", "optim/report.cpp", "_min\", name, what), ascending[0]", "_min\", name, what), ascending[n - 1]"),
    ("report: retries are failures", "optim/report.cpp", "\"retried_factorisations\", events.retried", "\"retried_factorisations\", events.failed"),
    ("report: times never start anew", "optim/report.cpp", "  times = {};\n", ""),
    ("report: AdamW's correction the other way", "optim/adamw.cpp", "m_scale * m[j] /", "m[j] / m_scale /"),
    ("spectrum: a tail one shorter", "optim/spectrum.cpp", "i < n - rank; i++) tail.grow();", "i < n - rank - 1; i++) tail.grow();"),
    ("spectrum: sum of the logarithms for their mean", "optim/spectrum.cpp", "- logarithms_ / count_", "- logarithms_"),
    ("spectrum: floor dropped", "optim/spectrum.cpp", "kernels::kSpectrumFloor * mean_", "1e-30 * mean_"),
    # optim/adamw, schedule, gradient_norm, routing
    ("adamw: b1 for b2", "optim/adamw.cpp", ".b2 = options_.b2", ".b2 = options_.b1"),
    ("adamw: gradient scale dropped", "optim/adamw.cpp", ".gradient_scale = info.gradient_scale", ".gradient_scale = 1"),
    ("adamw: schedule dropped", "optim/adamw.cpp", ".lr = options_.lr * info.lr_multiplier", ".lr = options_.lr"),
    ("adamw: bias correction of m", "kernels/cpu/update.cpp", "p.lr / (1 - __builtin_pow(p.b1, t))", "p.lr"),
    ("adamw: bias correction of v", "kernels/cpu/update.cpp", "1 / __builtin_sqrt(1 - __builtin_pow(p.b2, t))", "1.0"),
    ("adamw: eps inside the root", "kernels/cpu/update.cpp", "sqrt(v) * root + eps", "sqrt(v + eps) * root"),
    ("adamw: decay adds", "kernels/cpu/update.cpp", "lanes.load(param) - (decay * lanes.load(param) +", "lanes.load(param) - (-decay * lanes.load(param) +"),
    ("schedule: warm-up one late", "optim/schedule.cpp", "ratio(step + 1, s.warmup)", "ratio(step, s.warmup)"),
    ("schedule: cosine of half a turn more", "optim/schedule.cpp", "std::cos(std::numbers::pi * p)", "std::cos(2 * std::numbers::pi * p)"),
    ("schedule: linear for the root", "optim/schedule.cpp", "fall * std::sqrt(ratio(step - start, s.steps - start))", "fall * ratio(step - start, s.steps - start)"),
    ("schedule: linear to zero", "optim/schedule.cpp", "return 1.0 - fall * p;", "return 1.0 - p;"),
    ("schedule: plateau without its warm-up", "optim/schedule.cpp", "std::max(s.warmup, s.steps - decay)", "s.steps - decay"),
    ("schedule: plateau one longer", "optim/schedule.cpp", "std::max(s.warmup, s.steps - decay)", "std::max(s.warmup, s.steps - decay) + 1"),
    ("norm: root dropped", "optim/gradient_norm.cpp", "return std::sqrt(sum);", "return sum;"),
    ("norm: clip inverted", "optim/gradient_norm.cpp", "? clip / norm : 1.0", "? norm / clip : 1.0"),
    ("routing: what does not decay decays", "optim/routing.cpp", "without_decay.wd = 0;", ""),
    ("routing: Q, K, V whole", "optim/routing.cpp", "batch_by_shape(table, hidden, Fused::split)", "batch_by_shape(table, hidden, Fused::whole)"),
    ("routing: matrices of one row", "optim/routing.cpp", "p.shape[0] < 2 ||", "p.shape[0] < 1 ||"),
    ("routing: matrices of one column", "optim/routing.cpp", "p.shape[1] < 2)", "p.shape[1] < 1)"),
    ("routing: parts of one row", "optim/routing.cpp", "return s.rows > 1;", "return s.rows > 0;"),
    ("routing: embeddings are hidden", "optim/routing.cpp", "p.kind != ParameterKind::matrix || p.shape.size() != 2", "p.shape.size() != 2"),
    # kernels
    ("floor dropped", "kernels/matrix.h", "kSpectrumFloor = 1e-10", "kSpectrumFloor = 1e-30"),
    ("ridge dropped", "kernels/cpu/matrix.cpp", "1e-6 * trace / size", "1e-12 * trace / size"),
    ("root: bound without its margin", "kernels/cpu/matrix.cpp", "1.01 * (other < bound", "1.0 * (other < bound"),
    ("root: larger of the two bounds", "kernels/cpu/matrix.cpp", "(other < bound ? other : bound)", "(other < bound ? bound : other)"),
    ("complement: skipped too late", "kernels/cpu/shampoo.cpp", "complement > 1e-5 * __builtin_sqrt", "complement > 1e-6 * __builtin_sqrt"),
    ("complement: skipped too early", "kernels/cpu/shampoo.cpp", "complement > 1e-5 * __builtin_sqrt", "complement > 1e-4 * __builtin_sqrt"),
    ("complement: graft without the tail's root", "kernels/cpu/shampoo.cpp", "p.tail_root[k] * complement / length", "complement / length"),
    ("rotate: mu inside", "kernels/cpu/shampoo.cpp", "+ mu * outside;", "- mu * outside;"),
    ("rotate: mu stays", "kernels/cpu/shampoo.cpp", "static_cast<float>(mu + moved)", "static_cast<float>(mu - moved)"),
    ("tail: average", "kernels/cpu/shampoo.cpp", "p.whole[k] - p.inside[k]", "p.whole[k]"),
    ("eigenvalues: rows by b2 of columns", "kernels/cpu/shampoo.cpp", "(1 - p.b2) / static_cast<double>(p.cols));\n  const float column_rest",
     "(1 - p.b2) / static_cast<double>(p.rows));\n  const float column_rest"),
    ("pro eigenvalues: scale not squared", "kernels/cpu/shampoo.cpp", "scale = p.scale[k] * p.scale[k]", "scale = p.scale[k]"),
    ("update: decay", "kernels/cpu/matrix.cpp", "w[j] = moved - decay * moved;", "w[j] = moved + decay * moved;"),
    ("seed: ascending", "kernels/cpu/common/factorise.cpp", "rows_ascending[(n - 1 - j) * n + i]", "rows_ascending[j * n + i]"),
]
# The tests of test_optim that kill most, then the longer ones, for what these have left alive.
STAGES = ["-*Large*:Nightly*:ReferenceEigen*", "*Large*:Nightly*128x512*"]


def run(command, cwd, timeout):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, errors="replace", check=False)


def verdict(copy):
    """killed, SURVIVED, or what went wrong otherwise."""
    for stage in STAGES:
        test = ["build/release/tests/test_optim", f"--gtest_filter={stage}", "--gtest_fail_fast", "--gtest_brief=1"]
        try:
            result = run(test, copy, 1800)
        except subprocess.TimeoutExpired:
            return "HUNG"
        if "[  FAILED  ]" in result.stdout:
            return "killed"
        if result.returncode != 0:
            return f"CRASHED with {result.returncode}: {result.stderr[-300:]}"
    return "SURVIVED"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="numbers of mutants, from 0")
    parser.add_argument("--jobs", default="2")
    arguments = parser.parse_args()
    chosen = [int(n) for n in arguments.only.split(",") if n] or range(len(MUTANTS))
    for name, path, before, _ in MUTANTS:
        found = (ROOT / path).read_text().count(before)
        if found != 1:
            sys.exit(f"{name}: {path} holds what is to be replaced {found} times: {before!r}")
    survivors, uncompiled, built = [], [], 0
    with tempfile.TemporaryDirectory(prefix="kiln-mutants-") as temporary:
        copy = pathlib.Path(temporary)
        for part in ("CMakeLists.txt", "CMakePresets.json", "cmake", "src", "kernels", "models", "optim", "data", "tests"):
            (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, copy / part)
        (copy / "scripts").mkdir()
        build = ["ninja", "-C", "build/release", f"-j{arguments.jobs}", "test_optim"]
        if run(["cmake", "--preset", "release", "-DKILN_BENCHMARKS=OFF", "-DKILN_CUDA=OFF", "-DKILN_UNITY=OFF"], copy, 600).returncode or run(build, copy, 3600).returncode:
            sys.exit("the unbroken copy does not build")
        unbroken = "SURVIVED" if arguments.only else verdict(copy)
        if unbroken != "SURVIVED":
            sys.exit(f"the unbroken copy should survive its tests: {unbroken}")
        for n in chosen:
            name, path, before, after = MUTANTS[n]
            original = (copy / path).read_text()
            (copy / path).write_text(original.replace(before, after, 1))
            made = run(build, copy, 3600)
            if made.returncode:
                print(f"{n:3} {name}: does not compile\n{made.stdout[-2000:]}", flush=True)
                uncompiled.append(name)
            else:
                built += 1
                came_to = verdict(copy)
                print(f"{n:3} {name}: {came_to}", flush=True)
                if came_to != "killed":
                    survivors.append(name)
            (copy / path).write_text(original)
    print(f"{built} mutants built, {len(survivors)} not killed: {survivors}; {len(uncompiled)} did not compile: {uncompiled}")
    sys.exit(1 if survivors or uncompiled else 0)


if __name__ == "__main__":
    main()
