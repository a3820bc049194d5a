// A config turned into everything a run consists of, planned to the byte before anything is allocated.
#pragma once

#include <memory>

#include "models/model.h"
#include "optim/gradient_norm.h"
#include "optim/optimizer_set.h"
#include "src/config/config.h"
#include "src/device/context.h"

namespace kiln::plan {

// What a run is for: evaluation and generation take no gradients and no optimizers.
enum class Purpose { training, evaluation, generation };

struct PlannedRun {
  Plan plan;
  Purpose purpose = Purpose::training;
  models::BatchShape shape;
  int64_t vocab = 0, padded_vocab = 0;
  int64_t micro_batches = 1;     // per step, on one rank
  int64_t validation_batch = 1;  // sequences in one forward pass of validation
  std::unique_ptr<models::Model> model;
  std::unique_ptr<optim::OptimizerSet> optimizers;     // for training only
  std::unique_ptr<optim::GradientNorm> gradient_norm;  // for training only

  // Counted from the kernel calls themselves: multiply-adds of linear layers and causal attention, times two. What
  // train.recompute computes a second time is not counted, as is the custom for MFU.
  double forward_flops = 0;   // of one micro-batch; for training and evaluation
  double training_flops = 0;  // of one micro-batch, forward and backward

  // Filled by bind().
  int32_t* tokens = nullptr;        // (B, T)
  int32_t* targets = nullptr;       // (B, T)
  float* losses = nullptr;          // (B, T)
  float* logits = nullptr;          // (padded vocab), of one position
  int32_t* candidates = nullptr;    // (V), scratch for drawing a token
  int64_t* token_counts = nullptr;  // (V), scratch for validation
  Workspace workspace;

  bool generates() const { return shape.cache > 0; }
  // What Model::prefill gets as T for a beginning of `count` tokens: powers of two, so that the plan knows
  // every shape; at most the planned T.
  int64_t prefill_length(int64_t count) const;

  void bind(const Arena& arena);

  BufferId tokens_id = -1, targets_id = -1, losses_id = -1, logits_id = -1, candidates_id = -1,
           token_counts_id = -1, workspace_id = -1;
};

// Needs no memory to speak of and touches no device. Sequences are config.train.sequence long, whatever the
// purpose. Training generates where the config asks for samples; validation during training and
// Purpose::evaluation run passes of the same shape.
PlannedRun plan_run(const config::Config& config, const Device& device, Purpose purpose = Purpose::training);

// Of the model, whatever a device can do.
int64_t parameter_count(const config::Config& config);

}  // namespace kiln::plan
