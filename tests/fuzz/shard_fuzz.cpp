// A shard of any bytes is refused with an Error, or read to its end. The first byte chooses the vocabulary.
#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "data/shard.h"

namespace {

// A file in memory only.
class MemoryFile {
 public:
  explicit MemoryFile(const uint8_t* data, size_t size) : descriptor_(::memfd_create("shard", MFD_CLOEXEC)) {
    for (size_t done = 0; done < size;) {
      const ssize_t written = ::write(descriptor_, data + done, size - done);
      if (written <= 0) std::abort();
      done += static_cast<size_t>(written);
    }
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return fmt::format("/proc/self/fd/{}", descriptor_); }

 private:
  int descriptor_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const int64_t vocab = data[0] == 0 ? 1 << 20 : data[0];
  const MemoryFile file(data + 1, size - 1);
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
