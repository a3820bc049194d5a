#include "data/dataset.h"

#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "src/core/checksum.h"
#include "src/core/error.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> matching_files(const std::string& pattern) {
  const std::string last = fs::path(pattern).filename().string();
  if (last.find_first_of("*?") == std::string::npos) return {pattern};
  const fs::path folder = fs::path(pattern).parent_path();
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder.empty() ? "." : folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (::fnmatch(last.c_str(), name.c_str(), FNM_PERIOD) == 0) files.push_back((folder / name).string());
  }
  if (files.empty()) {
    throw Error(
        ExitCode::data,
        fmt::format("no file matches {}{}", pattern,
                    error ? fmt::format(" ({})", error.message()) : std::string()),
        "check the path (* and ? work in its last part only), or make shards with `kiln data prepare`");
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

Dataset::Dataset(const std::string& pattern, int64_t vocab, int64_t T) : T_(T) {
  require(vocab >= 1 && T >= 1, "a dataset needs a vocabulary and a window of at least one token");
  files_ = matching_files(pattern);
  for (const auto& file : files_) {
    shards_.emplace_back(file, vocab);
    starts_.push_back(total_);
    total_ += shards_.back().tokens();
  }
  if (total_ < T + 1) {
    throw Error(ExitCode::data,
                fmt::format("{} holds {} tokens in {} {}, but one window of {} needs {}", pattern, total_,
                            files_.size(), files_.size() == 1 ? "file" : "files", T, T + 1),
                "prepare more text, or lower train.sequence");
  }
}

void Dataset::copy(int64_t begin, int64_t count, int32_t* out) const {
  size_t shard =
      static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), begin) - starts_.begin()) - 1;
  for (; count > 0; shard++) {
    const int64_t skip = begin - starts_[shard];
    const int64_t n = std::min(count, shards_[shard].tokens() - skip);
    shards_[shard].read(skip, n, out);
    out += n;
    begin += n;
    count -= n;
  }
}

void Dataset::read_window(int64_t index, int32_t* inputs, int32_t* targets) const {
  require(index >= 0 && index < windows(), "window outside the dataset");
  read(index * T_, T_, inputs, targets);
}

void Dataset::read(int64_t begin, int64_t count, int32_t* inputs, int32_t* targets) const {
  require(begin >= 0 && count > 0 && begin + count < total_, "tokens outside the dataset");
  copy(begin, count, inputs);
  copy(begin + 1, count, targets);
}

std::string fingerprint(const Dataset& dataset) {
  constexpr int64_t kWindows = 64;
  const auto T = static_cast<size_t>(dataset.window_tokens());
  std::vector<int32_t> inputs(T), targets(T);
  std::string text = fmt::format("{} tokens", dataset.tokens());
  for (int64_t i = 0; i < kWindows; i++) {
    dataset.read_window(i * (dataset.windows() - 1) / (kWindows - 1), inputs.data(), targets.data());
    text += text_checksum({reinterpret_cast<const char*>(inputs.data()), T * sizeof(int32_t)});
  }
  return fmt::format("{} tokens, xxh3 {}", dataset.tokens(), text_checksum(text));
}

double unigram_entropy(std::span<const int64_t> counts) {
  double total = 0;
  for (const int64_t count : counts) total += static_cast<double>(count);
  double entropy = 0;
  for (const int64_t count : counts) {
    const double p = static_cast<double>(count) / total;
    if (count > 0) entropy -= p * std::log(p);
  }
  return entropy;
}

}  // namespace kiln::data
