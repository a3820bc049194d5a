#include "data/dataset_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "data/hash_set.h"
#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::data {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

namespace {

constexpr int kLayout = 2;  // of dataset.json and preparing.json

// Paths need not be UTF-8; JSON must.
std::string dump(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Path, size and time of change of every input: what tells whether a dataset is still that of its inputs. A
// stream has its name only.
Json describe_inputs(const ReadOptions& read) {
  Json list = Json::array();
  for (const auto& input : read.inputs) {
    struct stat info {};
    const bool named = input != kStandardInput;
    if (named && ::stat(input.c_str(), &info) != 0) {
      throw Error(ExitCode::data, fmt::format("cannot read {}: {}", input, std::strerror(errno)),
                  "inputs are .jsonl and .txt files, or - for standard input; check the spelling");
    }
    Json entry = {{"path", input}};
    if (named && S_ISREG(info.st_mode)) {
      entry["bytes"] = info.st_size;
      entry["changed"] = info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

bool has_stream(const Json& inputs) {
  return std::any_of(inputs.begin(), inputs.end(),
                     [](const Json& input) { return !input.contains("bytes"); });
}

std::string describe(const PrepareOptions& options, const Tokenizer& tokenizer) {
  Json wanted = {{"layout", kLayout},
                 {"tokenizer",
                  {{"name", tokenizer.name()},
                   {"path", options.tokenizer == kBytes ? "" : options.tokenizer},
                   {"fingerprint", tokenizer.fingerprint()},
                   {"vocab", tokenizer.vocab()},
                   {"end_of_text", tokenizer.end_of_text()}}},
                 {"validation_fraction", options.validation_fraction},
                 {"shard_tokens", options.shard_tokens},
                 {"text_document_bytes", options.read.text_document_bytes},
                 {"format", options.read.format},
                 {"keep_duplicates", options.keep_duplicates},
                 {"inputs", describe_inputs(options.read)}};
  if (options.read.text_cut > 0) wanted["text_cut"] = options.read.text_cut;
  return dump(wanted);
}

// The keys of `wanted` that `found` has otherwise; the same tokenizer may have another path.
std::vector<std::string> differences(const Json& wanted, const Json& found) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : wanted.items()) {
    const auto other = found.find(key);
    const bool tokenizer = key == "tokenizer" && other != found.end() && other->is_object();
    const bool same = other != found.end() &&
                      (tokenizer ? other->value("fingerprint", "") == value["fingerprint"] : *other == value);
    if (!same) keys.push_back(key);
  }
  return keys;
}

Json to_json(const SplitState& split) {
  Json shards = Json::array();
  for (const auto& shard : split.shards) {
    shards.push_back({{"file", shard.file}, {"tokens", shard.tokens}, {"xxh3", shard.checksum}});
  }
  return {
      {"documents", split.documents}, {"tokens", split.tokens}, {"bytes", split.bytes}, {"shards", shards}};
}

SplitState split_from(const Json& json) {
  SplitState split;
  split.documents = json.at("documents");
  split.tokens = json.at("tokens");
  split.bytes = json.at("bytes");
  int64_t closed = 0;
  for (const Json& shard : json.at("shards")) {
    split.shards.push_back({shard.at("file"), shard.at("tokens"), shard.at("xxh3")});
    closed += split.shards.back().tokens;
  }
  split.open_tokens = split.tokens - closed;
  if (split.documents < 0 || split.bytes < 0 || split.open_tokens < 0) throw std::out_of_range("a count");
  return split;
}

Json to_json(const ReadPosition& position) {
  return {{"input", position.input}, {"offset", position.offset}, {"line", position.line}};
}

ReadPosition position_from(const Json& json) {
  return {json.at("input"), json.at("offset"), json.at("line")};
}

Json to_json(const Journal& journal) {
  Json waiting;
  if (journal.waiting) {
    waiting = {{"position", to_json(journal.waiting->position)},
               {"record_bytes", journal.waiting->record_bytes},
               {"hash", journal.waiting->hash}};
  }
  return {{"position", to_json(journal.position)},
          {"train", to_json(journal.train)},
          {"validation", to_json(journal.validation)},
          {"duplicates", journal.duplicates},
          {"empty", journal.empty},
          {"hashes", journal.hashes},
          {"waiting", waiting}};
}

Journal journal_from(const Json& json) {
  Journal journal{.position = position_from(json.at("position")),
                  .train = split_from(json.at("train")),
                  .validation = split_from(json.at("validation")),
                  .duplicates = json.at("duplicates"),
                  .empty = json.at("empty"),
                  .hashes = json.at("hashes"),
                  .waiting = {}};
  const Json& waiting = json.at("waiting");
  if (!waiting.is_null()) {
    journal.waiting = {position_from(waiting.at("position")), waiting.at("record_bytes"), waiting.at("hash")};
  }
  return journal;
}

// The object in a file; null when there is none.
Json read_object(const fs::path& path) {
  if (!fs::exists(path)) return nullptr;
  Json object = Json::parse(read_file(path), nullptr, false);
  return object.is_object() ? object : Json(nullptr);
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

std::vector<fs::path> shards_in(const fs::path& folder) {
  std::vector<fs::path> shards;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (is_shard_name(entry.path().filename().string())) shards.push_back(entry.path());
  }
  return shards;
}

// Of the shard that is not complete.
fs::path open_shard_path(const SplitState& split, const SplitLayout& layout) {
  return shard_path(layout, layout.first_number + static_cast<int64_t>(split.shards.size()));
}

bool shards_there(const fs::path& folder, const SplitState& split, int64_t token_bytes) {
  return std::all_of(split.shards.begin(), split.shards.end(), [&](const ShardEntry& shard) {
    std::error_code error;
    const auto bytes = fs::file_size(folder / shard.file, error);
    return !error && bytes == static_cast<uintmax_t>(kShardHeaderBytes + shard.tokens * token_bytes);
  });
}

}  // namespace

std::optional<DatasetDescription> read_description(const fs::path& folder) {
  const Json json = read_object(folder / "dataset.json");
  if (json.is_null()) return {};
  try {
    const Json& tokenizer = json.at("tokenizer");
    DatasetDescription description{.tokenizer_name = tokenizer.at("name"),
                                   .tokenizer_path = tokenizer.at("path"),
                                   .tokenizer_fingerprint = tokenizer.at("fingerprint"),
                                   .vocab = tokenizer.at("vocab"),
                                   .end_of_text = tokenizer.at("end_of_text"),
                                   .train = split_from(json.at("train")),
                                   .validation = split_from(json.at("validation")),
                                   .duplicates = json.at("duplicates"),
                                   .empty = json.at("empty")};
    if (description.vocab < 1 || description.train.open_tokens || description.validation.open_tokens)
      return {};
    return description;
  } catch (const std::exception&) {  // another layout, or damaged
    return {};
  }
}

DatasetFolder::DatasetFolder(const PrepareOptions& options, const Tokenizer& tokenizer)
    : options_(options),
      vocab_(tokenizer.vocab()),
      folder_(options.folder),
      wanted_(describe(options, tokenizer)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (!error) {
    lock_ = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_ < 0) error.assign(errno, std::generic_category());
  }
  if (error) {
    throw Error(ExitCode::data, fmt::format("cannot use {}: {}", folder_.string(), error.message()),
                "give a folder that may be written to");
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(lock_);
    throw Error(ExitCode::usage, fmt::format("another kiln data prepare is at work in {}", folder_.string()),
                "wait for it, or give another folder");
  }
}

DatasetFolder::~DatasetFolder() {
  ::close(lock_);
}

SplitLayout DatasetFolder::train_layout() const {
  return {folder_, "train", 1, options_.shard_tokens, shard_format(vocab_)};
}

SplitLayout DatasetFolder::validation_layout() const {
  return {folder_, "validation", 0, options_.shard_tokens, shard_format(vocab_)};
}

std::optional<DatasetDescription> DatasetFolder::finished() const {
  const Json found = read_object(description_path()), wanted = Json::parse(wanted_);
  if (found.is_null() || has_stream(wanted["inputs"]) || !differences(wanted, found).empty()) return {};
  const auto description = read_description(folder_);
  const int64_t token_bytes = shard_format(vocab_).token_bytes;
  if (!description || !shards_there(folder_, description->train, token_bytes) ||
      !shards_there(folder_, description->validation, token_bytes)) {
    return {};
  }
  remove_unfinished();  // a run can be killed between its last two steps
  return description;
}

Journal DatasetFolder::begin() {
  const Json found = read_object(journal_path()), wanted = Json::parse(wanted_);
  const Json interrupted = found.is_null() ? Json::object() : found.value("wanted", Json::object());
  const auto changes = differences(wanted, interrupted);
  const bool unfinished = fs::exists(journal_path()), streams = has_stream(wanted["inputs"]);
  if (unfinished && !streams && changes.empty()) {
    const auto journal = intact_journal(found);
    if (journal) {
      put_back(*journal);
      return *journal;
    }
    if (!options_.overwrite) {
      throw Error(ExitCode::data,
                  fmt::format("{} has lost some of the unfinished dataset that an interrupted run left",
                              folder_.string()),
                  "start anew with --overwrite");
    }
  }
  if (!options_.overwrite && unfinished && streams) {
    throw Error(
        ExitCode::usage,
        fmt::format("{} holds what an interrupted run made; one that reads a stream cannot go on with it",
                    folder_.string()),
        "start again with --overwrite, or choose another folder");
  }
  if (!options_.overwrite && unfinished) {
    throw Error(ExitCode::usage,
                fmt::format("{} holds the unfinished dataset of a run with other options or inputs ({})",
                            folder_.string(), fmt::join(changes, ", ")),
                "repeat that run to go on with it, say --overwrite to replace it, or choose another folder");
  }
  const auto shards = shards_in(folder_);
  if (!options_.overwrite && !shards.empty()) {
    throw Error(ExitCode::usage,
                fmt::format("{} holds another dataset ({} shards)", folder_.string(), shards.size()),
                "choose another folder, or say --overwrite to replace it");
  }
  write({});
  put_back({});
  return {};
}

// The journal, if it is sound and everything that it speaks of is there.
std::optional<Journal> DatasetFolder::intact_journal(const nlohmann::ordered_json& file) const {
  const auto at_least = [](const fs::path& path, int64_t bytes) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    return !error && size >= static_cast<uintmax_t>(bytes);
  };
  Journal journal;
  try {
    journal = journal_from(file.at("journal"));
  } catch (const std::exception&) {
    return {};
  }
  const int64_t token_bytes = shard_format(vocab_).token_bytes;
  for (const auto& [split, layout] : splits(journal)) {
    if (!shards_there(folder_, *split, token_bytes)) return {};
    if (split->open_tokens == 0) continue;
    const fs::path path = open_shard_path(*split, layout);
    const int64_t bytes = kShardHeaderBytes + split->open_tokens * token_bytes;
    if (!at_least(path, bytes) && !at_least(ShardWriter::temporary_path(path), bytes)) return {};
  }
  const auto hash_bytes = journal.hashes * static_cast<int64_t>(sizeof(DocumentHash));
  if (journal.hashes > 0 && !at_least(hashes_path(), hash_bytes)) return {};
  return journal;
}

