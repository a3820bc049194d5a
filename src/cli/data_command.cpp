#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "data/inspect.h"
#include "data/prepare.h"
#include "data/tokenizer_files.h"
#include "data/train_bpe.h"
#include "src/cli/cli.h"
#include "src/cli/input_progress.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/log.h"
#include "src/train/checkpoint_folders.h"

namespace kiln::cli {
namespace {

// The arguments that say what text to read, the same for all commands that read text.
void add_inputs(CLI::App& command, data::ReadOptions& read) {
  command
      .add_option(
          "inputs", read.inputs,
          "Files: *.jsonl (one JSON object a line, its \"text\" is a document) or *.txt; - is standard input")
      ->required();
  command.add_option("--format", read.format, "auto (by the names), jsonl or txt, for all inputs")
      ->capture_default_str();
  command
      .add_option("--text-document-bytes", read.text_document_bytes,
                  "Longer .txt files are cut at blank lines into documents of at most this size; 0: never")
      ->capture_default_str();
}

void warn_of_encodings(const data::ReadOptions& read) {
  for (const std::string& sentence : data::byte_order_marks(read.inputs)) log_warning(sentence);
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
  command->add_option("--vocab-size", arguments->vocab, "Tokens: 256 bytes, the merges, end-of-text")
      ->capture_default_str();
  command
      ->add_option("--out", arguments->out,
                   "The tokenizer.json to write, as Hugging Face's tokenizers reads it")
      ->required();
  command->add_option("--threads", arguments->threads, "0: as many as the machine has")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_flag("--overwrite", arguments->overwrite, "Replace the file");
  command->footer(
      "GPT-2's scheme: its pre-tokenisation pattern, then the most frequent pair of tokens becomes a token, "
      "again and\n"
      "again. The result depends on the text and the size alone. Memory grows with the number of different "
      "words.\n"
      "Example:\n"
      "  kiln data train-tokenizer --vocab-size 8192 --out cache/mine/tokenizer.json notes.txt "
      "articles.jsonl\n"
      "  kiln data prepare --tokenizer cache/mine/tokenizer.json --out cache/mine notes.txt articles.jsonl");
  command->callback([arguments] {
    namespace fs = std::filesystem;
    const auto& a = *arguments;
    if (!fs::path(a.out).has_filename() || fs::is_directory(a.out)) {
      throw Error(ExitCode::usage, fmt::format("--out {} is a folder", a.out),
                  fmt::format("name a file: {}", (fs::path(a.out) / "tokenizer.json").string()));
    }
    if (fs::exists(a.out) && !a.overwrite) {
      throw Error(ExitCode::usage, fmt::format("{} is already there", a.out), "--overwrite replaces it");
    }
    data::check_vocab_size(a.vocab);
    if (fs::path(a.out).has_parent_path()) train::make_folder(fs::path(a.out).parent_path());
    warn_of_encodings(a.read);
    InputProgress progress("counting");
    const auto counts = data::count_pretokens(a.read, a.threads, [&](const data::CountProgress& p) {
      progress.show(p.bytes_done, p.bytes_total, fmt::format("{} documents", p.documents));
    });
    progress.finish();
    if (counts.empty()) {
      throw Error(ExitCode::data, fmt::format("there is no text in {}", fmt::join(a.read.inputs, ", ")),
                  "they are empty, or blank: check the files");
    }
    const auto rules = data::train_bpe(counts, a.vocab, [&](int64_t tokens) {
      progress.note(fmt::format("merging: {} of {} tokens", tokens, a.vocab));
    });
    progress.finish();
    write_file_atomically(a.out, data::tokenizer_json(rules));
    fmt::print("{}: {} tokens, learnt from {} different pre-tokens\n", a.out, rules.tokens.size(),
               counts.size());
  });
}

// Documents are dealt by chance: few of them, or long ones, give validation another share than it was to have.
void warn_of_share(const data::PrepareSummary& summary, double fraction) {
  if (fraction <= 0 || summary.cut.at > 0) return;
  const auto validation = static_cast<double>(summary.validation.tokens);
  const double share = validation / std::max(1.0, validation + static_cast<double>(summary.train.tokens));
  if (share > 0.5 * fraction && share < 2 * fraction) return;
  log_warning(
      fmt::format("validation has {:.3g} % of the tokens, not {:.3g} %: {} documents are few to deal by "
                  "chance. More of them (or a "
                  "smaller --text-document-bytes) come nearer to --validation-fraction",
                  100 * share, 100 * fraction, summary.train.documents + summary.validation.documents));
}

void print_prepared(const data::PrepareSummary& summary, const std::string& folder) {
  const auto line = [](const char* name, const data::SplitState& split) {
    fmt::print("{:<11} {:>9} documents {:>13} tokens {:>5} shards", name, split.documents, split.tokens,
               split.shards.size());
    if (split.tokens > 0) {
      fmt::print("  {:.3f} bytes a token",
                 static_cast<double>(split.bytes) / static_cast<double>(split.tokens));
    }
    fmt::print("\n");
  };
  line("training", summary.train);
  line("validation", summary.validation);
  if (summary.cut.at > 0) {
    const int64_t rest = summary.cut.bytes - summary.cut.at;
    fmt::print("one text, cut in two at {}: its last {} of {} bytes ({:.1f} %) are for validation\n",
               summary.cut.place, rest, summary.cut.bytes,
               100 * static_cast<double>(rest) / static_cast<double>(summary.cut.bytes));
  }
  if (summary.already_there) fmt::print("already there; ");
  if (summary.resumed_bytes > 0) {
    fmt::print("continued an interrupted run at {:.1f} MB; ",
               static_cast<double>(summary.resumed_bytes) * 1e-6);
  }
  fmt::print("{} duplicates dropped, {} empty; tokenizer {}, vocabulary {}; in {}\n", summary.duplicates,
             summary.empty, summary.tokenizer, summary.vocab, folder);
}

void add_prepare(CLI::App& data) {
  struct Arguments {
    data::PrepareOptions options;
    std::string out;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      data.add_subcommand("prepare", "Turn text into token shards for training and validation");
  auto& options = arguments->options;
  add_inputs(*command, options.read);
  command->add_option("--out", arguments->out, "Folder for the shards")->required();
  command
      ->add_option(
          "--tokenizer", options.tokenizer,
          "bytes (one token a byte, vocabulary 257), or a path: tokenizer.json, a folder with vocab.json and "
          "merges.txt, *.tiktoken")
      ->capture_default_str();
  command
      ->add_option("--validation-fraction", options.validation_fraction,
                   "Of the documents, or of a single text, in [0, 1)")
      ->capture_default_str();
  command->add_option("--shard-tokens", options.shard_tokens, "At most, in one shard")->capture_default_str();
  command->add_flag(
      "--keep-duplicates", options.keep_duplicates,
      "Keep documents whose text came before; dropping them takes 23 to 46 bytes of memory a document");
  command->add_option("--threads", options.threads, "0: as many as the machine has")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command
      ->add_option("--journal-bytes", options.journal_bytes,
                   "Of input between two entries of the journal: what a killed run has to do again at most")
      ->capture_default_str();
  command->add_flag("--overwrite", options.overwrite, "Replace what is in the folder");
  command->footer(
      "Writes train_000001.bin ..., validation_000000.bin ... (llm.c's format: uint16 tokens, or uint32 "
      "where the\n"
      "vocabulary is larger than 65536) and dataset.json. A document goes to validation by a hash of its "
      "text;\n"
      "a single .txt that gives too few documents for that is cut in two, at a blank line near the fraction. "
      "After a\n"
      "kill or a full disk the same command goes on where it stopped (unless it reads standard input), to "
      "the same bytes.\n"
      "Then train on your own text:\n"
      "  kiln data train-tokenizer --vocab-size 8192 --out cache/mine/tokenizer.json notes.txt "
      "articles.jsonl\n"
      "  kiln data prepare --tokenizer cache/mine/tokenizer.json --out cache/mine notes.txt articles.jsonl\n"
      "  kiln train configs/gpt2-mini/adamw.json --set data.train='cache/mine/train_*.bin' \\\n"
      "    --set data.validation='cache/mine/validation_*.bin' --set "
      "data.tokenizer=cache/mine/tokenizer.json \\\n"
      "    --set output.dir=runs/mine\n"
      "From a stream:\n"
      "  zstdcat dump.jsonl.zst | kiln data prepare --format jsonl --out cache/dump -");
  command->callback([arguments] {
    arguments->options.folder = arguments->out;
    warn_of_encodings(arguments->options.read);
    InputProgress progress("preparing");
    const auto summary = data::prepare(arguments->options, [&](const data::PrepareProgress& p) {
      progress.show(p.bytes_done, p.bytes_total,
                    fmt::format("{} documents, {} tokens", p.documents, p.tokens));
    });
    progress.finish();
    print_prepared(summary, arguments->out);
    warn_of_share(summary, arguments->options.validation_fraction);
  });
}

// Control characters and broken bytes made visible, on one line.
std::string visible(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7F) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

void print_inspected(const data::Inspection& found) {
  int64_t tokens = 0, documents = 0;
  for (const auto& shard : found.shards) {
    fmt::print("{:<24} uint{} (magic {}, version {}) {:>13} tokens {:>9} documents\n", shard.name,
               8 * shard.format.token_bytes, shard.format.magic, shard.format.version, shard.tokens,
               shard.documents);
    tokens += shard.tokens;
    documents += shard.documents;
  }
  fmt::print("together                 {} tokens, {} documents", tokens, documents);
  if (documents > 0)
    fmt::print(", {:.1f} tokens a document", static_cast<double>(tokens) / static_cast<double>(documents));
  fmt::print("\nend-of-text              {}{}\n", found.end_of_text,
             found.end_of_text_guessed ? " (a guess: the first token of the first shard)" : "");
  if (found.description) {
    const auto& d = *found.description;
    fmt::print("dataset.json             tokenizer {}{}{}, vocabulary {}, fingerprint {}\n", d.tokenizer_name,
               d.tokenizer_path.empty() ? "" : " from ", d.tokenizer_path, d.vocab, d.tokenizer_fingerprint);
    for (const auto& [name, split] :
         {std::pair("training", &d.train), std::pair("validation", &d.validation)}) {
      if (split->tokens == 0) continue;
      fmt::print("  {:<11} {} documents, {} tokens, {} bytes of text, {:.4f} bytes a token\n", name,
                 split->documents, split->tokens, split->bytes,
                 static_cast<double>(split->bytes) / static_cast<double>(split->tokens));
    }
  }
  if (!found.tokenizer_problem.empty())
    fmt::print("no text: {} (--tokenizer names another)\n", found.tokenizer_problem);
  if (!found.frequent.empty()) fmt::print("most frequent tokens:\n");
  for (const auto& entry : found.frequent) {
    const std::string text =
        entry.token == found.end_of_text ? "end-of-text" : fmt::format("\"{}\"", visible(entry.text));
    fmt::print("  {:>8} {:>13} {:6.2f} %  {}\n", entry.token, entry.count,
               100.0 * static_cast<double>(entry.count) / static_cast<double>(tokens),
               found.tokenizer.empty() ? "" : text);
  }
  for (const auto& [shard, text] : found.texts) fmt::print("--- {} begins ---\n{}\n---\n", shard, text);
  if (found.verified) {
    fmt::print("verified: headers, sizes, every token{}\n",
               found.description ? ", counts and checksums of dataset.json"
                                 : "; there is no dataset.json to compare with");
  }
}

void add_inspect(CLI::App& data) {
  auto options = std::make_shared<data::InspectOptions>();
  CLI::App* command = data.add_subcommand("inspect", "Show and check what is in token shards");
  command->add_option("path", options->path, "A shard, or a folder of shards")->required();
  command->add_option("--tokenizer", options->tokenizer,
                      "To decode with, as for prepare; without it, the one that dataset.json names");
  command->add_option("--most-frequent", options->most_frequent, "Tokens to list")->capture_default_str();
  command
      ->add_option("--text-tokens", options->text_tokens,
                   "Tokens to decode from the beginning of every split")
      ->capture_default_str();
  command->add_flag("--verify", options->verify, "Compare the checksums of dataset.json, too");
  command->footer(
      "Reads every token once; a shard that is damaged or not what dataset.json says ends with exit code 3.\n"
      "Examples:\n"
      "  kiln data inspect cache/mine\n"
      "  kiln data inspect --verify cache/mine\n"
      "  kiln data inspect --tokenizer gpt2/ data/fineweb10B/fineweb_val_000000.bin");
  command->callback([options] {
    InputProgress progress("reading");
    const auto found = data::inspect(
        *options, [&](int64_t done, int64_t total) { progress.show(done, total, "tokens are counted"); });
    progress.finish();
    print_inspected(found);
  });
}

}  // namespace

void add_data(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("data", "Train a tokenizer, prepare and inspect token shards");
  command->require_subcommand(1);
  command->footer(
      "kiln data prepare --help tells how to bring your own text, kiln data train-tokenizer --help how to "
      "give it a\n"
      "vocabulary of its own.\n"
      "Examples:\n"
      "  kiln data train-tokenizer --vocab-size 8192 --out cache/mine/tokenizer.json notes.txt\n"
      "  kiln data prepare --tokenizer cache/mine/tokenizer.json --out cache/mine notes.txt\n"
      "  kiln data inspect cache/mine");
  add_train_tokenizer(*command);
  add_prepare(*command);
  add_inspect(*command);
}

}  // namespace kiln::cli
