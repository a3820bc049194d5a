#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "src/cli/cli.h"
#include "src/cli/input_progress.h"
#include "src/cli/model_arguments.h"
#include "src/train/evaluate_checkpoint.h"
#include "src/train/progress.h"

namespace kiln::cli {
namespace {

std::string progress_line(const train::EvaluationProgress& p) {
  const double speed = static_cast<double>(p.done) / p.seconds;
  return fmt::format("evaluating: {} of {} tokens ({:.0f} %), {:.0f} tokens/s, ETA {}", p.done, p.total,
                     100.0 * static_cast<double>(p.done) / static_cast<double>(p.total), speed,
                     train::duration_text(static_cast<double>(p.total - p.done) / speed));
}

}  // namespace

void add_eval(CLI::App& app, int&) {
  struct Arguments {
    train::EvaluationRequest request;
    bool all = false, json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  auto& request = arguments->request;
  CLI::App* command =
      app.add_subcommand("eval", "Loss, perplexity, bits per byte of a checkpoint on a set of tokens");
  add_model(*command, request.model, request.tokenizer);
  command->add_option("--data", request.data, "Token shards, in place of the run's validation set")
      ->type_name("PATTERN");
  auto* all = command->add_flag("--all", arguments->all, "The whole set, every token once (the default)");
  command
      ->add_option(
          "--batches", request.batches,
          "Only the first N passes; validation during training takes validation.tokens / (a pass) of them")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->excludes(all);
  command->add_flag("--json", arguments->json, "One JSON object on one line");
  command->footer(
      "Reads the weights and the config that the checkpoint carries; damaged checkpoints of a run are passed "
      "over with\n"
      "a warning. Every token but the first of the set is predicted once, from those before it in its "
      "sequence of\n"
      "train.sequence tokens. Bits per byte count the bytes that the predicted tokens decode to; end-of-text "
      "has none.\n"
      "Examples:\n"
      "  kiln eval runs/gpt2-mini-adamw\n"
      "  kiln eval runs/gpt2-mini-adamw/checkpoints/step_00000900 --json\n"
      "  kiln eval runs/gpt2-mini-adamw --data 'cache/other/validation_*.bin' --batches 100 --set "
      "device.threads=1");
  command->callback([arguments] {
    InputProgress line("evaluating");
    const auto report = train::evaluate_checkpoint(
        arguments->request, [&](const train::EvaluationProgress& p) { line.note(progress_line(p)); });
    line.finish();
    fmt::print("{}{}", arguments->json ? to_json(report) : to_text(report), arguments->json ? "\n" : "");
  });
}

}  // namespace kiln::cli
