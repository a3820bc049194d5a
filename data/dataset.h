// Many shards as one long row of tokens, cut into windows.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/shard.h"

namespace kiln::data {

// Window i holds tokens [i*T, i*T + T], one more than T: inputs and, shifted by one, targets.
class Dataset {
 public:
  // `pattern`: a path, possibly with * and ? in its last component; matches are taken in name order. Throws
  // Error(ExitCode::data) when nothing matches, when a file is no sound shard, or when fewer than T + 1
  // tokens are there.
  Dataset(const std::string& pattern, int64_t vocab, int64_t T);

  int64_t tokens() const { return total_; }
  int64_t window_tokens() const { return T_; }
  int64_t windows() const { return (total_ - 1) / T_; }
  // (T) each; index < windows(). Throws Error(ExitCode::data) when a token is not below `vocab`.
  void read_window(int64_t index, int32_t* inputs, int32_t* targets) const;
  // `count` tokens from `begin` on, and the same number of those that follow each.
  void read(int64_t begin, int64_t count, int32_t* inputs, int32_t* targets) const;
  const std::vector<std::string>& files() const { return files_; }

 private:
  void copy(int64_t begin, int64_t count, int32_t* out) const;  // tokens of the row, also across shards

  std::vector<Shard> shards_;
  std::vector<int64_t> starts_;  // of each shard in the row
  std::vector<std::string> files_;
  int64_t total_ = 0, T_;
};

// Tells datasets apart: a checksum of the number of tokens and of some of them, drawn evenly. File names do
// not count.
std::string fingerprint(const Dataset& dataset);

// The entropy in nats of drawing tokens independently with these frequencies: what a model reaches that knows
// nothing but how common each token is. At least one count must be positive.
double unigram_entropy(std::span<const int64_t> counts);

}  // namespace kiln::data