// Puts the shards back to where they were at the journal's last entry.
void DatasetFolder::put_back(const Journal& journal) const {
  fs::remove(description_path());
  std::vector<fs::path> kept;
  for (const auto& [split, layout] : splits(journal)) {
    for (const auto& shard : split->shards) kept.push_back(folder_ / shard.file);
    if (split->open_tokens == 0) continue;
    const fs::path path = open_shard_path(*split, layout), temporary = ShardWriter::temporary_path(path);
    if (fs::exists(path)) fs::rename(path, temporary);  // it was completed after that entry
    kept.push_back(temporary);
  }
  for (const auto& shard : shards_in(folder_)) {
    if (std::find(kept.begin(), kept.end(), shard) == kept.end()) fs::remove(shard);
  }
}

std::array<std::pair<const SplitState*, SplitLayout>, 2> DatasetFolder::splits(const Journal& journal) const {
  return {std::pair(&journal.train, train_layout()), std::pair(&journal.validation, validation_layout())};
}

void DatasetFolder::write(const Journal& journal) const {
  const Json json = {
      {"what", "kiln data prepare is at work here, or was interrupted: the same command goes on"},
      {"wanted", Json::parse(wanted_)},
      {"journal", to_json(journal)}};
  write_file_atomically(journal_path(), dump(json));
}

void DatasetFolder::check_inputs() const {
  const Json before = Json::parse(wanted_)["inputs"], now = Json::parse(dump(describe_inputs(options_.read)));
  for (size_t i = 0; i < before.size(); i++) {
    if (before[i] == now[i]) continue;
    throw Error(ExitCode::data, fmt::format("{} changed while it was read", options_.read.inputs[i]),
                "let nobody write to the inputs, and start again");
  }
}

void DatasetFolder::finish(const Journal& journal) {
  Json description = Json::parse(wanted_);
  description["train"] = to_json(journal.train);
  description["validation"] = to_json(journal.validation);
  description["duplicates"] = journal.duplicates;
  description["empty"] = journal.empty;
  write_file_atomically(description_path(), dump(description));
  remove_unfinished();
}

void DatasetFolder::remove_unfinished() const {
  std::error_code ignored;  // what stays is removed by the next run
  fs::remove(hashes_path(), ignored);
  fs::remove(journal_path(), ignored);
}

void DatasetFolder::discard() const {
  for (const auto& shard : shards_in(folder_)) fs::remove(shard);
  remove_unfinished();
}

}  // namespace kiln::data
