#include "data/split_writer.h"

#include <algorithm>
#include <utility>

#include "src/core/checksum.h"
#include "src/core/error.h"

namespace kiln::data {
namespace {

constexpr int64_t kMaxShards = 999'999;  // six digits, so that name order is number order

}  // namespace

std::filesystem::path shard_path(const SplitLayout& layout, int64_t number) {
  return layout.folder / fmt::format("{}_{:06}.bin", layout.name, number);
}

SplitWriter::SplitWriter(SplitLayout layout, SplitState state)
    : layout_(std::move(layout)), state_(std::move(state)) {
  if (state_.open_tokens == 0) return;
  const auto path = shard_path(layout_, layout_.first_number + static_cast<int64_t>(state_.shards.size()));
  shard_ = std::make_unique<ShardWriter>(path, layout_.format, state_.open_tokens);
}

void SplitWriter::add(std::span<const int32_t> tokens, int64_t text_bytes) {
  state_.documents++;
  state_.tokens += static_cast<int64_t>(tokens.size());
  state_.bytes += text_bytes;
  while (!tokens.empty()) {
    if (!shard_) {
      const auto number = static_cast<int64_t>(state_.shards.size());
      if (number == kMaxShards) {
        throw Error(ExitCode::usage, fmt::format("the text needs more than {} shards", kMaxShards),
                    "let a shard hold more tokens");
      }
      shard_ =
          std::make_unique<ShardWriter>(shard_path(layout_, layout_.first_number + number), layout_.format);
    }
    const auto room = static_cast<size_t>(layout_.shard_tokens - shard_->tokens());
    const auto part = tokens.first(std::min(tokens.size(), room));
    shard_->append(part);
    tokens = tokens.subspan(part.size());
    state_.open_tokens = shard_->tokens();
    if (shard_->tokens() == layout_.shard_tokens) close_shard();
  }
}

void SplitWriter::sync() {
  if (shard_) shard_->sync();
}

void SplitWriter::close() {
  if (shard_) close_shard();
}

void SplitWriter::close_shard() {
  const int64_t tokens = shard_->tokens();
  const auto path = shard_path(layout_, layout_.first_number + static_cast<int64_t>(state_.shards.size()));
  shard_->close();
  shard_.reset();
  state_.shards.push_back({path.filename().string(), tokens, file_checksum(path)});
  state_.open_tokens = 0;
}

}  // namespace kiln::data
