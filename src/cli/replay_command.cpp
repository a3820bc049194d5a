#include <fmt/format.h>

#include <memory>

#include "src/cli/cli.h"
#include "src/config/load.h"
#include "src/train/replay.h"

namespace kiln::cli {

void add_replay(CLI::App& app, int&) {
  struct Arguments {
    std::string optimizer, tensors, output;
    std::vector<std::string> overrides;
    bool overwrite = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("replay", "Apply an optimizer to recorded gradients, to compare implementations");
  command
      ->add_option("--optimizer", arguments->optimizer,
                   "JSON file: what stands under \"optimizer\" in a config")
      ->required();
  command
      ->add_option("--tensors", arguments->tensors,
                   "safetensors file with NAME.param and NAME.grad.000001, ...")
      ->required();
  command->add_option("--output", arguments->output, "safetensors file to write")->required();
  command
      ->add_option("--set", arguments->overrides, "Override one key: --set optimizer.lr=0.002 (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--overwrite", arguments->overwrite, "Replace an output that exists");
  command->footer(
      "Parameters NAME.param and gradients NAME.grad.000001, NAME.grad.000002, ... are fp32. Matrices go to "
      "the\n"
      "optimizer, vectors to AdamW; no schedule, no clipping. The output holds NAME.param.000001, ..., the "
      "parameters\n"
      "after each step, and the optimizer's final state (NAME.m, ...). Example:\n"
      "  echo '{\"name\": \"muon\", \"lr\": 0.01}' > muon.json\n"
      "  kiln replay --optimizer muon.json --tensors in.safetensors --output out.safetensors");
  command->callback([arguments] {
    const config::Optimizer optimizer = config::load_optimizer(arguments->optimizer, arguments->overrides);
    const train::ReplayResult result =
        train::replay(optimizer, {.kind = "cpu", .threads = 0, .isa = "auto", .arena = "slab"},
                      arguments->tensors, arguments->output, arguments->overwrite);
    fmt::print("{} parameters, {} steps of {} ({} skipped: a gradient was not finite); in {}\n",
               result.parameters, result.steps, optimizer.name, result.skipped, arguments->output);
  });
}

}  // namespace kiln::cli
