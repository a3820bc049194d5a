#include "data/prepare.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "data/document_reader.h"
#include "data/shard.h"
#include "data/tokenizer.h"
#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kMaxShards = 999'999;  // six digits, so that name order is number order
constexpr int64_t kProgressBytes = 1 << 20;

// 64-bit FNV-1a and MurmurHash3's finaliser, which spreads it over the high bits that decide the split. Among
// n documents two different ones share a hash, and one is dropped as a duplicate, with a chance of n^2 /
// 2^65: 3e-6 for ten million.
uint64_t hash_text(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccdu;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53u;
  return h ^ (h >> 33);
}

fs::path shard_path(const fs::path& folder, const std::string& split, int64_t number) {
  return folder / fmt::format("{}_{:06}.bin", split, number);
}

// Whether prepare() gives files such names; also the temporary ones of an interrupted run.
bool is_shard_name(const std::string& name) {
  for (const std::string_view split : {"train_", "validation_"}) {
    if (!name.starts_with(split)) continue;
    const std::string_view rest = std::string_view(name).substr(split.size());
    const bool digits = rest.size() >= 6 && std::all_of(rest.begin(), rest.begin() + 6,
                                                        [](char c) { return c >= '0' && c <= '9'; });
    return digits && (rest.substr(6) == ".bin" || rest.substr(6) == ".bin.tmp");
  }
  return false;
}

// One split: documents in, shards of at most shard_tokens out, a document running on into the next one if
// need be.
class SplitWriter {
 public:
  SplitWriter(const PrepareOptions& options, const Tokenizer& tokenizer, std::string split, int64_t first)
      : options_(options), tokenizer_(tokenizer), split_(std::move(split)), first_(first) {}

  void add(std::string_view text) {
    std::vector<int32_t> ids{tokenizer_.end_of_text()};
    tokenizer_.encode(text, ids);
    const std::vector<uint16_t> tokens(ids.begin(), ids.end());
    for (std::span<const uint16_t> rest = tokens; !rest.empty();) {
      if (!shard_) open();
      const size_t room = static_cast<size_t>(options_.shard_tokens - shard_->tokens());
      const auto part = rest.first(std::min(rest.size(), room));
      shard_->append(part);
      rest = rest.subspan(part.size());
      if (shard_->tokens() == options_.shard_tokens) close();
    }
    summary_.documents++;
    summary_.tokens += static_cast<int64_t>(tokens.size());
  }

  void close() {
    if (!shard_) return;
    shard_->close();
    shard_.reset();
  }

  const SplitSummary& summary() const { return summary_; }

 private:
  void open() {
    if (summary_.shards == kMaxShards) {
      throw Error(ExitCode::usage, fmt::format("the text needs more than {} shards", kMaxShards),
                  "let a shard hold more tokens");
    }
    shard_ = std::make_unique<ShardWriter>(shard_path(options_.folder, split_, first_ + summary_.shards));
    summary_.shards++;
  }

  const PrepareOptions& options_;
  const Tokenizer& tokenizer_;
  std::string split_;
  int64_t first_;
  SplitSummary summary_;
  std::unique_ptr<ShardWriter> shard_;
};

// Sends each document to its split. While none was drawn for validation, the one that came nearest (of the
// smallest hash) waits, to be the one if it stays so.
class Splitter {
 public:
  Splitter(const PrepareOptions& options, const Tokenizer& tokenizer)
      : options_(options),
        tokenizer_(tokenizer),
        train_(options, tokenizer, "train", 1),
        validation_(options, tokenizer, "validation", 0) {}

