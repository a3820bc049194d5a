"""What a person meets on the command line: help that teaches, versions, errors with a hint and a documented exit code,
a run folder that is never overwritten."""

import subprocess

from support import KILN, kiln, loss_sequence, make_workplace, metrics, remove, require


def fails(code, *arguments, says):
    result = kiln(*arguments, check=False)
    output = result.stdout + result.stderr
    require(result.returncode == code, f"{arguments}: exit code {result.returncode} instead of {code}\n{output}")
    for words in says:
        require(words in output, f"{arguments}: the message lacks '{words}':\n{output}")


help_text = kiln("--help").stdout
COMMANDS = ("train", "eval", "generate", "plan", "config", "data", "bench", "inspect", "compare", "replay", "spectrum", "sweep")
for words in (*COMMANDS, "Examples:", "Exit codes:"):
    require(words in help_text, f"kiln --help lacks '{words}'")
for command in COMMANDS:
    require(len(kiln(command, "--help").stdout) > 200, f"kiln {command} --help teaches nothing")
version = kiln("--version").stdout
for words in ("kiln", "backends", "instruction set", "oneDNN", "OpenBLAS", "PCRE2", "Unicode", "nlohmann/json"):
    require(words in version, f"kiln --version lacks '{words}'")

folder = make_workplace()
config = folder / "config.json"
fails(2, says=["kiln needs a command: train, eval", "hint: kiln --help"])
fails(2, "data", says=["kiln data needs a command: train-tokenizer, prepare, inspect", "hint: kiln data --help"])
fails(2, "data", "prepare", says=["inputs is required", "hint: kiln data prepare --help"])
fails(2, "data", "prepare", "--out", folder / "none", "--threads", "x", "a.txt", says=["--threads", "0 to 1024"])
fails(2, "data", "prepare", "--out", folder / "none", "--threads", -1, "a.txt", says=["--threads", "0 to 1024"])
fails(2, "generate", folder, "--seed", "x", says=["--seed", "not in range 0 to"])
fails(2, "trian", says=[])
fails(2, "train", folder / "missing.json", says=["missing.json", "hint"])
fails(2, "train", config, "--set", "optimizer.lrr=1", says=["optimizer.lrr", "optimizer.lr"])
fails(2, "train", config, "--set", "train.precision=bf16", says=["bf16"])
fails(4, "train", config, "--set", "device.kind=cuda", says=["hint"])
fails(3, "train", config, "--set", "data.train=nowhere_*.bin", says=["nowhere_*.bin", "hint"])
fails(3, "train", config, "--set", "data.tokenizer=gpt3", says=["there is no tokenizer \"gpt3\"", "hint"])
fails(2, "config", says=["nothing to do"])
fails(2, "train", config, "--set", "train.steps=many", says=["expected an integer", "Range: 0 <= steps <= 100000000"])

# Ranks hold everything once each; how they share a step is told, whether it works out or not.
one, three = kiln("plan", config).stdout, kiln("plan", config, "--ranks", 3).stdout
total = next(line for line in one.splitlines() if line.startswith("total bytes: "))
require(total in three and "3 ranks cannot share that evenly" in three and "a multiple of 384" in three, three)
require("2 micro-batches of 4 x 32, 1 on each rank" in kiln("plan", config, "--ranks", 2).stdout, "two ranks share two micro-batches")
require("h.*.attn.qkv.weight" in one and "flop/token" in one, one)
fails(2, "plan", config, "--ranks", 0, says=["--ranks"])

# A vocabulary of one's own: samples are text, and neither a smaller model nor another tokenizer is taken for it.
trained = make_workplace(vocab=500)
output = kiln("train", trained / "config.json", "--set", "train.steps=10", "--set", "sampling.every=10",
              "--set", "sampling.prompt=some words", "--set", "sampling.tokens=5").stdout
