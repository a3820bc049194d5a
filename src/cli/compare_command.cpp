#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "src/cli/cli.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/compare.h"

namespace kiln::cli {

void add_compare(CLI::App& app, int&) {
  struct Arguments {
    std::vector<std::string> runs;
    train::CompareOptions options;
    std::string csv;
    bool json = false, overwrite = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("compare", "Losses of several runs at equal steps, tokens and time");
  command
      ->add_option("runs", arguments->runs,
                   "Run folders; the first is the one that configs are compared with")
      ->required()
      ->expected(2, 1000);
  command->add_option("--smooth", arguments->options.window, "Training losses are means of this many steps")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  command->add_option("--rows", arguments->options.rows, "Of each table, at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000}))
      ->capture_default_str();
  command->add_option("--csv", arguments->csv, "Also write every validation of every run to this file");
  command->add_flag("--overwrite", arguments->overwrite, "Replace a CSV file that exists");
  command->add_flag("--json", arguments->json, "One JSON object instead of text");
  command->footer(
      "Reads metrics.jsonl and config.json; runs that are training, were resumed or were killed will do. "
      "Time is the sum\n"
      "of what the steps took. Between validations a run counts as what its last one said: nothing is "
      "interpolated. The\n"
      "steps and time in which one run reaches another's final validation loss are those of its first "
      "validation at or\n"
      "below it, so their ratio is exact to one validation.every. Different tokenizers or data are noted.\n"
      "Examples:\n"
      "  kiln compare runs/gpt2-mini-adamw runs/gpt2-mini-muon\n"
      "  kiln compare runs/gpt2-mini-* --rows 20 --csv losses.csv\n"
      "  kiln compare runs/gpt2-mini-adamw runs/gpt2-mini-muon --json | jq '.reach[].step_ratio'");
  command->callback([arguments] {
    namespace fs = std::filesystem;
    const fs::path csv = arguments->csv;
    if (!csv.empty() && fs::exists(csv) && !arguments->overwrite) {
      throw Error(ExitCode::usage, fmt::format("{} is already there", csv.string()),
                  "--overwrite replaces it");
    }
    const train::Comparison comparison =
        train::compare({arguments->runs.begin(), arguments->runs.end()}, arguments->options);
    if (!csv.empty()) write_file_atomically(csv, train::csv_of(comparison));
    fmt::print("{}", arguments->json ? train::json_of(comparison) : train::text_of(comparison));
  });
}

}  // namespace kiln::cli
