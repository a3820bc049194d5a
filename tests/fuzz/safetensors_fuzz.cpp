// A safetensors file of any bytes is refused with an Error, or every byte of its tensors can be read and the file that
// is written from them holds the same.
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <vector>

#include "src/core/safetensors.h"
#include "tests/fuzz/memory_file.h"

namespace {

bool same(const kiln::TensorView& a, const kiln::TensorView& b) {
  return a.type == b.type && a.shape == b.shape && std::ranges::equal(a.bytes, b.bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kiln::fuzz::MemoryFile file(data, size);
  kiln::fuzz::expect_error_or_success([&] {
    const kiln::SafetensorsFile read(file.path());
    std::vector<kiln::TensorSource> sources;
    size_t bytes = 0;
    for (const std::string& name : read.names()) {
      const kiln::TensorView& tensor = read.tensor(name);
      bytes += tensor.bytes.size();
      sources.push_back({name, tensor.type, tensor.shape, tensor.bytes.data()});
    }
    if (bytes > size || read.contains("no such tensor\x01")) std::abort();

    const kiln::fuzz::MemoryFile copy;
    kiln::write_safetensors(copy.path(), sources, {.metadata = read.metadata()});
    try {
      const kiln::SafetensorsFile again(copy.path());
      if (again.metadata() != read.metadata() || again.names().size() != read.names().size()) std::abort();
      for (const std::string& name : read.names()) {
        if (!same(again.tensor(name), read.tensor(name))) std::abort();
      }
    } catch (const kiln::Error&) {
      std::abort();  // what was written must be readable
    }
  });
  return 0;
}
