#include "src/train/run_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/log.h"

namespace kiln::train {

RunLock::RunLock(const std::filesystem::path& run) {
  const std::filesystem::path path = run / kFile;
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    throw Error(ExitCode::data, fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)),
                "check the permissions of the run folder (output.dir) and the space on its disk");
  }
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
    // The number is for a person who wonders: the lock itself is what counts, so a full disk does not matter
    // here.
    const std::string text = fmt::format("{}\n", getpid());
    if (::ftruncate(descriptor_, 0) == 0 && ::pwrite(descriptor_, text.data(), text.size(), 0) < 0) {
      log_warning(fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)));
    }
    return;
  }
  if (errno == EWOULDBLOCK) {
    std::string holder = read_file(path);
    while (!holder.empty() && holder.back() == '\n') holder.pop_back();
    ::close(std::exchange(descriptor_, -1));
    throw Error(ExitCode::usage, fmt::format("process {} is training in {}", holder, run.string()),
                "wait for it or stop it; --set output.dir=... goes elsewhere");
  }
  log_warning(fmt::format("cannot lock {}: {}; see to it that no other process trains there", path.string(),
                          std::strerror(errno)));
}

RunLock::~RunLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

RunLock::RunLock(RunLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}

RunLock& RunLock::operator=(RunLock&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

}  // namespace kiln::train
