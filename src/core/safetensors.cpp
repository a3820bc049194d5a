#include "src/core/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors files are mapped as they are");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // as the reference implementation
constexpr int kMaxDepth = 8;
constexpr const char* kMetadata = "__metadata__";

struct TypeRow {
  std::string_view name;
  size_t bytes;
};
constexpr TypeRow kTypes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                              {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
                              {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};

constexpr const char* kBrokenHint =
    "the file is damaged or not a safetensors file: copy or download it again";

[[noreturn]] void broken(const fs::path& path, const std::string& what) {
  throw Error(ExitCode::data, fmt::format("{}: {}", path.string(), what), kBrokenHint);
}

// Names come from the file: quoted, and shortened so that a message stays a message.
std::string quoted(const std::string& name) {
  const std::string shown = name.size() <= 200 ? name : name.substr(0, 200) + "...";
  return json(shown).dump(-1, ' ', true, json::error_handler_t::replace);
}

// For the header: quoted and escaped.
std::string json_string(const std::string& text) {
  try {
    return json(text).dump();
  } catch (const json::exception&) {
    throw Error(ExitCode::data, fmt::format("{} is not valid UTF-8", quoted(text)), "rename it");
  }
}

// Parses JSON; refuses deep nesting (before it costs memory) and repeated keys (which would hide a tensor).
json parse_header(const fs::path& path, std::string_view text) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
      if (depth >= kMaxDepth)
        broken(path, fmt::format("the header is nested deeper than {} levels", kMaxDepth));
    }
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
      broken(path, fmt::format("the header has the key {} twice", quoted(value.get<std::string>())));
    }
    return true;
  };
  try {
    return json::parse(text, watch);
  } catch (const json::parse_error& e) {
    broken(path,
           fmt::format("the header is not valid JSON (at byte {} of the file)", kLengthBytes + e.byte - 1));
  } catch (const json::exception&) {  // a number too large for a double, for instance
    broken(path, "the header is not valid JSON (a number out of range)");
  }
}

std::map<std::string, std::string> parse_metadata(const fs::path& path, const json& value) {
  if (!value.is_object()) broken(path, fmt::format("{} is not a JSON object", kMetadata));
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) broken(path, fmt::format("the metadata entry {} is not a string", quoted(key)));
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

const json& member(const fs::path& path, const std::string& tensor, const json& entry, const char* key) {
  const auto it = entry.find(key);
  if (it == entry.end()) broken(path, fmt::format("tensor {} has no \"{}\"", quoted(tensor), key));
  return *it;
}

std::optional<TensorType> find_type(std::string_view name) {
  for (size_t i = 0; i < std::size(kTypes); i++) {
    if (kTypes[i].name == name) return static_cast<TensorType>(i);
  }
  return std::nullopt;
}

// One entry of the header; the span of bytes is set from the offsets, already checked against the size of the
// data.
TensorView parse_tensor(const fs::path& path, const std::string& name, const json& entry,
                        std::span<const std::byte> data) {
  const auto fail = [&](const std::string& what) {
    broken(path, fmt::format("tensor {} {}", quoted(name), what));
  };
  if (!entry.is_object()) fail("is not described by a JSON object");

  TensorView view{};
  const json& type = member(path, name, entry, "dtype");
  if (!type.is_string()) fail("has a dtype that is not a string");
  const auto found = find_type(type.get_ref<const std::string&>());
  if (!found) fail(fmt::format("has the unknown dtype {}", quoted(type.get<std::string>())));
  view.type = *found;

  const json& shape = member(path, name, entry, "shape");
  if (!shape.is_array()) fail("has a shape that is not an array");
  uint64_t bytes = size_of(view.type);
  for (const json& extent : shape) {
    if (!extent.is_number_unsigned() || extent.get<uint64_t>() > INT64_MAX) {
      fail("has a shape with an element that is not a whole number from 0 to 2^63 - 1");
    }
    if (__builtin_mul_overflow(bytes, extent.get<uint64_t>(), &bytes))
      fail("has a shape whose size overflows 64 bits");
    view.shape.push_back(extent.get<int64_t>());
  }

  const json& offsets = member(path, name, entry, "data_offsets");
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    fail("has data_offsets that are not two whole numbers");
  }
  const uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  if (begin > end) fail(fmt::format("ends (offset {}) before it begins (offset {})", end, begin));
  if (end > data.size()) {
    fail(fmt::format("ends at offset {}, behind the end of the data ({} bytes): the file is cut short", end,
                     data.size()));
  }
  if (end - begin != bytes) {
    fail(fmt::format("occupies {} bytes, but {} of shape [{}] needs {}", end - begin, name_of(view.type),
                     to_string(view.shape), bytes));
  }
  view.bytes = data.subspan(begin, bytes);
  return view;
}

// A file being written: small pieces gather in a buffer, large ones go straight to the file.
class Output {
 public:
  explicit Output(const fs::path& path) : path_(path) {
    fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) fail("create");
  }
  ~Output() {
    if (fd_ >= 0) ::close(fd_);
  }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void append(std::string_view text) { append(text.data(), text.size()); }
  void append(const void* data, uint64_t bytes) {
    if (used_ + bytes > sizeof buffer_) flush();
    if (bytes > sizeof buffer_) {
      write(data, bytes);
    } else if (bytes > 0) {
      std::memcpy(buffer_ + used_, data, bytes);
      used_ += bytes;
    }
    length_ += bytes;
  }
  void overwrite_start(uint64_t value) {
    flush();
    if (::pwrite(fd_, &value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) fail("write");
  }
  void close(bool sync) {
    flush();
    if (sync && ::fsync(fd_) != 0) fail("sync");
    if (::close(std::exchange(fd_, -1)) != 0) fail("close");  // network file systems report late
  }
  uint64_t length() const { return length_; }

 private:
  void flush() { write(buffer_, std::exchange(used_, 0)); }

  void write(const void* data, uint64_t bytes) {
    if (!write_all(fd_, data, bytes)) fail("write");
  }

  [[noreturn]] void fail(const char* what) const {
    const int code = errno;
    throw Error(ExitCode::data,
                fmt::format("{}: cannot {} the file: {}", path_.string(), what, std::strerror(code)),
                file_error_hint(code));
  }

  fs::path path_;
  int fd_ = -1;
  char buffer_[1 << 12];
  size_t used_ = 0;
  uint64_t length_ = 0;
};