require("--- sample at step 10 ---\nsome words" in output and "token ids" not in output, f"no sample of text:\n{output}")
tokenizer = trained / "tokenizer.json"
fails(2, "train", trained / "config.json", "--set", "model.vocab=499", "--overwrite", says=["499", "500 tokens", "tokenizer.json"])
fails(2, "train", config, "--set", f"data.tokenizer={tokenizer}", "--set", "model.vocab=500",
      says=["is not the tokenizer", "(bytes)", "set data.tokenizer to bytes"])
fails(2, "train", trained / "config.json", "--set", "data.tokenizer=bytes", "--overwrite", says=["is not the tokenizer", "tokenizer.json"])
remove(trained)

kiln("train", config, "--set", "train.steps=10")
mistyped = kiln("train", config, "--resume", "--set", "train.steps=5", "--set", f"output.dir={folder}/rnu")
require("starting from the beginning (beside it, runs are in run)" in mistyped.stderr, mistyped.stderr)
fails(2, "train", config, "--set", "train.steps=10", says=["already holds a run", "--resume", "--overwrite"])
fails(2, "train", config, "--resume", "--set", "optimizer.lr=0.5", says=["optimizer.lr", "0.003", "0.5"])
require("nothing to do" in kiln("train", config, "--resume", "--set", "train.steps=10").stdout, "a finished run has nothing to do")
kiln("train", config, "--overwrite", "--set", "train.steps=10")
require((folder / "run.1" / "metrics.jsonl").exists(), "--overwrite must keep the earlier run")
require(loss_sequence(folder / "run") == loss_sequence(folder / "run.1"), "the same config must give the same run")
for name in ("config.json", "versions.json", "main.log"):
    require((folder / "run" / name).stat().st_size > 0, f"the run folder lacks {name}")
lines = (folder / "run" / "main.log").read_text().splitlines()
require(any(line.startswith("s:10 trl:") for line in lines) and any(line.startswith("s:10 tel:") for line in lines),
        f"main.log must hold llm.c's lines: {lines}")

# A folder that holds something else is nobody's to write into.
(folder / "foreign").mkdir()
(folder / "foreign" / "config.json").write_text("mine")
fails(2, "train", config, "--set", f"output.dir={folder}/foreign", says=["is not empty", "--overwrite"])
fails(2, "train", config, "--resume", "--set", f"output.dir={folder}/foreign", says=["there is no run", "--overwrite"])
require((folder / "foreign" / "config.json").read_text() == "mine", "a foreign file must stay")

# Output that a full disk loses is an error, also where it waits in buffers until the end.
for arguments in (["config", config], ["config", "--markdown"], ["plan", config], ["--version"], ["--help"]):
    with open("/dev/full", "w") as full:
        lost = subprocess.run([KILN, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, text=True)
    require(lost.returncode == 3 and "standard output" in lost.stderr, f"{arguments}: {lost}")

# A run that diverges says so, ends, and keeps the checkpoints from before.
wild = [part for change in (f"output.dir={folder}/wild", "optimizer.lr=10", "optimizer.eps=1e-30", "train.clip=0",
                            "optimizer.wd=10", "schedule.kind=constant", "schedule.warmup=0", "train.steps=200",
                            "train.max_skipped=15", "checkpoint.every=2") for part in ("--set", change)]
fails(1, "train", config, *wild, says=["has diverged at step", "optimizer.lr", "skipped: gradient not finite"])
first_bad = min(r["step"] for r in metrics(folder / "wild") if r.get("skipped"))
kept = [int(p.name.removeprefix("step_")) for p in (folder / "wild" / "checkpoints").iterdir()]
require(kept and max(kept) < first_bad, f"checkpoints {kept} against the first bad step {first_bad}")

# Cut off by a reader that goes away, a run still reaches its end.
piped = subprocess.run(["sh", "-c", f"'{KILN}' train '{config}' --set output.dir='{folder}/piped' | head -1"], capture_output=True)
require(len(metrics(folder / "piped")) >= 60, "a run whose output is not read any more must go on")

remove(folder)
print("command line: help, versions, errors, run folders")