  void add(std::string_view text) {
    if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
      empty_++;
      return;
    }
    const uint64_t hash = hash_text(text);
    if (!seen_.insert(hash).second) {
      duplicates_++;
    } else if (static_cast<double>(hash) < options_.validation_fraction * 0x1p64) {
      validation_.add(text);
      release();
    } else if (options_.validation_fraction > 0 && validation_.summary().documents == 0 &&
               hash < waiting_hash_) {
      release();
      waiting_ = std::make_unique<std::string>(text);
      waiting_hash_ = hash;
    } else {
      train_.add(text);
    }
  }

  void finish() {
    if (waiting_) validation_.add(*waiting_);
    if (train_.summary().documents == 0) {
      const int64_t documents = validation_.summary().documents;
      throw Error(
          ExitCode::data,
          documents == 0 ? "the inputs hold no document with text"
                         : fmt::format("no document is left for training: {} went to validation", documents),
          documents == 0
              ? "check the input files"
              : "give more documents, cut long ones into several, or set the validation fraction to 0");
    }
    train_.close();
    validation_.close();
  }

  PrepareSummary summary() const {
    return {train_.summary(), validation_.summary(), duplicates_, empty_, tokenizer_.vocab(), false};
  }

 private:
  void release() {
    if (waiting_) train_.add(*waiting_);
    waiting_.reset();
  }

  const PrepareOptions& options_;
  const Tokenizer& tokenizer_;
  SplitWriter train_, validation_;
  std::unordered_set<uint64_t> seen_;
  std::unique_ptr<std::string> waiting_;
  uint64_t waiting_hash_ = ~uint64_t{0};
  int64_t duplicates_ = 0, empty_ = 0;
};

void check_options(const PrepareOptions& options) {
  const auto check = [](bool good, const std::string& message, const std::string& hint) {
    if (!good) throw Error(ExitCode::usage, message, hint);
  };
  check(!options.inputs.empty(), "no input files", "give at least one .jsonl or .txt file");
  check(options.validation_fraction >= 0 && options.validation_fraction < 1,
        fmt::format("a validation fraction of {}", options.validation_fraction),
        "give a number from 0 to less than 1, such as 0.02");
  check(options.shard_tokens >= 1 && options.shard_tokens <= kShardMaxTokens,
        fmt::format("shards of {} tokens", options.shard_tokens),
        fmt::format("give 1 to {}", kShardMaxTokens));
  check(options.text_document_bytes >= 0, fmt::format("documents of {} bytes", options.text_document_bytes),
        "give 0 to leave text files whole, or the longest document that you want, such as 50000");
}

// Path, size and time of change of every input: what tells whether a dataset is still that of its inputs.
Json describe_inputs(const std::vector<fs::path>& inputs) {
  Json list = Json::array();
  for (const auto& input : inputs) {
    std::error_code error;
    const auto bytes = fs::file_size(input, error);
    const auto changed = fs::last_write_time(input, error);
    if (error) {
      throw Error(ExitCode::data, fmt::format("cannot read {}: {}", input.string(), error.message()),
                  "inputs are .jsonl and .txt files; check the spelling");
    }
    list.push_back(
        {{"path", input.string()}, {"bytes", bytes}, {"changed", changed.time_since_epoch().count()}});
  }
  return list;
}

Json describe_options(const PrepareOptions& options, const Tokenizer& tokenizer) {
  return {{"tokenizer", options.tokenizer},
          {"vocab", tokenizer.vocab()},
          {"validation_fraction", options.validation_fraction},
          {"shard_tokens", options.shard_tokens},
          {"text_document_bytes", options.text_document_bytes},
          {"inputs", describe_inputs(options.inputs)}};
}

Json describe_split(const SplitSummary& split) {
  return {{"documents", split.documents}, {"tokens", split.tokens}, {"shards", split.shards}};
}

// Stands in a folder from the first change to the last: the shards beside it are those of a run that did not
// end.
fs::path marker_path(const fs::path& folder) {
  return folder / "preparing";
}

