#include <memory>

#include "src/cli/cli.h"
#include "src/train/sweep.h"

namespace kiln::cli {

void add_sweep(CLI::App& app, int& exit_code) {
  struct Arguments {
    std::string spec;
    bool dry_run = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("sweep", "Train a grid of settings and seeds, keep the best, print one table");
  command->add_option("spec", arguments->spec, "JSON file, see below")->required();
  command->add_flag("--dry-run", arguments->dry_run, "Only check the spec and say what it comes to");
  command->footer(
      "Each arm multiplies out its grid of --set values. On every rung all that is left of an arm trains from the\n"
      "beginning with the rung's settings (short runs with whole schedules), and the best \"keep\" by final validation loss\n"
      "stay (1 if not said). The best of the last rung then trains once per seed of \"final\". \"rungs\" or \"final\" may be\n"
      "left out. Example:\n"
      "  {\n"
      "    \"output\": \"runs/sweep-mini\",\n"
      "    \"set\": {\"sampling.every\": 0},\n"
      "    \"arms\": [\n"
      "      {\"name\": \"adamw\", \"config\": \"configs/gpt2-mini/adamw.json\",\n"
      "       \"grid\": {\"optimizer.lr\": [0.001, 0.002, 0.004], \"optimizer.b2\": [0.95, 0.99]}},\n"
      "      {\"name\": \"muon\", \"config\": \"configs/gpt2-mini/muon.json\",\n"
      "       \"grid\": {\"optimizer.lr\": [0.01, 0.02]}}\n"
      "    ],\n"
      "    \"rungs\": [{\"set\": {\"train.steps\": 300}, \"keep\": 2}, {\"set\": {\"train.steps\": 1000}}],\n"
      "    \"final\": {\"set\": {\"train.steps\": 3600}, \"seeds\": [1, 2, 3]}\n"
      "  }\n"
      "Runs are ordinary run folders under \"output\", each with its log beside it; results.md and results.json are written\n"
      "after every run. A sweep that was stopped (Ctrl-C: the running run writes a checkpoint) goes on when the same\n"
      "command is given again; so does one whose spec has grown.");
  command->callback([arguments, &exit_code] {
    const train::SweepSpec spec = train::load_sweep_spec(arguments->spec);
    if (arguments->dry_run)
      train::print_sweep(spec);
    else
      exit_code = train::sweep(spec);
  });
}

}  // namespace kiln::cli
