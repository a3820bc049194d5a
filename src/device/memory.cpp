#include "src/device/memory.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <optional>

#include "src/device/cuda.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// The number behind `name` in a file of lines "name number".
std::optional<size_t> field(const fs::path& path, const std::string& name) {
  std::ifstream file(path);
  size_t value = 0;
  for (std::string word; file >> word;) {
    if (word == name && file >> value) return value;
  }
  return std::nullopt;
}

std::optional<size_t> number(const fs::path& path) {
  size_t value = 0;
  if (std::ifstream(path) >> value) return value;  // not for "max"
  return std::nullopt;
}

size_t difference(size_t a, size_t b) {
  return a > b ? a - b : 0;
}

class Least {
 public:
  void add(size_t bytes, const char* why) {  // {} in it stands for the bytes
    if (bytes < left_.bytes) left_ = {bytes, fmt::format(fmt::runtime(why), bytes_text(bytes))};
  }
  const MemoryLeft& left() const { return left_; }

 private:
  MemoryLeft left_;
};

// "0::/a/b": limits of the groups /a/b, /a and the root. Cached files count as taken there, but are given up.
void add_groups(const fs::path& root, Least& least) {
  std::ifstream file(root / "proc/self/cgroup");
  std::string line;
  while (std::getline(file, line) && !line.starts_with("0::/")) {
  }
  if (!line.starts_with("0::/")) return;
  const fs::path mount = root / "sys/fs/cgroup";
  for (fs::path group = line.substr(4);; group = group.parent_path()) {
    const fs::path folder = group.empty() ? mount : mount / group;
    const auto limit = number(folder / "memory.max"), taken = number(folder / "memory.current");
    if (limit && taken) {
      const size_t cached = field(folder / "memory.stat", "inactive_file").value_or(0);
      least.add(difference(*limit, difference(*taken, cached)),
                "the memory limit of the control group leaves {}");
    }
    if (group.empty()) return;
  }
}

void add_limit(int resource, size_t used_pages, const char* why, Least& least) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return;
  least.add(difference(limit.rlim_cur, used_pages * static_cast<size_t>(::sysconf(_SC_PAGE_SIZE))), why);
}

}  // namespace

MemoryLeft memory_left(const fs::path& root) {
  Least least;
  const fs::path meminfo = root / "proc/meminfo";
  if (const auto available = field(meminfo, "MemAvailable:")) {
    least.add((*available + field(meminfo, "SwapFree:").value_or(0)) << 10, "the machine has {} free");
  }
  add_groups(root, least);
  // size resident shared text lib data dt, in pages
  size_t size = 0, data = 0, ignored = 0;
  std::ifstream(root / "proc/self/statm") >> size >> ignored >> ignored >> ignored >> ignored >> data;
  add_limit(RLIMIT_AS, size, "the limit on address space (ulimit -v) leaves {}", least);
  add_limit(RLIMIT_DATA, data, "the limit on data (ulimit -d) leaves {}", least);
  return least.left();
}

OutOfMemory::OutOfMemory(const Plan::Layout& layout, const std::string& why)
    : Error(ExitCode::failure,
            fmt::format("out of memory: {}, the plan of this run needs\n{}", why, describe(layout)),
            "lower train.micro_batch (activations) or the size of the model (everything else)") {}

void require_memory(const Plan::Layout& layout, const Device& device) {
  MemoryLeft left;
  if (device.kind == DeviceKind::cpu) {
    left = memory_left();
  } else {
    left.bytes = cuda_memory_left();
    left.why = fmt::format("{} has {} free", device.name, bytes_text(left.bytes));
  }
  if (layout.total_bytes > left.bytes) throw OutOfMemory(layout, left.why);
}

}  // namespace kiln
