// The command line: thin functions that turn arguments into calls.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "src/core/error.h"

namespace kiln::cli {

// Error(ExitCode::data) that says so; `why` in the system's words.
Error lost_output(const std::string& why);

// Each adds one subcommand; what the chosen one computes as exit code lands in `exit_code`.
void add_train(CLI::App& app, int& exit_code);
void add_plan(CLI::App& app, int& exit_code);
void add_config(CLI::App& app, int& exit_code);
void add_data(CLI::App& app, int& exit_code);
void add_replay(CLI::App& app, int& exit_code);
void add_spectrum(CLI::App& app, int& exit_code);
void add_sweep(CLI::App& app, int& exit_code);
void add_eval(CLI::App& app, int& exit_code);
void add_generate(CLI::App& app, int& exit_code);
void add_inspect(CLI::App& app, int& exit_code);
void add_compare(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);

}  // namespace kiln::cli
