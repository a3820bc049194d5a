"""`kiln eval` and `kiln generate` on a run that was just trained: the loss is the one that the run logged, every token counts
once, text follows the seed and is the same piece by piece, damaged checkpoints are passed over, and errors say what to do."""

import json
import math
import os
import shutil
import socket
import struct
import subprocess

from support import KILN, kiln, make_workplace, metrics, remove, require

VOCAB, SEQUENCE, BATCH = 400, 32, 4 * 32
folder = make_workplace(vocab=VOCAB, train={"steps": 40}, validation={"every": 20, "tokens": 8 * BATCH // 4},
                        checkpoint={"every": 20, "keep": 3})
config, run = folder / "config.json", folder / "run"
kiln("train", config)
validations = {record["step"]: record for record in metrics(run) if "validation_loss" in record}


def fails(code, *arguments, says):
    result = kiln(*arguments, check=False)
    require(result.returncode == code, f"{arguments}: exit code {result.returncode} instead of {code}\n{result.stderr}")
    for words in says:
        require(words in result.stderr, f"{arguments}: the message lacks '{words}':\n{result.stderr}")


def evaluate(*arguments):
    return json.loads(kiln("eval", *arguments, "--json").stdout)


def shard(path):
    content = path.read_bytes()
    return list(struct.unpack(f"<{(len(content) - 1024) // 2}H", content[1024:]))


def write_shard(path, tokens):
    path.write_bytes(struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253) + struct.pack(f"<{len(tokens)}H", *tokens))


# ---- eval ----

# Bitwise what the run logged, at both checkpoints: same passes, same kernels.
logged_batches = 8 // 4
for step, record in validations.items():
    found = evaluate(run / "checkpoints" / f"step_{step:08d}", "--batches", logged_batches)
    require(found["step"] == step and found["tokens"] == logged_batches * BATCH, f"step {step}: {found}")
    require(found["loss"] == record["validation_loss"], f"step {step}: {found['loss']!r}, logged {record['validation_loss']!r}")
    require(found["unigram_entropy"] == record["unigram_entropy"], f"step {step}: another unigram entropy")
require(len(validations) == 2, f"two validations expected: {validations}")

# The whole set, its ragged end included: the mean over its parts, which are evaluated by themselves as sets that begin with
# the last token of the part before. Losses are sums in fp64 of the same fp32 numbers but for the shape of the passes that
# the last tokens are in, so each token's loss is off by some roundings of logits below 16.
tokens = [t for path in sorted((folder / "shards").glob("validation_*.bin")) for t in shard(path)]
whole = evaluate(run)
require(whole["tokens"] == len(tokens) - 1 and whole["data_tokens"] == len(tokens), f"every token but the first: {whole}")
require((len(tokens) - 1) % SEQUENCE != 0, "the test wants a ragged end")
cut = 5 * BATCH
write_shard(folder / "head.bin", tokens[:cut + 1])
write_shard(folder / "tail.bin", tokens[cut:])
head, tail = evaluate(run, "--data", folder / "head.bin", "--all"), evaluate(run, "--data", folder / "tail.bin")
total = head["loss"] * head["tokens"] + tail["loss"] * tail["tokens"]
require(head["tokens"] + tail["tokens"] == whole["tokens"], "the parts do not make the whole")
require(abs(whole["loss"] - total / whole["tokens"]) <= 16 * 2**-20, f"{whole['loss']} is not the mean of {head} and {tail}")
require(head["bytes"] + tail["bytes"] == whole["bytes"], "bytes of the parts")
require(abs(whole["perplexity"] - math.exp(whole["loss"])) < 1e-9 * whole["perplexity"], "perplexity")

# Bytes are those of the text: the documents of the set, as dataset.json counts them (its first token is an end-of-text).
dataset = json.loads((folder / "shards" / "dataset.json").read_text())
require(whole["bytes"] == dataset["validation"]["bytes"], f"{whole['bytes']} bytes instead of {dataset['validation']}")
expected = whole["loss"] * whole["tokens"] / math.log(2) / whole["bytes"]
require(abs(whole["bits_per_byte"] - expected) < 1e-12 * expected, "bits per byte")

# For people, and where no tokenizer is known.
text = kiln("eval", run).stdout
for words in ("loss", "perplexity", "bits per byte", "unigram entropy", "tokens/s", "(step 40)"):
    require(words in text, f"kiln eval lacks '{words}':\n{text}")
tokenizer, hidden = folder / "tokenizer.json", folder / "hidden.json"
os.rename(tokenizer, hidden)
unknown = evaluate(run, "--batches", 1)
require(unknown["bits_per_byte"] is None and "there is no tokenizer" in unknown["tokenizer_problem"], f"{unknown}")
require("unknown: there is no tokenizer" in kiln("eval", run, "--batches", 1).stdout, "it must be said that bytes are not known")
require(evaluate(run, "--batches", 1, "--tokenizer", hidden)["bits_per_byte"] > 0, "--tokenizer must be taken")
fails(3, "generate", run, says=["there is no tokenizer", "--tokenizer"])
os.rename(hidden, tokenizer)

