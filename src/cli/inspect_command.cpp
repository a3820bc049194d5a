#include <fmt/format.h>

#include <memory>

#include "src/cli/cli.h"
#include "src/core/error.h"
#include "src/train/inspect.h"

namespace kiln::cli {

void add_inspect(CLI::App& app, int& exit_code) {
  struct Arguments {
    std::string path;
    train::InspectOptions options;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("inspect", "Show and check what is in a run folder or a checkpoint");
  command
      ->add_option("path", arguments->path,
                   "A run's folder (output.dir), or a checkpoint in its checkpoints/")
      ->required();
  command->add_flag(
      "--verify", arguments->options.verify,
      "Read every byte of the checkpoints and compare checksums; without it manifests and sizes");
  command->add_flag(
      "--stats", arguments->options.stats,
      "Of a checkpoint: root mean square, largest magnitude and non-finite numbers of each tensor");
  command->add_flag("--json", arguments->json, "One JSON object instead of text");
  command->footer(
      "Of a run: config, step reached, losses, best validation, time, whether a process trains there now, "
      "checkpoints.\n"
      "Of a checkpoint: step, files, parameters, optimizer state by kind. Reads only, also beside a run that "
      "is training;\n"
      "needs neither device nor data. What is damaged is named, and the exit code is then 3.\n"
      "Examples:\n"
      "  kiln inspect runs/gpt2-mini-adamw\n"
      "  kiln inspect --verify runs/gpt2-mini-adamw\n"
      "  kiln inspect --stats runs/gpt2-mini-adamw/checkpoints/step_00003600\n"
      "  kiln inspect --json runs/gpt2-mini-adamw | jq .best_validation.loss");
  command->callback([arguments, &exit_code] {
    const auto show = [&](const auto& found) {
      fmt::print("{}", arguments->json ? train::json_of(found, arguments->options)
                                       : train::text_of(found, arguments->options));
      exit_code = static_cast<int>(found.problems.empty() ? ExitCode::success : ExitCode::data);
    };
    if (train::is_checkpoint(arguments->path)) {
      show(train::inspect_checkpoint(arguments->path, arguments->options));
    } else {
      if (arguments->options.stats) {
        throw Error(ExitCode::usage,
                    fmt::format("--stats is of a checkpoint, and {} is none", arguments->path),
                    "name a folder step_... in the run's checkpoints/: kiln inspect RUN lists them");
      }
      show(train::inspect_run(arguments->path, arguments->options));
    }
  });
}

}  // namespace kiln::cli