uint64_t byte_count(const TensorSource& tensor) {
  uint64_t bytes = size_of(tensor.type);
  for (const int64_t extent : tensor.shape) {
    require(extent >= 0 && !__builtin_mul_overflow(bytes, static_cast<uint64_t>(extent), &bytes),
            "a tensor to be written has an impossible shape");
  }
  return bytes;
}

}  // namespace

std::string_view name_of(TensorType type) {
  return kTypes[static_cast<size_t>(type)].name;
}
size_t size_of(TensorType type) {
  return kTypes[static_cast<size_t>(type)].bytes;
}

SafetensorsFile::SafetensorsFile(const fs::path& path) : path_(path), file_(path) {
  const std::span<const std::byte> all = file_.bytes();
  if (all.size() < kLengthBytes) {
    broken(path, fmt::format("the file has {} bytes, too few for a safetensors file", all.size()));
  }
  uint64_t length = 0;
  std::memcpy(&length, all.data(), kLengthBytes);
  if (length > kMaxHeader) {
    broken(path,
           fmt::format("the header claims {} bytes, more than the {} that are allowed", length, kMaxHeader));
  }
  if (length > all.size() - kLengthBytes) {
    broken(path, fmt::format("the header claims {} bytes, but only {} follow: the file is cut short", length,
                             all.size() - kLengthBytes));
  }
  const std::string_view text(reinterpret_cast<const char*>(all.data()) + kLengthBytes, length);
  const std::span<const std::byte> data = all.subspan(kLengthBytes + length);

  const json header = parse_header(path, text);
  if (!header.is_object()) broken(path, "the header is not a JSON object");
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadata) {
      metadata_ = parse_metadata(path, entry);
    } else {
      tensors_.emplace(name, parse_tensor(path, name, entry, data));
      names_.push_back(name);
    }
  }

  const auto begin = [&](const std::string& name) {
    return tensors_.find(name)->second.bytes.data() - data.data();
  };
  const auto end = [&](const std::string& name) {
    return begin(name) + static_cast<ptrdiff_t>(tensors_.find(name)->second.bytes.size());
  };
  std::stable_sort(names_.begin(), names_.end(), [&](const std::string& a, const std::string& b) {
    return begin(a) != begin(b) ? begin(a) < begin(b) : end(a) < end(b);
  });
  ptrdiff_t next = 0;
  for (const std::string& name : names_) {
    if (begin(name) != next) {
      broken(path,
             fmt::format("tensor {} begins at offset {}, but the one before it ends at {}: the data {}",
                         quoted(name), begin(name), next, begin(name) < next ? "overlap" : "have a gap"));
    }
    next = end(name);
  }
  if (static_cast<size_t>(next) != data.size()) {
    broken(path, fmt::format("{} bytes follow the last tensor", data.size() - static_cast<size_t>(next)));
  }
}

const TensorView& SafetensorsFile::tensor(std::string_view name) const {
  const auto it = tensors_.find(name);
  if (it == tensors_.end()) {
    throw Error(ExitCode::data,
                fmt::format("{}: there is no tensor {}", path_.string(), quoted(std::string(name))),
                "the file belongs to another model");
  }
  return it->second;
}

void write_safetensors(const fs::path& path, size_t count, FunctionRef<TensorSource(size_t)> source,
                       const SafetensorsOptions& options) {
  Output file(path);
  std::set<std::string> names;
  file.append(std::string_view("\0\0\0\0\0\0\0\0", kLengthBytes));  // the length, once it is known
  file.append("{");
  const char* comma = "";
  for (const auto& [key, text] : options.metadata) {
    file.append(*comma ? comma : fmt::format("\"{}\":{{", kMetadata));
    file.append(json_string(key));
    file.append(":");
    file.append(json_string(text));
    comma = ",";
  }
  if (*comma) file.append("}");
  uint64_t offset = 0;
  for (size_t i = 0; i < count; i++) {
    const TensorSource tensor = source(i);
    require(tensor.name != kMetadata && names.insert(tensor.name).second,
            "two tensors of a file have the same name");
    const uint64_t bytes = byte_count(tensor);
    file.append(fmt::format("{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", comma,
                            json_string(tensor.name), name_of(tensor.type), fmt::join(tensor.shape, ","),
                            offset, offset + bytes));
    offset += bytes;
    comma = ",";
  }
  file.append("}");
  while (file.length() % 8 != 0) file.append(" ");
  const uint64_t header = file.length() - kLengthBytes;
  require(header <= kMaxHeader, "the header of a safetensors file has grown too large");
  for (size_t i = 0; i < count; i++) {
    const TensorSource tensor = source(i);
    file.append(tensor.data, byte_count(tensor));
  }
  file.overwrite_start(header);
  file.close(options.sync);
}

void write_safetensors(const fs::path& path, std::span<const TensorSource> tensors,
                       const SafetensorsOptions& options) {
  write_safetensors(
      path, tensors.size(), [&](size_t i) { return tensors[i]; }, options);
}

}  // namespace kiln
