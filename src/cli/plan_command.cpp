#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "src/cli/cli.h"
#include "src/cli/config_arguments.h"
#include "src/plan/describe.h"
#include "src/plan/device.h"

namespace kiln::cli {

void add_plan(CLI::App& app, int&) {
  struct Arguments {
    ConfigArguments config;
    int64_t ranks = 1;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "plan", "Parameters, memory by category and flops a token, without allocating anything");
  arguments->config.add_to(*command);
  command->add_option("--ranks", arguments->ranks, "Data-parallel ranks that share the step")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  command->footer(
      "Examples:\n  kiln plan configs/gpt2-124m/adamw.json\n"
      "  kiln plan configs/gpt2-124m/adamw.json --set train.micro_batch=16\n"
      "  kiln plan configs/gpt2-124m/pro-kl-shampoo-r128.json --ranks 8\n"
      "The flops are those of linear layers and causal attention, a multiply-add counted as two. A rank "
      "holds weights,\n"
      "gradients and optimizer state whole, however many ranks there are.");
  command->callback([arguments] {
    const config::Config config = arguments->config.load();
    const Device device = plan::planned_device_of(config.device);
    fmt::print("{}", plan::plan_text(plan::plan_run(config, device), config, arguments->ranks));
  });
}

}  // namespace kiln::cli
