#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "src/cli/cli.h"
#include "src/cli/config_arguments.h"
#include "src/plan/planned_run.h"

namespace kiln::cli {

void add_plan(CLI::App& app, int&) {
  auto arguments = std::make_shared<ConfigArguments>();
  CLI::App* command =
      app.add_subcommand("plan", "Memory by category and flops a token, without allocating anything");
  arguments->add_to(*command);
  command->footer(
      "Examples:\n  kiln plan configs/gpt2-124m/adamw.json\n"
      "  kiln plan configs/gpt2-124m/adamw.json --set train.micro_batch=16\n"
      "The flops are those of linear layers and causal attention, a multiply-add counted as two.");
  command->callback([arguments] {
    const config::Config config = arguments->load();
    const Device device = cpu_device(static_cast<int>(config.device.threads), config.device.isa);
    const plan::PlannedRun run = plan::plan_run(config, device);
    const double tokens = static_cast<double>(run.shape.B * run.shape.T);
    fmt::print("parameters: {}\nmemory:\n{}\n", run.model->parameters().elements(),
               describe(run.plan.layout()));
    fmt::print("total bytes: {}\n", run.plan.layout().total_bytes);
    fmt::print("flop/token: {:.4g} forward, {:.4g} forward and backward\n", run.forward_flops / tokens,
               run.training_flops / tokens);
  });
}

}  // namespace kiln::cli
