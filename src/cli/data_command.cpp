#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "data/prepare.h"
#include "src/cli/cli.h"

namespace kiln::cli {
namespace {

void add_prepare(CLI::App& data) {
  struct Arguments {
    data::PrepareOptions options;
    std::vector<std::string> inputs;
    std::string out;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      data.add_subcommand("prepare", "Turn text into token shards for training and validation");
  auto& options = arguments->options;
  command
      ->add_option("inputs", arguments->inputs,
                   "Files: *.jsonl (one object a line, its \"text\" is a document) or *.txt")
      ->required();
  command->add_option("--out", arguments->out, "Folder for the shards")->required();
  command->add_option("--tokenizer", options.tokenizer, "bytes: one token per byte, vocabulary 257")
      ->capture_default_str();
  command->add_option("--validation-fraction", options.validation_fraction, "Of the documents, in [0, 1)")
      ->capture_default_str();
  command->add_option("--shard-tokens", options.shard_tokens, "At most, in one shard")->capture_default_str();
  command
      ->add_option("--text-document-bytes", options.text_document_bytes,
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
      fmt::print(stderr, "\r{:.0f} of {:.0f} MB, {} documents, {} tokens",
                 static_cast<double>(p.bytes_done) * 1e-6, static_cast<double>(p.bytes_total) * 1e-6,
                 p.documents, p.tokens);
      if (p.bytes_done >= p.bytes_total) fmt::print(stderr, "\n");
    });
    const auto line = [](const char* split, const data::SplitSummary& s) {
      fmt::print("{:<11} {:>8} documents {:>12} tokens {:>4} shards\n", split, s.documents, s.tokens,
                 s.shards);
    };
    line("training", summary.train);
    line("validation", summary.validation);
    fmt::print("{}{} duplicates dropped, {} empty; vocabulary {}; in {}\n",
               summary.already_there ? "already there; " : "", summary.duplicates, summary.empty,
               summary.vocab, arguments->out);
  });
}

}  // namespace

void add_data(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("data", "Prepare token shards");
  command->require_subcommand(1);
  command->footer("kiln data prepare --help tells how to bring your own text.");
  add_prepare(*command);
}

}  // namespace kiln::cli