# ---- generate ----

SAMPLE = ["generate", run, "--tokens", 100, "--seed", 5]
first = kiln(*SAMPLE)
require(len(first.stdout) > 50 and "tokens/s" in first.stderr and "planned" in first.stderr, first.stdout + first.stderr)
require("context of 32 tokens was full" in first.stderr and "last 16" in first.stderr, f"a full context must be told:\n{first.stderr}")
# On a terminal both are one stream: no note stands in the middle of the text.
both = subprocess.run([KILN, *map(str, SAMPLE)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace").stdout
require(first.stdout in both, f"a note within the text:\n{both}")
require(both.index("planned") < both.index(first.stdout) < both.index("was full"), f"notes come before and after:\n{both}")
require(kiln(*SAMPLE).stdout == first.stdout, "the same seed must give the same text")
require(kiln(*SAMPLE, "--set", "device.threads=1").stdout == first.stdout, "threads must not change the text")
require(kiln(*SAMPLE[:-1], 6).stdout != first.stdout, "another seed must give another text")
greedy = kiln(*SAMPLE, "--temperature", 0).stdout
for likely in (["--top-k", 1], ["--top-p", "1e-9"], ["--temperature", 0, "--seed", 9]):
    require(kiln(*SAMPLE, *likely).stdout == greedy if "--seed" not in likely
            else kiln("generate", run, "--tokens", 100, *likely).stdout == greedy, f"{likely} is the likeliest text")

# Prompts: text, a file, standard input; with and without the prompt itself.
prompt = "some words of a text"
continued = kiln(*SAMPLE, "--prompt", prompt).stdout
require(continued.startswith(prompt) and len(continued) > len(prompt) + 50, continued)
(folder / "prompt.txt").write_text(prompt)
require(kiln(*SAMPLE, "--prompt-file", folder / "prompt.txt").stdout == continued, "--prompt-file")
piped = subprocess.run([KILN, *map(str, SAMPLE), "--prompt-file", "-"], input=prompt, capture_output=True,
                       text=True, errors="replace")
require(piped.stdout == continued, "--prompt-file -")
require(prompt + kiln(*SAMPLE, "--prompt", prompt, "--no-prompt").stdout == continued, "--no-prompt")
long = kiln(*SAMPLE, "--prompt", prompt * 50)
require("reads the last 32" in long.stderr and long.stdout.startswith(prompt * 50), f"a long prompt: {long.stderr}")

# Samples differ, and the first is the one that a single sample is.
several = kiln(*SAMPLE, "--samples", 3).stdout
parts = several.split("--- sample ")[1:]
require(len(parts) == 3 and len(set(part[6:] for part in parts)) == 3, f"three different samples:\n{several}")
require(parts[0] == f"1 ---\n{first.stdout}", "the first of several samples is the single one")

# An end-of-text ends a sample. The model knows documents of some thousand tokens, so one that is made to say it often is
# wanted: at a high temperature one token in VOCAB is one.
ended = kiln("generate", run, "--tokens", 20000, "--temperature", 100, "--seed", 1)
endless = kiln("generate", run, "--tokens", 20000, "--temperature", 100, "--seed", 1, "--ignore-end")
require(0 < len(ended.stdout) < 15000 < len(endless.stdout), f"{len(ended.stdout)}, {len(endless.stdout)} bytes")
require("\n\n" in endless.stdout and endless.stdout.startswith(ended.stdout.rstrip("\n")), "what follows the end")

# A reader that goes away ends it quietly, and soon.
piped = subprocess.run(["sh", "-c", f"'{KILN}' generate '{run}' --tokens 100000000 --ignore-end | head -c 300"],
                       capture_output=True, timeout=60)
require(len(piped.stdout) == 300 and b"error" not in piped.stderr, piped.stderr.decode(errors="replace"))

# Text comes while it is produced, and characters in one piece: bytes as tokens, a text of characters of two to four bytes.
# A socket that keeps the borders of writes shows the pieces.
wide = make_workplace()
with open(wide / "documents.jsonl", "w", encoding="utf-8") as file:
    for i in range(40):
        file.write(json.dumps({"text": "é€🙂" * (200 + i)}, ensure_ascii=False) + "\n")
kiln("data", "prepare", "--overwrite", "--out", wide / "shards", wide / "documents.jsonl")
kiln("train", wide / "config.json", "--set", "train.steps=150")
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
process = subprocess.Popen([KILN, "generate", str(wide / "run"), "--tokens", "400", "--temperature", "0", "--prompt", "é€"],
                           stdout=theirs, stderr=subprocess.DEVNULL)
theirs.close()
pieces = []
while piece := ours.recv(1 << 16):
    pieces.append(piece)
require(process.wait() == 0, "generate into a socket")
text = b"".join(pieces).decode("utf-8")
require("é€🙂é€🙂é€🙂" in text, f"the model must have learnt its one line: {text}")
require(len(pieces) > 100, f"400 bytes, characters of two to four, must come in more than {len(pieces)} pieces")
for piece in pieces:
    piece.decode("utf-8")  # none ends within a character

# Tokens of GPT-2's vocabulary, of which there is no file.
kiln("train", wide / "config.json", "--set", "data.tokenizer=gpt2", "--set", "model.vocab=50257", "--set", "train.steps=5",
     "--set", f"output.dir={wide}/numbers")
require("data.tokenizer names no file" in kiln("eval", wide / "numbers").stdout, "bytes of tokens that nobody can decode")
fails(2, "generate", wide / "numbers", says=["names no tokenizer file", "--tokenizer"])
remove(wide)

# ---- damaged checkpoints, and what else can be wrong ----

latest = run / "checkpoints" / "step_00000040"
intact = evaluate(run / "checkpoints" / "step_00000020", "--batches", 3)
(latest / "optimizer.safetensors").unlink()
for command in (["eval", run, "--json", "--batches", 1], SAMPLE):
    used = kiln(*command)
    notes = [line for line in used.stderr.splitlines() if "optimizer.safetensors" in line]
    require(len(notes) == 1 and "no training can go on" in notes[0], f"one line on what is damaged: {used.stderr}")
require(evaluate(run, "--batches", 1)["step"] == 40, "a model that is only used needs no optimizer state")
with open(latest / "model.safetensors", "r+b") as file:
    file.seek(-20, os.SEEK_END)
    byte = file.read(1)[0]
    file.seek(-20, os.SEEK_END)
    file.write(bytes([byte ^ 1]))
damaged = kiln("eval", run, "--json", "--batches", 3)
require("passing over a broken checkpoint" in damaged.stderr and "damaged" in damaged.stderr, damaged.stderr)
require({**json.loads(damaged.stdout), "seconds": 0, "tokens_per_second": 0, "checkpoint": ""} ==
        {**intact, "seconds": 0, "tokens_per_second": 0, "checkpoint": ""}, "the older checkpoint must be taken")
require("passing over a broken checkpoint" in kiln(*SAMPLE).stderr, "generate must say so too")
fails(3, "eval", latest, says=["model.safetensors", "damaged"])
fails(3, "generate", latest, says=["model.safetensors", "damaged"])
shutil.copytree(run, folder / "ruined")
for checkpoint in (folder / "ruined" / "checkpoints").iterdir():
    (checkpoint / "manifest.json").write_text("{}")
fails(3, "eval", folder / "ruined", says=["passing over", "none of the checkpoints"])
fails(3, "eval", folder / "nowhere", says=["is not there", "hint", "checkpoints/"])
fails(3, "generate", folder / "shards", says=["neither a run nor a checkpoint", "hint"])
fails(2, "eval", run, "--set", "model.heads=5", says=["model.heads"])
fails(3, "eval", run, "--set", "model.ffn=96", says=["mlp.fc", "config of that run"])
fails(2, "eval", run, "--set", "data.validation=", says=["no validation set", "--data"])
fails(3, "eval", run, "--data", "nowhere_*.bin", says=["nowhere_*.bin"])
fails(2, "eval", run, "--batches", 2, "--all", says=["--all"])
fails(2, "generate", run, "--prompt", "a", "--prompt-file", "b", says=["--prompt"])
for option, wrong in (("--temperature", "nan"), ("--temperature", "inf"), ("--temperature", "-0.1"), ("--top-p", "nan"),
                      ("--top-p", "1.5"), ("--top-k", "-1")):
    fails(2, "generate", run, option, wrong, says=[option, wrong])
fails(3, "generate", run, "--prompt-file", folder / "nowhere.txt", says=["nowhere.txt"])
kiln("data", "train-tokenizer", "--vocab-size", VOCAB + 20, "--out", folder / "larger.json", folder / "documents.jsonl")
for command in ("eval", "generate"):  # more tokens than the model; other tokens than its shards
    fails(2, command, run, "--tokenizer", folder / "larger.json", says=["is not the tokenizer", "--tokenizer"])
    fails(2, command, run, "--tokenizer", "bytes", says=["is not the tokenizer", "--tokenizer"])
for command in ("eval", "generate"):
    help_text = kiln(command, "--help").stdout
    for words in ("RUN|CHECKPOINT", "Examples:", f"kiln {command} runs/", "--set", "--tokenizer"):
        require(words in help_text, f"kiln {command} --help lacks '{words}'")

remove(folder)
print("losses as logged, every token once, text by seed and in whole characters, damaged checkpoints, errors")
