#include <memory>

#include "src/cli/cli.h"
#include "src/cli/config_arguments.h"
#include "src/train/trainer.h"

namespace kiln::cli {

void add_train(CLI::App& app, int& exit_code) {
  struct Arguments {
    ConfigArguments config;
    bool resume = false, overwrite = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("train", "Train a model");
  arguments->config.add_to(*command);
  auto* resume = command->add_flag("--resume", arguments->resume,
                                   "Continue from the newest checkpoint in the run folder");
  command
      ->add_flag("--overwrite", arguments->overwrite,
                 "Start again; an earlier run's folder is moved aside, not deleted")
      ->excludes(resume);
  command->footer(
      "Prints one block of facts, then a line a second. The run folder (output.dir) gets config.json, "
      "versions.json,\n"
      "metrics.jsonl (every step), main.log (llm.c's lines) and checkpoints/. Ctrl-C,\n"
      "SIGTERM, SIGUSR1 and SIGHUP write a checkpoint and exit with 5; a second one ends the process at "
      "once.\n"
      "train.steps, train.tokens or train.epochs is the length of the run: --set train.steps=0 --set "
      "train.epochs=1.\n"
      "train.skip_loss_z and train.skip_norm_z skip outliers; train.overfit_one_batch=true checks that the "
      "model learns.\n"
      "kiln config --explain train says more.\n"
      "Examples:\n"
      "  kiln train configs/gpt2-mini/adamw.json\n"
      "  kiln train configs/gpt2-mini/muon.json --set train.steps=500 --set output.dir=runs/short\n"
      "  kiln train configs/gpt2-mini/muon.json --set train.steps=500 --set output.dir=runs/short --resume\n"
      "  kiln train configs/llama-mini/pro-kl-shampoo-r32.json --set train.seed=7 --overwrite");
  command->callback([arguments, &exit_code] {
    const auto mode = arguments->resume      ? train::StartMode::resume
                      : arguments->overwrite ? train::StartMode::overwrite
                                             : train::StartMode::fresh;
    exit_code = train::train(arguments->config.load(), mode);
  });
}

}  // namespace kiln::cli
