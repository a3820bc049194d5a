// The whole program behind main(), without the parser's header, which takes long to compile.
#pragma once

namespace kiln::cli {

// Parses, runs, prints errors with their hints; returns the exit code.
int run(int argc, char** argv);

}  // namespace kiln::cli
