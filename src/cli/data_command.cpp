#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "data/prepare.h"
#include "data/tokenizer_files.h"
#include "data/train_bpe.h"
#include "src/cli/cli.h"
#include "src/cli/input_progress.h"
#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::cli {
namespace {

void add_prepare(CLI::App& data) {
  struct Arguments {
    data::PrepareOptions options;
    std::vector<std::string> inputs;
    std::string out;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = data.add_subcommand("prepare", "Turn text into token shards for training and validation");
  auto& options = arguments->options;
  command->add_option("inputs", arguments->inputs, "Files: *.jsonl (one object a line, its \"text\" is a document) or *.txt")
      ->required();
  command->add_option("--out", arguments->out, "Folder for the shards")->required();
  command->add_option("--tokenizer", options.tokenizer, "bytes: one token per byte, vocabulary 257")->capture_default_str();
  command->add_option("--validation-fraction", options.validation_fraction, "Of the documents, in [0, 1)")->capture_default_str();
  command->add_option("--shard-tokens", options.shard_tokens, "At most, in one shard")->capture_default_str();
  command->add_option("--text-document-bytes", options.text_document_bytes,
                      "Longer .txt files are cut at blank lines into documents of about this size; 0: never")
      ->capture_default_str();
  command->add_flag("--overwrite", options.overwrite, "Replace another dataset in the folder");
  command->footer(
      "Writes train_000001.bin ..., validation_000000.bin ... (llm.c's format) and dataset.json.\n"
      "Then train on your own text:\n"
      "  kiln data prepare --out cache/mine notes.txt articles.jsonl\n"
      "  kiln train configs/gpt2-mini/adamw.json --set data.train='cache/mine/train_*.bin' \\\n"
      "    --set data.validation='cache/mine/validation_*.bin' --set output.dir=runs/mine");
  command->callback([arguments] {
    arguments->options.inputs.assign(arguments->inputs.begin(), arguments->inputs.end());
    arguments->options.folder = arguments->out;
    const bool terminal = isatty(fileno(stderr)) != 0;
    const auto summary = data::prepare(arguments->options, [&](const data::PrepareProgress& p) {
      if (!terminal) return;
      fmt::print(stderr, "\r{:.0f} of {:.0f} MB, {} documents, {} tokens", static_cast<double>(p.bytes_done) * 1e-6,
                 static_cast<double>(p.bytes_total) * 1e-6, p.documents, p.tokens);
      if (p.bytes_done >= p.bytes_total) fmt::print(stderr, "\n");
    });
    const auto line = [](const char* split, const data::SplitSummary& s) {
      fmt::print("{:<11} {:>8} documents {:>12} tokens {:>4} shards\n", split, s.documents, s.tokens, s.shards);
    };
    line("training", summary.train);
    line("validation", summary.validation);
    fmt::print("{}{} duplicates dropped, {} empty; vocabulary {}; in {}\n",
               summary.already_there ? "already there; " : "", summary.duplicates, summary.empty, summary.vocab, arguments->out);
  });
}

// The arguments that say what text to read, the same for all commands that read text.
void add_inputs(CLI::App& command, data::ReadOptions& read) {
  command.add_option("inputs", read.inputs,
                     "Files: *.jsonl (one JSON object a line, its \"text\" is a document) or *.txt; - is standard input")
      ->required();
  command.add_option("--format", read.format, "auto (by the names), jsonl or txt, for all inputs")->capture_default_str();
  command.add_option("--text-document-bytes", read.text_document_bytes,
                     "Longer .txt files are cut at blank lines into documents of at most this size; 0: never")
      ->capture_default_str();
}

void add_train_tokenizer(CLI::App& data) {
  struct Arguments {
    data::ReadOptions read;
    std::string out;
    int64_t vocab = 8192;
    int threads = 0;
    bool overwrite = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = data.add_subcommand("train-tokenizer", "Learn a byte-level BPE vocabulary from text");
  add_inputs(*command, arguments->read);
  command->add_option("--vocab-size", arguments->vocab, "Tokens: 256 bytes, the merges, end-of-text")->capture_default_str();
  command->add_option("--out", arguments->out, "The tokenizer.json to write, as Hugging Face's tokenizers reads it")->required();
  command->add_option("--threads", arguments->threads, "0: as many as the machine has")->capture_default_str();
  command->add_flag("--overwrite", arguments->overwrite, "Replace the file");
  command->footer(
      "GPT-2's scheme: its pre-tokenisation pattern, then the most frequent pair of tokens becomes a token, again and\n"
      "again. The result depends on the text and the size alone. Memory grows with the number of different words.\n"
      "Then:\n"
      "  kiln data train-tokenizer --vocab-size 8192 --out cache/mine/tokenizer.json notes.txt articles.jsonl\n"
      "  kiln data prepare --tokenizer cache/mine/tokenizer.json --out cache/mine notes.txt articles.jsonl");
  command->callback([arguments] {
    namespace fs = std::filesystem;
    const auto& a = *arguments;
    if (fs::exists(a.out) && !a.overwrite) {
      throw Error(ExitCode::usage, fmt::format("{} is already there", a.out), "--overwrite replaces it");
    }
    data::check_vocab_size(a.vocab);
    InputProgress progress("counting");
    const auto counts = data::count_pretokens(a.read, a.threads, [&](const data::CountProgress& p) {
      progress.show(p.bytes_done, p.bytes_total, fmt::format("{} documents", p.documents));
    });
    progress.finish();
    const auto rules = data::train_bpe(counts, a.vocab, [&](int64_t tokens) {
      progress.note(fmt::format("merging: {} of {} tokens", tokens, a.vocab));
    });
    progress.finish();
    const fs::path folder = fs::path(a.out).parent_path();
    if (!folder.empty()) fs::create_directories(folder);
    write_file_atomically(a.out, data::tokenizer_json(rules));
    fmt::print("{}: {} tokens, learnt from {} different pre-tokens\n", a.out, rules.tokens.size(), counts.size());
  });
}

}  // namespace

void add_data(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("data", "Train a tokenizer, prepare token shards");
  command->require_subcommand(1);
  command->footer("kiln data prepare --help tells how to bring your own text, kiln data train-tokenizer --help how to give it a\n"
                  "vocabulary of its own.");
  add_train_tokenizer(*command);
  add_prepare(*command);
}

}  // namespace kiln::cli
