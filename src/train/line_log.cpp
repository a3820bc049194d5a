#include "src/train/line_log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "src/core/error.h"
#include "src/core/log.h"

namespace kiln::train {

LineLog::LineLog(const std::filesystem::path& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ >= 0) length_ = ::lseek(descriptor_, 0, SEEK_END);
  if (descriptor_ < 0 || length_ < 0) {
    throw Error(ExitCode::data, fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)),
                "check the permissions of the run folder (output.dir) and the space on its disk");
  }
}

LineLog::~LineLog() {
  flush();
  ::close(descriptor_);
}

void LineLog::write(std::string_view line) {
  if (waiting_.size() + line.size() + 1 > kMostWaiting) flush();
  if (waiting_.size() + line.size() + 1 > kMostWaiting && !waiting_.empty()) {
    dropped_++;
    return;
  }
  waiting_.append(line);
  waiting_ += '\n';
  flush();
}

void LineLog::flush() {
  size_t done = 0;
  while (done < waiting_.size()) {
    const ssize_t n = ::pwrite(descriptor_, waiting_.data() + done, waiting_.size() - done,
                               length_ + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return warn("write");
    done += static_cast<size_t>(n);
  }
  length_ += static_cast<int64_t>(done);
  waiting_.clear();
  if (failing_)
    log_warning(fmt::format("{} can be written again; {} lines were lost", path_.string(), dropped_));
  failing_ = false;
}

void LineLog::sync() {
  if (::fsync(descriptor_) != 0) warn("sync");
}

void LineLog::warn(const char* what) {
  if (!failing_) {
    log_warning(fmt::format("cannot {} {}: {}; the run goes on", what, path_.string(), std::strerror(errno)));
  }
  failing_ = true;
}

}  // namespace kiln::train
