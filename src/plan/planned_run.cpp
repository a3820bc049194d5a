#include "src/plan/planned_run.h"

#include <algorithm>

#include "models/families/list.h"
#include "models/transformer.h"
#include "src/core/error.h"
#include "src/plan/optimizers.h"

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
  shape.kv_heads = m.kv_heads;
  shape.tied = m.tied != "off";
  shape.norm_eps = m.norm_eps;
  shape.rope_theta = m.rope_theta;
  return shape;
}

constexpr int64_t kShortestPrefill = 16;

DryRun record(const Device& device, FunctionRef<void(Context&)> calls) {
  DryRun result;
  Context context;
  context.device = device;
  context.dry_run = &result;
  calls(context);
  return result;
}

// Runs every kind of call that the run will make, without computing, to learn the largest workspace.
void dry_run(PlannedRun& run, const Device& device) {
  const int64_t B = run.shape.B, T = run.shape.T;
  size_t bytes = 0;
  const auto calls = [&](FunctionRef<void(Context&)> list) {
    const DryRun result = record(device, list);
    bytes = std::max(bytes, result.workspace_bytes);
    return result.flops - result.recomputed_flops;
  };
  if (run.purpose != Purpose::generation) {
    const double flops =
        calls([&](Context& c) { run.model->forward(c, nullptr, nullptr, run.validation_batch, T, nullptr); });
    run.forward_flops = flops * static_cast<double>(B) / static_cast<double>(run.validation_batch);
  }
  if (run.purpose == Purpose::training) {
    run.training_flops =
        calls([&](Context& c) { run.model->forward_backward(c, nullptr, nullptr, B, T, 1.0f, nullptr); });
    calls([&](Context& c) {
      run.gradient_norm->compute(c, run.model->parameters());
      run.optimizers->step(c, {.t = 1, .lr_multiplier = 1, .gradient_scale = 1});
    });
  }
  if (run.generates()) {
    calls([&](Context& c) {
      for (int64_t tokens = 1; tokens <= T; tokens = run.prefill_length(tokens) + 1) {
        const int64_t length = run.prefill_length(tokens);
        run.model->prefill(c, nullptr, length, length, nullptr);
      }
      run.model->decode(c, nullptr, run.shape.cache - 1, nullptr);
    });
  }
  run.workspace_id = run.plan.add("workspace", Category::workspace, bytes);
}

models::BatchShape batch_shape(const config::Config& config, Purpose purpose, int64_t validation_batch) {
  const int64_t T = config.train.sequence;
  if (purpose == Purpose::generation) return {.B = 1, .T = T, .loss_rows = 1, .training = false, .cache = T};
  if (purpose == Purpose::evaluation) {
    return {.B = validation_batch, .T = T, .loss_rows = config.train.loss_rows, .training = false};
  }
  return {.B = config.train.micro_batch,
          .T = T,
          .loss_rows = config.train.loss_rows,
          .training = true,
          .recompute = config.train.recompute == "block",
          .cache = config.sampling.every > 0 ? T : 0};
}

void plan_optimizers(PlannedRun& run, const config::Config& config, const Device& device) {
  const int64_t tail_rank = config.metrics.every > 0 ? config.metrics.tail_rank : 0;
  run.optimizers = std::make_unique<optim::OptimizerSet>(
      route(run.model->parameters(), config.optimizer, device, tail_rank));
  run.optimizers->plan(run.plan);
  run.gradient_norm = std::make_unique<optim::GradientNorm>();
  run.gradient_norm->plan(run.plan, run.model->parameters());
}

}  // namespace

PlannedRun plan_run(const config::Config& config, const Device& device, Purpose purpose) {
  PlannedRun run;
  const models::ModelShape shape = model_shape(config.model);
  run.purpose = purpose;
  run.vocab = shape.vocab;
  run.padded_vocab = shape.padded_vocab;
  run.validation_batch =
      std::clamp<int64_t>(config.validation.tokens / config.train.sequence, 1, config.train.micro_batch);
  run.shape = batch_shape(config, purpose, run.validation_batch);
  run.micro_batches = config.train.tokens_per_step / (config.train.micro_batch * config.train.sequence);

  const bool training = purpose == Purpose::training;
  run.model = models::create_transformer(families::family_named(config.model.family), shape);
  run.model->parameters().plan(run.plan, DType::f32, /*gradients=*/training);
  run.model->plan(run.plan, run.shape, DType::f32, device);
  if (training) plan_optimizers(run, config, device);
  const auto batches = [&](const char* name, int64_t elements, size_t bytes, bool needed) {
    return run.plan.add(name, Category::batches, needed ? static_cast<size_t>(elements) * bytes : 0);
  };
  const int64_t tokens = run.shape.B * run.shape.T;
  const bool losses = purpose != Purpose::generation;
  run.tokens_id = batches("tokens", tokens, sizeof(int32_t), true);
  run.targets_id = batches("targets", tokens, sizeof(int32_t), losses);
  run.losses_id = batches("losses", tokens, sizeof(float), losses);
  run.token_counts_id = batches("validation token counts", run.vocab, sizeof(int64_t), losses);
  run.logits_id = batches("next-token logits", run.padded_vocab, sizeof(float), run.generates());
  run.candidates_id = batches("sampling candidates", run.vocab, sizeof(int32_t), run.generates());
  dry_run(run, device);
  return run;
}

int64_t parameter_count(const config::Config& config) {
  return models::create_transformer(families::family_named(config.model.family), model_shape(config.model))
      ->parameters()
      .elements();
}

int64_t PlannedRun::prefill_length(int64_t count) const {
  int64_t length = kShortestPrefill;
  while (length < count) length *= 2;
  return std::min(length, shape.T);
}

void PlannedRun::bind(const Arena& arena) {
  model->parameters().bind(arena);
  model->bind(arena);
  if (optimizers) optimizers->bind(arena);
  if (gradient_norm) gradient_norm->bind(arena);
  tokens = arena.at<int32_t>(tokens_id);
  targets = arena.at<int32_t>(targets_id);
  losses = arena.at<float>(losses_id);
  logits = arena.at<float>(logits_id);
  candidates = arena.at<int32_t>(candidates_id);
  token_counts = arena.at<int64_t>(token_counts_id);
  workspace =
      Workspace(arena.at<void>(workspace_id), plan.entries()[static_cast<size_t>(workspace_id)].bytes);
}

}  // namespace kiln::plan
