#include "data/inspect.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "data/append_file.h"
#include "data/bpe.h"
#include "data/tokenizer.h"
#include "src/core/checksum.h"
#include "src/core/error.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCopyAgainHint = "the file is damaged: copy it again or prepare the dataset anew";

std::vector<fs::path> shard_files(const fs::path& path) {
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() == ".bin") files.push_back(entry.path());
  }
  if (files.empty()) {
    throw Error(ExitCode::data, fmt::format("{} holds no shards (*.bin)", path.string()),
                "give a shard, or a folder that kiln data prepare wrote to");
  }
  std::sort(files.begin(), files.end());
  return files;
}

class Inspector {
 public:
  Inspector(const InspectOptions& options, const std::function<void(int64_t, int64_t)>& progress)
      : options_(options), progress_(progress), files_(shard_files(options.path)) {
    result_.description = read_description(files_.front().parent_path());
    open_tokenizer_or_say_why();
    for (const auto& file : files_) all_bytes_ += static_cast<int64_t>(fs::file_size(file));
  }

  Inspection run() {
    for (const auto& file : files_) inspect_shard(file);
    if (result_.description) {
      const auto& d = *result_.description;
      if (fs::is_directory(options_.path)) {
        check_split("train", d.train);
        check_split("validation", d.validation);
      }
    }
    rank_tokens();
    result_.verified = options_.verify;
    return std::move(result_);
  }

 private:
  void open_tokenizer_or_say_why() {
    const auto& description = result_.description;
    std::string spec = options_.tokenizer;
    if (spec.empty() && description) {
      spec = description->tokenizer_path.empty() ? description->tokenizer_name : description->tokenizer_path;
      // The folder may have been moved together with its tokenizer.
      const fs::path beside = files_.front().parent_path() / fs::path(spec).filename();
      if (spec != kBytes && !fs::exists(spec) && fs::exists(beside)) spec = beside.string();
    }
    if (!spec.empty()) {
      try {
        tokenizer_ = open_tokenizer(spec);
        result_.tokenizer = tokenizer_->name();
      } catch (const Error& error) {
        if (!options_.tokenizer.empty()) throw;
        result_.tokenizer_problem = error.what();
      }
    }
    if (tokenizer_ && description && tokenizer_->fingerprint() != description->tokenizer_fingerprint) {
      result_.tokenizer_problem = fmt::format("{} is not the tokenizer that the shards were made with", spec);
      tokenizer_.reset();
      result_.tokenizer.clear();
    }
    if (tokenizer_) {
      vocab_ = tokenizer_->vocab();
      result_.end_of_text = tokenizer_->end_of_text();
    } else if (description) {
      vocab_ = description->vocab;
      result_.end_of_text = description->end_of_text;
    }
  }

  void inspect_shard(const fs::path& file) {
    const Shard shard(file, vocab_);
    InspectedShard found{file.filename().string(), shard.format(), shard.tokens(), 0};
    std::vector<int32_t> tokens;
    constexpr int64_t kChunk = 1 << 20;
    for (int64_t begin = 0; begin < shard.tokens(); begin += kChunk) {
      tokens.resize(static_cast<size_t>(std::min(kChunk, shard.tokens() - begin)));
      shard.read(begin, static_cast<int64_t>(tokens.size()), tokens.data());
      if (result_.end_of_text < 0) {
        result_.end_of_text = tokens[0];
        result_.end_of_text_guessed = true;
      }
      count(tokens, found);
      if (begin == 0) begin_text(found.name, tokens);
      done_bytes_ += static_cast<int64_t>(tokens.size()) * shard.format().token_bytes;
      if (progress_) progress_(done_bytes_, all_bytes_);
    }
    check_entry(file, found);
    result_.shards.push_back(found);
  }

  void count(const std::vector<int32_t>& tokens, InspectedShard& found) {
    for (const int32_t token : tokens) {
      const auto index = static_cast<size_t>(token);
      if (index >= counts_.size()) counts_.resize(index + 1);
      counts_[index]++;
      found.documents += token == result_.end_of_text;
    }
  }

