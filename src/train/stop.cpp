#include "src/train/stop.h"

#include <csignal>
#include <initializer_list>

namespace kiln::train {
namespace {

volatile std::sig_atomic_t requested = 0;

extern "C" void note_stop(int signal) {
  if (requested) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  requested = 1;
}

}  // namespace

void install_stop_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGHUP}) {
    struct sigaction action {};
    action.sa_handler = note_stop;
    action.sa_flags = SA_RESTART;
    sigaction(signal, &action, nullptr);
  }
}

void ignore_closed_output() {
  std::signal(SIGPIPE, SIG_IGN);
}

bool stop_requested() {
  return requested != 0;
}

}  // namespace kiln::train
