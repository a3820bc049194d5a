// RUN|CHECKPOINT, --tokenizer and --set, shared by every subcommand that uses a trained model.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "src/train/trained_model.h"

namespace kiln::cli {

inline void add_model(CLI::App& command, train::ModelSource& model, std::string& tokenizer) {
  command
      .add_option(
          "model", model.path,
          "A run's folder, for its newest intact checkpoint, or a checkpoint's (RUN/checkpoints/step_...)")
      ->type_name("RUN|CHECKPOINT")
      ->required();
  command
      .add_option("--tokenizer", tokenizer,
                  "In place of the run's: bytes, or a tokenizer.json, a folder with vocab.json and "
                  "merges.txt, *.tiktoken")
      ->type_name("FILE");
  command
      .add_option("--set", model.overrides,
                  "Override one key of the run's config: --set device.threads=1 (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
}

}  // namespace kiln::cli