  // Of the first shard of every split.
  void begin_text(const std::string& name, const std::vector<int32_t>& tokens) {
    const std::string split = name.substr(0, name.find_last_of('_'));
    if (!tokenizer_ || options_.text_tokens == 0) return;
    if (std::find(splits_.begin(), splits_.end(), split) != splits_.end()) return;
    splits_.push_back(split);
    std::string text;
    tokenizer_->decode(
        std::span(tokens).first(std::min(tokens.size(), static_cast<size_t>(options_.text_tokens))), text);
    result_.texts.emplace_back(name, text);
  }

  void check_entry(const fs::path& file, const InspectedShard& found) const {
    if (!result_.description) return;
    for (const auto* split : {&result_.description->train, &result_.description->validation}) {
      for (const auto& entry : split->shards) {
        if (entry.file != found.name) continue;
        if (entry.tokens != found.tokens) {
          throw Error(ExitCode::data,
                      fmt::format("{} has {} tokens, but dataset.json counts {}", file.string(), found.tokens,
                                  entry.tokens),
                      kCopyAgainHint);
        }
        if (!options_.verify) return;
        const std::string checksum = file_checksum(file);
        if (checksum != entry.checksum) {
          throw Error(ExitCode::data,
                      fmt::format("{} has the checksum {}, but dataset.json says {}", file.string(), checksum,
                                  entry.checksum),
                      kCopyAgainHint);
        }
        return;
      }
    }
  }

  // Every shard is there, and together they hold as many documents as dataset.json says.
  void check_split(const std::string& name, const SplitState& split) const {
    int64_t documents = 0;
    for (const auto& entry : split.shards) {
      const auto found = std::find_if(result_.shards.begin(), result_.shards.end(),
                                      [&](const InspectedShard& shard) { return shard.name == entry.file; });
      if (found == result_.shards.end()) {
        throw Error(ExitCode::data,
                    fmt::format("{} lacks {}, which dataset.json lists", options_.path.string(), entry.file),
                    "copy the whole folder again or prepare the dataset anew");
      }
      documents += found->documents;
    }
    if (documents != split.documents) {
      throw Error(ExitCode::data,
                  fmt::format("the shards of the {} split hold {} documents, but dataset.json counts {}",
                              name, documents, split.documents),
                  kCopyAgainHint);
    }
  }

  void rank_tokens() {
    std::vector<int32_t> order(counts_.size());
    std::iota(order.begin(), order.end(), 0);
    const auto rarer = [this](int32_t a, int32_t b) {
      const int64_t x = counts_[static_cast<size_t>(a)], y = counts_[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    };
    const auto listed =
        std::min(order.size(), static_cast<size_t>(std::max<int64_t>(options_.most_frequent, 0)));
    std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(listed), order.end(), rarer);
    for (size_t i = 0; i < listed && counts_[static_cast<size_t>(order[i])] > 0; i++) {
      std::string text;
      if (tokenizer_) tokenizer_->decode(std::span(&order[i], 1), text);
      result_.frequent.push_back({order[i], counts_[static_cast<size_t>(order[i])], text});
    }
  }

  const InspectOptions& options_;
  const std::function<void(int64_t, int64_t)>& progress_;
  std::vector<fs::path> files_;
  std::unique_ptr<Tokenizer> tokenizer_;
  int64_t vocab_ = kMaxVocab;    // where nobody says which it is
  std::vector<int64_t> counts_;  // by token
  std::vector<std::string> splits_;
  int64_t done_bytes_ = 0, all_bytes_ = 0;
  Inspection result_;
};

}  // namespace

Inspection inspect(const InspectOptions& options, const std::function<void(int64_t, int64_t)>& progress) {
  std::error_code error;
  if (!fs::exists(options.path, error)) {
    throw Error(ExitCode::data, fmt::format("there is no {}", options.path.string()),
                "give a shard, or a folder that kiln data prepare wrote to");
  }
  return Inspector(options, progress).run();
}

}  // namespace kiln::data
