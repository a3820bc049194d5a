#include "src/plan/planned_run.h"

#include <algorithm>

#include "models/gpt2.h"
#include "src/plan/optimizers.h"
#include "src/core/error.h"

namespace kiln::plan {
namespace {

models::ModelShape model_shape(const config::Model& m) {
  models::ModelShape shape;
  shape.layers = m.layers;
  shape.width = m.width;
  shape.heads = m.heads;
  shape.ffn = m.ffn;
  shape.vocab = m.vocab;
  shape.padded_vocab = round_up(m.vocab, m.vocab_multiple);
  shape.context = m.context;
  return shape;
}

// Runs every kind of call that the run will make, without computing, to learn the largest workspace.
void dry_run(PlannedRun& run, const Device& device) {
  const auto record = [&](auto&& calls) {
    DryRun result;
    Context context;
    context.device = device;
    context.dry_run = &result;
    calls(context);
    return result;
  };
  const auto [B, T, loss_rows, training] = run.shape;
  (void)loss_rows;
  (void)training;
  const DryRun forward =
      record([&](Context& c) { run.model->forward(c, nullptr, nullptr, run.validation_batch, T, nullptr); });
  const DryRun backward =
      record([&](Context& c) { run.model->forward_backward(c, nullptr, nullptr, B, T, 1.0f, nullptr); });
  const DryRun rest = record([&](Context& c) {
    run.model->next_token_logits(c, nullptr, T, T - 1, nullptr);
    run.gradient_norm->compute(c, run.model->parameters());
    run.optimizers->step(c, {.t = 1, .lr_multiplier = 1, .gradient_scale = 1});
  });
  run.forward_flops = forward.flops * static_cast<double>(B) / static_cast<double>(run.validation_batch);
  run.training_flops = backward.flops;
  const size_t bytes = std::max({forward.workspace_bytes, backward.workspace_bytes, rest.workspace_bytes});
  run.workspace_id = run.plan.add("workspace", Category::workspace, bytes);
}

}  // namespace

PlannedRun plan_run(const config::Config& config, const Device& device) {
  PlannedRun run;
  const models::ModelShape shape = model_shape(config.model);
  run.vocab = shape.vocab;
  run.padded_vocab = shape.padded_vocab;
  run.shape = {.B = config.train.micro_batch, .T = config.train.sequence, .loss_rows = config.train.loss_rows,
               .training = true};
  run.micro_batches = config.train.tokens_per_step / (run.shape.B * run.shape.T);
  run.validation_batch = std::clamp<int64_t>(config.validation.tokens / run.shape.T, 1, run.shape.B);
  const size_t tokens = static_cast<size_t>(run.shape.B * run.shape.T);

  run.model = models::create_gpt2(shape);
  run.model->parameters().plan(run.plan, DType::f32, /*gradients=*/true);
  run.model->plan(run.plan, run.shape, DType::f32, device);
  run.optimizers =
      std::make_unique<optim::OptimizerSet>(route(run.model->parameters(), config.optimizer, device));
  run.optimizers->plan(run.plan);
  run.gradient_norm = std::make_unique<optim::GradientNorm>();
  run.gradient_norm->plan(run.plan, run.model->parameters());
  run.tokens_id = run.plan.add("tokens", Category::batches, tokens * sizeof(int32_t));
  run.targets_id = run.plan.add("targets", Category::batches, tokens * sizeof(int32_t));
  run.losses_id = run.plan.add("losses", Category::batches, tokens * sizeof(float));
  run.logits_id = run.plan.add("next-token logits", Category::batches,
                               static_cast<size_t>(run.padded_vocab) * sizeof(float));
  run.candidates_id = run.plan.add("sampling candidates", Category::batches,
                                   static_cast<size_t>(run.vocab) * sizeof(int32_t));
  run.token_counts_id = run.plan.add("validation token counts", Category::batches,
                                     static_cast<size_t>(run.vocab) * sizeof(int64_t));
  dry_run(run, device);
  return run;
}

void PlannedRun::bind(const Arena& arena) {
  model->parameters().bind(arena);
  model->bind(arena);
  optimizers->bind(arena);
  gradient_norm->bind(arena);
  tokens = arena.at<int32_t>(tokens_id);
  targets = arena.at<int32_t>(targets_id);
  losses = arena.at<float>(losses_id);
  logits = arena.at<float>(logits_id);
  candidates = arena.at<int32_t>(candidates_id);
  token_counts = arena.at<int64_t>(token_counts_id);
  workspace = Workspace(arena.at<void>(workspace_id), plan.entries()[static_cast<size_t>(workspace_id)].bytes);
}

}  // namespace kiln::plan
