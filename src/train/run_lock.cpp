#include "src/train/run_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/log.h"

namespace kiln::train {

namespace {

// Somebody who only looks holds the lock for some microseconds (process_training_in); who trains holds it for long.
bool take_lock(int descriptor) {
  for (int i = 0; i < 20; i++) {
    if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  errno = EWOULDBLOCK;
  return false;
}

std::string holder_of(const std::filesystem::path& path) {
  std::string holder = read_file(path);
  while (!holder.empty() && holder.back() == '\n') holder.pop_back();
  return holder;
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& run) {
  const std::filesystem::path path = run / kFile;
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) {
    throw Error(ExitCode::data, fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)),
                "check the permissions of the run folder (output.dir) and the space on its disk");
  }
  if (take_lock(descriptor_)) {
    // The number is for a person who wonders: the lock itself is what counts, so a full disk does not matter
    // here.
    const std::string text = fmt::format("{}\n", getpid());
    if (::ftruncate(descriptor_, 0) == 0 && ::pwrite(descriptor_, text.data(), text.size(), 0) < 0) {
      log_warning(fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)));
    }
    return;
  }
  if (errno == EWOULDBLOCK) {
    const std::string holder = holder_of(path);
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

std::optional<std::string> process_training_in(const std::filesystem::path& run) {
  const std::filesystem::path path = run / RunLock::kFile;
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  const bool held = ::flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(descriptor);
  if (!held) return std::nullopt;
  const std::string holder = holder_of(path);
  return holder.empty() ? "?" : holder;
}

}  // namespace kiln::train
