#include "src/train/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "src/core/error.h"
#include "src/train/stop.h"

namespace kiln::train {

int run_kiln(const std::vector<std::string>& arguments, const std::filesystem::path& log,
             FunctionRef<void()> meanwhile) {
  // All that needs memory happens before the fork: a child of a process with threads may not allocate.
  std::vector<std::string> words{"kiln"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (output < 0) {
    throw Error(ExitCode::data, fmt::format("cannot write {}: {}", log.string(), std::strerror(errno)),
                "check the permissions of the folder and the space on its disk");
  }

  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    ::setpgid(0, 0);  // a Ctrl-C at the terminal reaches the parent alone, which passes it on once
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(127);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(127);
  }
  const int fork_error = errno;
  ::close(output);
  if (child < 0)
    throw Error(ExitCode::failure, fmt::format("cannot start a run: {}", std::strerror(fork_error)));

  bool told = false;
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(child, &status, WNOHANG);
    if (ended == child) {
      if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
      if (WEXITSTATUS(status) == 127)
        throw Error(ExitCode::failure, "cannot start a run: this program's file is gone");
      return WEXITSTATUS(status);
    }
    if (ended < 0 && errno != EINTR) {
      throw Error(ExitCode::failure, fmt::format("cannot wait for a run: {}", std::strerror(errno)));
    }
    if (stop_requested() && !told) {
      ::kill(child, SIGTERM);
      told = true;
    }
    meanwhile();
    ::usleep(20'000);
  }
}

}  // namespace kiln::train
