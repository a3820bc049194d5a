// The safetensors file format (github.com/huggingface/safetensors): a u64 header length, a JSON header
// {"__metadata__": {string: string}, name: {"dtype", "shape", "data_offsets": [begin, end)}, ...}, then raw
// data, everything little-endian. Offsets count from the end of the header; the tensors cover the data
// without gaps.
//
// Every failure throws Error(ExitCode::data) that begins with the file's path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/core/file.h"
#include "src/core/parallel.h"
#include "src/core/shape.h"

namespace kiln {

// The format's element types of at least one byte; names as in the file ("BOOL", "BF16", "F8_E4M3", ...).
enum class TensorType : uint8_t {
  boolean,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  u16,
  i16,
  f16,
  bf16,
  u32,
  i32,
  f32,
  u64,
  i64,
  f64
};
std::string_view name_of(TensorType type);
size_t size_of(TensorType type);

// A tensor inside a mapped file, valid as long as the SafetensorsFile lives.
struct TensorView {
  TensorType type;
  Shape shape;  // empty: one element
  std::span<const std::byte>
      bytes;  // row-major, dense; aligned to the element only if the writer padded its header
};

// A mapped file. Nothing in it is trusted: the constructor checks the header's length (100 MB at most, inside
// the file), that it is a JSON object nested no deeper than 8 without repeated keys, and for each tensor a
// known type, a shape whose size fits, offsets inside the file that match shape and type and leave no gap and
// no overlap.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }  // in the order of the data
  bool contains(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  const TensorView& tensor(std::string_view name) const;  // throws if there is none of that name
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::vector<std::string> names_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to be written: `data` points to the dense row-major elements.
struct TensorSource {
  std::string name;
  TensorType type;
  Shape shape;
  const void* data;
};

struct SafetensorsOptions {
  std::map<std::string, std::string> metadata;
  bool sync = false;  // fsync before returning
};

// Writes `count` tensors in the order source(0), source(1), ... (each asked for twice). The data goes from
// the tensors' memory to the file, nothing is gathered in memory: no allocation exceeds 64 KiB however many
// tensors there are. The header is padded with spaces so that the data begins at a multiple of 8 bytes. Not
// atomic: after an error or a crash the path holds a file that SafetensorsFile refuses, so write under a
// temporary name.
void write_safetensors(const std::filesystem::path& path, size_t count,
                       FunctionRef<TensorSource(size_t index)> source,
                       const SafetensorsOptions& options = {});
void write_safetensors(const std::filesystem::path& path, std::span<const TensorSource> tensors,
                       const SafetensorsOptions& options = {});

}  // namespace kiln
