#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "src/cli/cli.h"
#include "src/config/load.h"
#include "src/core/error.h"

namespace kiln::cli {

void add_config(CLI::App& app, int&) {
  struct Arguments {
    std::string path;
    std::vector<std::string> overrides;
    std::optional<std::string> explain;
    bool markdown = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("config", "Explain the keys of a config, or print one resolved");
  command->add_option("config", arguments->path, "Print this config with every key resolved");
  command->add_option("--set", arguments->overrides, "Override one key (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--explain", arguments->explain,
                   "Every key, or those that start with PREFIX: default, unit, range, meaning")
      ->type_name("PREFIX")
      ->expected(0, 1);
  command->add_flag("--markdown", arguments->markdown,
                    "The same for all keys as a page of Markdown: docs/config.md");
  command->footer(
      "Examples:\n  kiln config configs/gpt2-mini/adamw.json                             every key, "
      "resolved\n"
      "  kiln config configs/gpt2-mini/adamw.json --set optimizer.lr=0.002    checks an override\n"
      "  kiln config --explain optimizer                                      what the keys of a section "
      "mean\n"
      "  kiln config --markdown > docs/config.md                              the manual of all keys, made "
      "anew");
  command->callback([arguments] {
    if (arguments->markdown) {
      fmt::print("{}", config::markdown());
    } else if (arguments->explain) {
      fmt::print("{}", config::explain(*arguments->explain));
    } else if (!arguments->path.empty()) {
      fmt::print("{}\n", config::to_json(config::load(arguments->path, arguments->overrides)));
    } else {
      throw Error(ExitCode::usage, "nothing to do",
                  "kiln config --explain [PREFIX], kiln config --markdown, or kiln config CONFIG.json");
    }
  });
}

}  // namespace kiln::cli
