// A shard of any bytes is refused with an Error, or read to its end. The first byte chooses the vocabulary.
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <vector>

#include "data/shard.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const int64_t vocab = data[0] == 0 ? 1 << 20 : data[0];
  const kiln::fuzz::MemoryFile file(data + 1, size - 1);
  kiln::fuzz::expect_error_or_success([&] {
    const kiln::data::Shard shard(file.path(), vocab);
    std::vector<int32_t> tokens(static_cast<size_t>(shard.tokens()));
    shard.read(0, shard.tokens(), tokens.data());
    shard.verify();
    const auto fits = [&](int32_t token) { return token >= 0 && token < vocab; };
    if (!std::all_of(tokens.begin(), tokens.end(), fits)) std::abort();
  });
  return 0;
}
