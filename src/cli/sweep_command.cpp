#include <fmt/format.h>

#include <memory>

#include "src/cli/cli.h"
#include "src/core/error.h"
#include "src/train/sweep.h"
#include "src/train/sweep_progress.h"

namespace kiln::cli {

void add_sweep(CLI::App& app, int& exit_code) {
  struct Arguments {
    std::string spec;
    bool dry_run = false, show = false, json = false, markdown = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("sweep", "Train a grid of settings and seeds, keep the best, print one table");
  command->add_option("spec", arguments->spec, "JSON file, see below")->required();
  command->add_flag("--dry-run", arguments->dry_run, "Only check the spec and say what it comes to");
  command->add_flag("--show", arguments->show, "Only print the table of what is done, train nothing");
  command->add_flag("--json", arguments->json, "Print the table as JSON");
  command->add_flag("--markdown", arguments->markdown, "Print the table as Markdown")->excludes("--json");
  command->footer(
      "Each arm multiplies out its grid of --set values. On every rung all that is left of an arm trains "
      "\"steps\" steps (and\n"
      "with what \"set\" says), and the best \"keep\" by final validation loss stay (1 if not said). The "
      "best of the last rung\n"
      "then trains once per seed of \"final\". \"rungs\" or \"final\" may be left out. Example:\n"
      "  {\n"
      "    \"output\": \"runs/sweep-mini\",\n"
      "    \"set\": {\"sampling.every\": 0},\n"
      "    \"arms\": [\n"
      "      {\"name\": \"adamw\", \"config\": \"configs/gpt2-mini/adamw.json\",\n"
      "       \"grid\": {\"optimizer.lr\": [0.001, 0.002, 0.004], \"optimizer.b2\": [0.95, 0.99]}},\n"
      "      {\"name\": \"muon\", \"config\": \"configs/gpt2-mini/muon.json\",\n"
      "       \"grid\": {\"optimizer.lr\": [0.01, 0.02]}}\n"
      "    ],\n"
      "    \"rungs\": [{\"steps\": 300, \"keep\": 2}, {\"steps\": 1000}],\n"
      "    \"final\": {\"steps\": 3600, \"seeds\": [1, 2, 3]}\n"
      "  }\n"
      "Every run has a whole schedule that ends with its own last step, so a run that loses was judged after "
      "its decay. Where\n"
      "the learning rate of a longer run is the same up to there (schedule.kind=constant), it goes on from "
      "the checkpoint of\n"
      "the rung before; otherwise it trains from the beginning again. --dry-run says which it is. See "
      "docs/sweep.md.\n"
      "Runs are ordinary run folders under \"output\", each with its log beside it; results.txt, results.md "
      "and results.json\n"
      "are written after every run. A sweep that was stopped (Ctrl-C: the running run writes a checkpoint) "
      "or killed goes on\n"
      "when the same command is given again, and so does one whose spec has grown; no finished run is "
      "trained twice.");
  command->callback([arguments, &exit_code] {
    const train::SweepSpec spec = train::load_sweep_spec(arguments->spec);
    if (arguments->dry_run) {
      fmt::print("{}", train::describe_sweep(spec));
      return;
    }
    train::SweepOutcome outcome;
    if (arguments->show)
      outcome = {train::sweep_so_far(spec), 0};
    else
      outcome = train::sweep(spec);
    exit_code = outcome.exit_code;
    if (arguments->json)
      fmt::print("{}", train::to_json(outcome.table));
    else
      fmt::print("{}", arguments->markdown ? train::markdown(outcome.table) : train::text(outcome.table));
    if (exit_code == static_cast<int>(ExitCode::interrupted)) {
      train::say("stopped by a signal; the same command goes on\n");
    } else if (!arguments->show) {
      train::say(
          fmt::format("the table is in {0}/results.txt, {0}/results.md and {0}/results.json\n", spec.output));
    }
  });
}

}  // namespace kiln::cli
