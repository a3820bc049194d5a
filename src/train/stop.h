// Signals that ask a run to stop: it writes a checkpoint and exits with ExitCode::interrupted.
#pragma once

namespace kiln::train {

// SIGINT (Ctrl-C), SIGTERM and SIGUSR1 (schedulers, ahead of a time limit) and SIGHUP (the terminal went
// away) are noted; the second one ends the process at once, as if there were no handler.
void install_stop_signals();

// A reader of our output that goes away (SIGPIPE: `kiln train ... | head`) does not end a run.
void ignore_closed_output();

// Asked between micro-batches, validation batches and generated tokens.
bool stop_requested();

}  // namespace kiln::train