void write_description(const fs::path& folder, Json description, const PrepareSummary& summary) {
  description["train"] = describe_split(summary.train);
  description["validation"] = describe_split(summary.validation);
  description["duplicates"] = summary.duplicates;
  description["empty"] = summary.empty;
  // Paths need not be UTF-8; JSON must.
  write_file_atomically(folder / "dataset.json",
                        description.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

// dataset.json, or null when there is none that can be read as such.
Json read_description(const fs::path& folder) {
  if (!fs::exists(folder / "dataset.json")) return nullptr;
  Json description = Json::parse(read_file(folder / "dataset.json"), nullptr, false);
  return description.is_object() ? description : Json(nullptr);
}

SplitSummary read_split(const Json& description) {
  return {description.at("documents"), description.at("tokens"), description.at("shards")};
}

bool shards_there(const fs::path& folder, const std::string& name, int64_t first, const SplitSummary& split) {
  uintmax_t bytes = 0;
  for (int64_t i = 0; i < split.shards; i++) {
    std::error_code error;
    bytes += fs::file_size(shard_path(folder, name, first + i), error);
    if (error) return false;
  }
  return bytes == static_cast<uintmax_t>(split.shards * kShardHeaderBytes + split.tokens * 2);
}

// The summary of the dataset in the folder, if it is whole and what these options would make.
std::optional<PrepareSummary> existing_dataset(const fs::path& folder, const Json& description,
                                               const Json& wanted) {
  try {
    for (const auto& [key, value] : wanted.items()) {
      if (description.at(key) != value) return {};
    }
    const PrepareSummary summary{read_split(description.at("train")),
                                 read_split(description.at("validation")),
                                 description.at("duplicates"),
                                 description.at("empty"),
                                 description.at("vocab"),
                                 true};
    const bool whole = shards_there(folder, "train", 1, summary.train) &&
                       shards_there(folder, "validation", 0, summary.validation);
    return whole ? std::optional(summary) : std::nullopt;
  } catch (const Json::exception&) {
    return {};
  }
}

// The shards of an earlier run, to be removed; throws when they are a dataset that nobody allowed us to
// replace.
std::vector<fs::path> replaceable_shards(const fs::path& folder, bool overwrite) {
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (is_shard_name(entry.path().filename().string())) shards.push_back(entry.path());
  }
  if (!shards.empty() && !overwrite && !fs::exists(marker_path(folder))) {
    throw Error(ExitCode::usage,
                fmt::format("{} holds another dataset ({} shards)", folder.string(), shards.size()),
                "choose another folder, or say --overwrite to replace it");
  }
  return shards;
}

// Readies the folder for new shards. dataset.json goes first and comes back last: where it is, it is true.
void clear_folder(const fs::path& folder, bool overwrite) {
  const auto old_shards = replaceable_shards(folder, overwrite);
  write_file_atomically(marker_path(folder), "kiln data prepare is at work here, or was interrupted.\n");
  fs::remove(folder / "dataset.json");
  for (const auto& shard : old_shards) fs::remove(shard);
}

}  // namespace

PrepareSummary prepare(const PrepareOptions& options,
                       const std::function<void(const PrepareProgress&)>& progress) {
  check_options(options);
  const auto tokenizer = open_tokenizer(options.tokenizer);
  if (tokenizer->vocab() > 65536) {
    throw Error(ExitCode::usage,
                fmt::format("{} has {} tokens, more than 65536", options.tokenizer, tokenizer->vocab()),
                "shards hold tokens of 16 bits");
  }
  const Json wanted = describe_options(options, *tokenizer);
  try {
    fs::create_directories(options.folder);
    const Json existing = read_description(options.folder);
    if (auto summary = existing_dataset(options.folder, existing, wanted)) return *summary;
    clear_folder(options.folder, options.overwrite);
  } catch (const fs::filesystem_error& error) {
    throw Error(ExitCode::data,
                fmt::format("cannot use {}: {}", options.folder.string(), error.code().message()),
                "give a folder that may be written to");
  }

  PrepareProgress state{};
  for (const auto& input : wanted["inputs"]) state.bytes_total += input["bytes"].get<int64_t>();
  Splitter splitter(options, *tokenizer);
  int64_t reported = 0;
  const auto report = [&] {
    if (!progress) return;
    const PrepareSummary so_far = splitter.summary();
    state.documents = so_far.train.documents + so_far.validation.documents;
    state.tokens = so_far.train.tokens + so_far.validation.tokens;
    progress(state);
  };
  ReadOptions read;
  for (const auto& input : options.inputs) read.inputs.push_back(input.string());
  read.text_document_bytes = options.text_document_bytes;
  DocumentReader reader(read);
  for (std::vector<Record> records; reader.read(1, records); records.clear()) {
    splitter.add(reader.text_of(std::move(records[0])));
    state.bytes_done = reader.bytes_done();
    if (state.bytes_done - reported >= kProgressBytes) {
      reported = state.bytes_done;
      report();
    }
  }
  splitter.finish();
  state.bytes_done = state.bytes_total;
  report();
  const PrepareSummary summary = splitter.summary();
  write_description(options.folder, wanted, summary);
  std::error_code ignored;  // a marker that stays only allows the next run to replace the dataset
  fs::remove(marker_path(options.folder), ignored);
  return summary;
}

}  // namespace kiln::data
