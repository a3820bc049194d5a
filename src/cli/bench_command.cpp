#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "src/cli/cli.h"
#include "src/cli/config_arguments.h"
#include "src/cli/input_progress.h"
#include "src/train/bench.h"
#include "src/train/progress.h"

namespace kiln::cli {

void add_bench(CLI::App& app, int&) {
  struct Arguments {
    ConfigArguments config;
    train::BenchOptions options;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("bench", "Measure the training speed of a config on this machine; needs no data");
  arguments->config.add_to(*command);
  constexpr int64_t kMost = 1'000'000;
  command->add_option("--steps", arguments->options.steps, "Steps to measure")
      ->check(CLI::Range(int64_t{1}, kMost))
      ->capture_default_str();
  command->add_option("--warmup", arguments->options.warmup, "Steps before them that are not measured")
      ->check(CLI::Range(int64_t{0}, kMost))
      ->capture_default_str();
  command
      ->add_option("--micro-batches", arguments->options.micro_batches,
                   "Forward and backward passes of a measured step; 0: as in the config")
      ->check(CLI::Range(int64_t{0}, kMost))
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "One JSON object instead of text");
  command->footer(
      "Trains on random tokens with the memory plan and the step of kiln train. Prints the ceiling (a large "
      "fp32 matrix\n"
      "product), tokens/s, MFU, and what forward + backward and each optimizer take. KL-Shampoo's steps "
      "differ, as bases\n"
      "are refreshed every optimizer.refresh steps: let --steps be a multiple of it, and look at the mean.\n"
      "Examples:\n"
      "  kiln bench configs/gpt2-mini/muon.json\n"
      "  kiln bench configs/gpt2-124m/kl-shampoo.json --micro-batches 1 --steps 10\n"
      "  kiln bench configs/gpt2-mini/adamw.json --set device.threads=1 --json | jq .tokens_per_second");
  command->callback([arguments] {
    const config::Config config = arguments->config.load();
    InputProgress progress("benching");
    const auto start = std::chrono::steady_clock::now();
    const auto result = train::bench(config, arguments->options, [&](int64_t done, int64_t all) {
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      const double left =
          done > 0 ? seconds / static_cast<double>(done) * static_cast<double>(all - done) : 0;
      progress.note(fmt::format("step {} of {}, warm-up included{}", done, all,
                                done > 0 ? ", ETA " + train::duration_text(left) : std::string()));
    });
    progress.finish();
    fmt::print("{}", arguments->json ? train::json_of(result) : train::text_of(result));
  });
}

}  // namespace kiln::cli
