// CONFIG and --set, shared by every subcommand that reads a config.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "src/config/load.h"

namespace kiln::cli {

struct ConfigArguments {
  std::string path;
  std::vector<std::string> overrides;

  void add_to(CLI::App& command) {
    command.add_option("config", path, "JSON config of the run; see configs/ and `kiln config --explain`")
        ->required();
    command.add_option("--set", overrides, "Override one key: --set optimizer.lr=0.002 (repeatable)")
        ->type_name("KEY=VALUE")
        ->allow_extra_args(false);
  }
  config::Config load() const { return config::load(path, overrides); }
};

}  // namespace kiln::cli
