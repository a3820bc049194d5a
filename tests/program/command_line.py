"""What a person meets on the command line: help that teaches, versions, errors with a hint and a documented exit code,
a run folder that is never overwritten, a stop by signal that loses nothing."""

import signal
import subprocess
import time

from support import KILN, kiln, loss_sequence, make_workplace, metrics, remove, require


def fails(code, *arguments, says):
    result = kiln(*arguments, check=False)
    output = result.stdout + result.stderr
    require(result.returncode == code, f"{arguments}: exit code {result.returncode} instead of {code}\n{output}")
    for words in says:
        require(words in output, f"{arguments}: the message lacks '{words}':\n{output}")


help_text = kiln("--help").stdout
for words in ("train", "plan", "config", "data", "Examples:", "Exit codes:"):
    require(words in help_text, f"kiln --help lacks '{words}'")
for command in ("train", "plan", "config", "data"):
    require(len(kiln(command, "--help").stdout) > 200, f"kiln {command} --help teaches nothing")
version = kiln("--version").stdout
for words in ("kiln", "backends", "instruction set", "oneDNN", "OpenBLAS", "PCRE2", "Unicode", "nlohmann/json"):
    require(words in version, f"kiln --version lacks '{words}'")

folder = make_workplace()
config = folder / "config.json"
fails(2, says=["subcommand"])
fails(2, "trian", says=[])
fails(2, "train", folder / "missing.json", says=["missing.json", "hint"])
fails(2, "train", config, "--set", "optimizer.lrr=1", says=["optimizer.lrr", "optimizer.lr"])
fails(2, "train", config, "--set", "train.precision=bf16", says=["bf16"])
fails(3, "train", config, "--set", "data.train=nowhere_*.bin", says=["nowhere_*.bin", "hint"])
fails(3, "train", config, "--set", "data.tokenizer=gpt3", says=["there is no tokenizer \"gpt3\"", "hint"])
fails(2, "config", says=["nothing to do"])

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

# SIGTERM: a checkpoint, exit code 5, and --resume continues bit for bit.
arguments = ["--set", "train.steps=3000", "--set", "checkpoint.every=0", "--set", "validation.every=0"]
process = subprocess.Popen([KILN, "train", str(config), "--set", f"output.dir={folder}/stopped", *arguments],
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
while not (folder / "stopped" / "metrics.jsonl").exists() or len(metrics(folder / "stopped")) < 20:
    time.sleep(0.02)
process.send_signal(signal.SIGTERM)
require(process.wait(60) == 5, f"a run stopped by SIGTERM must exit with 5: {process.stderr.read()}")
stopped_at = metrics(folder / "stopped")[-1]["step"]
require(f"step_{stopped_at:08d}" in "".join(p.name for p in (folder / "stopped" / "checkpoints").iterdir()),
        "the checkpoint must be of the last step")
remove(folder)
print("command line: help, versions, errors, run folders, signals")
