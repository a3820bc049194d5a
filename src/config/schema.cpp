#include "src/config/schema.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <utility>

#include "models/families/list.h"
#include "src/config/text.h"

namespace kiln::config {
namespace {

template <auto kSection, auto kMember>
Slot at(Config& config) {
  return &((config.*kSection).*kMember);
}

constexpr int64_t kSafeInteger = 9'007'199'254'740'991;  // 2^53 - 1: what every JSON reader holds exactly
constexpr int64_t kMostSteps = 100'000'000;              // times kMostStepTokens: still an int64
constexpr int64_t kMostStepTokens = int64_t{1} << 36;
constexpr int64_t kMostTokens = 100'000'000'000'000;
constexpr int64_t kMostVocab = int64_t{1} << 20;
constexpr int64_t kMostSequence = int64_t{1} << 20;

using SlotOf = Slot (*)(Config&);

template <class T>
Default fallback_of(const std::optional<T>& value) {
  return value ? Default(*value) : Default(Required{});
}

constexpr std::nullopt_t kRequired = std::nullopt;

// The kinds of keys. `aliases` and `why_not_more` as in Key.
Key integer(const char* name, SlotOf slot, std::optional<int64_t> fallback, const char* unit, int64_t min,
            int64_t max, std::string sentence, const char* aliases, const char* why_not_more = "") {
  const Range range{static_cast<double>(min), static_cast<double>(max)};
  return {name, slot, fallback_of(fallback), unit, range, {}, std::move(sentence), aliases, why_not_more, ""};
}

Key number(const char* name, SlotOf slot, double fallback, const char* unit, Range range,
           std::string sentence, const char* aliases) {
  return {name, slot, fallback, unit, range, {}, std::move(sentence), aliases, "", ""};
}

Key choice(const char* name, SlotOf slot, const std::optional<std::string>& fallback,
           std::vector<std::string> choices, std::string sentence, const char* aliases,
           const char* why_not_more = "") {
  return {name, slot, fallback_of(fallback), "name", {}, std::move(choices), std::move(sentence), aliases, why_not_more, ""};
}

Key toggle(const char* name, SlotOf slot, const char* fallback, std::string sentence, const char* aliases) {
  return choice(name, slot, fallback, {"on", "off"}, std::move(sentence), aliases);
}

Key text(const char* name, SlotOf slot, Default fallback, const char* unit, std::string sentence,
         const char* aliases) {
  return {name, slot, std::move(fallback), unit, {}, {}, std::move(sentence), aliases, "", ""};
}

constexpr const char* kMatrixOptimizers = "muon kl-shampoo pro-kl-shampoo";

// A key that other optimizers ignore: it is refused there unless it holds its default.
Key only(const char* optimizers, Key key) {
  key.only_for = optimizers;
  key.sentence += fmt::format(" Only for {}.", commas(optimizers));
  return key;
}

using families::Family;

// "gpt2 A; llama B": what all families say, with `between` behind their names.
std::string of_each(const char* between, const char* separator, std::string (*text)(const Family&)) {
  std::string all;
  for (const Family& family : families::families()) {
    all += fmt::format("{}{}{}{}", all.empty() ? "" : separator, family.name, between, text(family));
  }
  return all;
}

std::vector<Key> make_schema() {
  constexpr auto kOpen = true;  // an end that is not in the range
  return {
      choice("model.family", at<&Config::model, &Model::family>, kRequired, families::family_names(),
             fmt::format("Architecture: {}.", of_each(" has ", "; ", [](const Family& f) { return std::string(f.summary); })),
             "model_type architecture arch type name"),
      integer("model.layers", at<&Config::model, &Model::layers>, kRequired, "blocks", 1, 1000,
              "Transformer blocks.", "n_layer n_layers num_layers num_hidden_layers depth"),
      integer("model.width", at<&Config::model, &Model::width>, kRequired, "channels", 1, 65536,
              "Channels of the residual stream; a multiple of model.heads.",
              "n_embd n_embed hidden_size d_model dim embed_dim embedding_size channels hidden"),
      integer("model.heads", at<&Config::model, &Model::heads>, kRequired, "heads", 1, 4096,
              "Attention heads in a block; each has model.width / model.heads channels.",
              "n_head n_heads num_heads num_attention_heads"),
      integer("model.kv_heads", at<&Config::model, &Model::kv_heads>, 0, "heads", 0, 4096,
              "Heads of keys and values, each shared by model.heads / model.kv_heads heads of queries (grouped-query "
              "attention); 0: as many as model.heads.",
              "num_key_value_heads n_kv_head n_kv_heads num_kv_heads"),
      integer("model.ffn", at<&Config::model, &Model::ffn>, 0, "channels", 0, 1 << 20,
              fmt::format("Inner width of the feed-forward layers; 0: for {}.",
                          of_each(" ", ", for ", [](const Family& f) { return std::string(f.ffn_summary); })),
              "intermediate_size d_ff n_inner mlp_dim ffn_dim hidden_dim"),
      integer("model.vocab", at<&Config::model, &Model::vocab>, kRequired, "tokens", 2, kMostVocab,
              "Token ids that exist: 257 for bytes (256 and end-of-text), 50257 for GPT-2; a vocabulary of "
              "your own has as "
              "many as kiln data train-tokenizer was told.",
              "vocab_size vocabulary vocabulary_size n_vocab"),
      integer("model.vocab_multiple", at<&Config::model, &Model::vocab_multiple>, 128, "tokens", 1, 65536,
              "The embedding has model.vocab rows rounded up to a multiple of this; the extra rows are never "
              "predicted.",
              "pad_vocab_size_multiple make_vocab_size_divisible_by padded_vocab vocab_padding"),
      integer("model.context", at<&Config::model, &Model::context>, kRequired, "tokens", 1, kMostSequence,
              "Longest sequence that the model has positions for.",
              "block_size n_positions n_ctx max_seq_len max_position_embeddings context_length context_size"),
      choice("model.tied", at<&Config::model, &Model::tied>, "auto", {"auto", "on", "off"},
             fmt::format("Whether the output layer is the token embedding; auto: for {}.",
                         of_each(" ", ", for ", [](const Family& f) { return std::string(f.tied ? "on" : "off"); })),
             "tie_word_embeddings weight_tying tied_embeddings tie_embeddings"),
      number("model.norm_eps", at<&Config::model, &Model::norm_eps>, 0, "square of an activation", {0, 1},
             fmt::format("Added to the variance (the mean square) before its root is divided by; 0: for {}.",
                         of_each(" ", ", for ", [](const Family& f) { return number_text(f.norm_eps); })),
             "layer_norm_epsilon layer_norm_eps rms_norm_eps eps"),
      number("model.rope_theta", at<&Config::model, &Model::rope_theta>, 10000, "tokens", {1, 1e9},
             "Base of the rotary wave lengths 2 pi theta^(2i/d). Only where positions are rotary.", "rope_base rotary_base theta rotary_theta"),

      text("data.train", at<&Config::data, &Data::train>, Required{}, kPathUnit,
           "Token shards to learn from: a path, with * and ? allowed in the file name.",
           "train_data train_files train_bin train_shards training dataset input_bin path"),
      text("data.validation", at<&Config::data, &Data::validation>, Required{.may_be_empty = true}, kPathUnit,
           "Token shards to validate on, written like data.train; empty: no validation.",
           "val valid val_data val_files val_bin validation_data eval_data input_val_bin"),
      text("data.tokenizer", at<&Config::data, &Data::tokenizer>, "bytes", kPathUnit,
           "What the tokens of the shards mean: bytes (256 and end-of-text), gpt2 (samples are then printed "
           "as token ids), "
           "or the path of a tokenizer.json, of a folder with vocab.json and merges.txt, or of a *.tiktoken "
           "file.",
           "tokenizer_name encoding tokenizer_path vocab_file"),

      integer("train.steps", at<&Config::train, &Train::steps>, 0, "steps", 0, kMostSteps,
              "Optimizer steps of the whole run; 0: as many as train.tokens or train.epochs take.",
              "max_steps num_steps n_steps iterations num_iterations max_iters train_steps total_steps"),
      integer("train.tokens", at<&Config::train, &Train::tokens>, 0, "tokens", 0, kMostTokens,
              "In place of train.steps: tokens to train on; the last step is a whole one, so at most "
              "train.tokens_per_step - 1 more are; 0: not given.",
              "max_tokens total_tokens num_tokens train_tokens"),
      number("train.epochs", at<&Config::train, &Train::epochs>, 0, "passes", {0, 1e6},
             "In place of train.steps: passes over the sequences of data.train, fractions allowed. Each pass has every "
             "sequence once; a last step that would be ragged is filled up with the first sequences of the next "
             "pass. 0: not given.",
             "num_epochs max_epochs num_train_epochs n_epochs"),
      integer("train.micro_batch", at<&Config::train, &Train::micro_batch>, 8, "sequences", 1, 65536,
              "Sequences in one forward and backward pass; memory grows with it.",
              "batch_size batch micro_batch_size device_batch_size per_device_train_batch_size mini_batch"),
      integer("train.sequence", at<&Config::train, &Train::sequence>, 0, "tokens", 0, kMostSequence,
              "Tokens in a training sequence; 0: model.context.",
              "sequence_length seq_length seq_len seqlen"),
      integer(
          "train.tokens_per_step", at<&Config::train, &Train::tokens_per_step>, 0, "tokens", 0,
          kMostStepTokens,
          "Tokens in an optimizer step, a multiple of train.micro_batch * train.sequence: more than one such "
          "micro-batch is accumulated; 0: exactly one.",
          "total_batch_size global_batch_size batch_tokens tokens_per_batch"),
      integer("train.loss_rows", at<&Config::train, &Train::loss_rows>, 1024, "tokens", 1, 1'000'000,
              "Rows of logits that exist at a time: output layer and loss go through the tokens in chunks of "
              "this size.",
              "chunk_size loss_chunk"),
      integer("train.seed", at<&Config::train, &Train::seed>, 42, "number", 0, kSafeInteger,
              "Decides the initial weights, the order of the data and the samples.", "random_seed rng_seed"),
      number("train.clip", at<&Config::train, &Train::clip>, 1.0, "gradient norm", {0, 1e6},
             "Gradients are scaled down to this global norm where they exceed it; 0: never.",
             "grad_clip clip_grad gradient_clip gradient_clip_val max_grad_norm clip_norm"),
      integer("train.max_skipped", at<&Config::train, &Train::max_skipped>, 20, "steps", 0, kMostSteps,
              "A step whose gradient or loss is not finite changes nothing; after this many in a row the run ends as "
              "diverged; 0: never.",
              "max_nan nan_patience skip_nan_limit"),
      number("train.skip_loss_z", at<&Config::train, &Train::skip_loss_z>, 0, "deviations", {0, 1e6},
             "A step whose loss lies more than this many standard deviations above the mean of the last "
             "train.skip_window ones changes nothing; 0: none is skipped.",
             "loss_z skip_loss loss_spike skip_update_lossz loss_z_threshold"),
      number("train.skip_norm_z", at<&Config::train, &Train::skip_norm_z>, 0, "deviations", {0, 1e6},
             "The same for the gradient norm before clipping.",
             "norm_z skip_grad_norm_z grad_norm_z skip_gradient_z skip_update_gradz grad_z_threshold"),
      integer("train.skip_window", at<&Config::train, &Train::skip_window>, 128, "steps", 2, 10'000,
              "Steps whose mean and deviation decide; until so many were taken, and for steps without a finite loss and "
              "gradient, nothing is judged. The deviation counts as 0.0001 of the mean at least. An outlier enters as the bound that it broke, so that a lasting change passes in the "
              "end.",
              "skip_update_window outlier_window loss_window"),
      toggle("train.overfit_one_batch", at<&Config::train, &Train::overfit_one_batch>, "off",
             "Train on the sequences of the first step at every step, as a check of model and optimizer: the loss must "
             "fall to nearly 0.",
             "overfit overfit_batches overfit_single_batch"),
      choice("train.precision", at<&Config::train, &Train::precision>, "f32", {"f32"},
             "Number format of activations and weights.", "dtype mixed_precision",
             "this version computes in f32 only"),
      choice("train.recompute", at<&Config::train, &Train::recompute>, "none", {"none", "block"},
             "What the backward pass computes again to save memory: block keeps the input of each block alone and "
             "computes up to a third more; the gradients are the same to the bit.",
             "activation_checkpointing gradient_checkpointing checkpoint_activations remat recomputation"),

      choice("optimizer.name", at<&Config::optimizer, &Optimizer::name>, "adamw",
             {"adamw", "muon", "kl-shampoo", "pro-kl-shampoo"},
             "Update rule of hidden matrices: AdamW (arXiv 1711.05101), Muon (Jordan et al. 2024), KL-Shampoo "
             "(arXiv 2509.03378), Pro-KLShampoo (arXiv 2605.06316). Embeddings, output layer, norms and biases "
             "always have AdamW.",
             "type kind optim"),
      number("optimizer.lr", at<&Config::optimizer, &Optimizer::lr>, 6e-4, "per step", {0, 10},
             "Learning rate after the warm-up; the schedule multiplies it. Where it is not given: 0.01 for muon, "
             "0.005 for kl-shampoo and pro-kl-shampoo.",
             "learning_rate max_lr base_lr peak_lr"),
      number("optimizer.b1", at<&Config::optimizer, &Optimizer::b1>, 0.9, "fraction", {0, 1, !kOpen, kOpen},
             "What the running mean of the gradient keeps from step to step. Where it is not given: 0.95 for the "
             "matrix optimizers.",
             "beta1 beta_1 adam_beta1 betas momentum mu"),
      only("adamw kl-shampoo pro-kl-shampoo",
           number("optimizer.b2", at<&Config::optimizer, &Optimizer::b2>, 0.95, "fraction", {0, 1, !kOpen, kOpen},
                  "What the running mean of the squared gradient, or of the factors, keeps from step to step.",
                  "beta2 beta_2 adam_beta2 shampoo_beta")),
      only("adamw kl-shampoo",
           number("optimizer.eps", at<&Config::optimizer, &Optimizer::eps>, 1e-8, "gradient",
                  {0, 1, kOpen, !kOpen},
                  "Added to the root of the mean squared gradient (of the product of eigenvalues) before dividing "
                  "by it.",
                  "epsilon adam_eps adam_epsilon")),
      number("optimizer.wd", at<&Config::optimizer, &Optimizer::wd>, 0.1, "per unit of lr", {0, 10},
             "Weight decay of matrices: each step takes lr * wd of the weight away; vectors do not decay.",
             "weight_decay decay"),
      only(kMatrixOptimizers,
           number("optimizer.adamw_lr", at<&Config::optimizer, &Optimizer::adamw_lr>, 1e-3, "per step", {0, 10},
                  "Learning rate of what is no hidden matrix.", "adam_lr embedding_lr scalar_lr")),
      only(kMatrixOptimizers,
           number("optimizer.adamw_b1", at<&Config::optimizer, &Optimizer::adamw_b1>, 0.9, "fraction",
                  {0, 1, !kOpen, kOpen}, "b1 of what is no hidden matrix.", "adam_b1")),
      only(kMatrixOptimizers,
           number("optimizer.adamw_b2", at<&Config::optimizer, &Optimizer::adamw_b2>, 0.95, "fraction",
                  {0, 1, !kOpen, kOpen}, "b2 of what is no hidden matrix.", "adam_b2")),
      only(kMatrixOptimizers,
           number("optimizer.adamw_eps", at<&Config::optimizer, &Optimizer::adamw_eps>, 1e-8, "gradient",
                  {0, 1, kOpen, !kOpen}, "eps of what is no hidden matrix.", "adam_epsilon_embedding")),
      only(kMatrixOptimizers,
           number("optimizer.adamw_wd", at<&Config::optimizer, &Optimizer::adamw_wd>, 0.1, "per unit of lr",
                  {0, 10}, "Weight decay of embeddings and output layer; vectors do not decay.", "adam_wd")),
      only("muon", choice("optimizer.nesterov", at<&Config::optimizer, &Optimizer::nesterov>, "on", {"on", "off"},
                          "Orthogonalise (1 - b1) gradient + b1 momentum, or the momentum itself.", "nag")),
      only("muon", choice("optimizer.scale", at<&Config::optimizer, &Optimizer::scale>, "match_rms",
                          {"match_rms", "spectral"},
                          "Size of an update of m x n: match_rms is 0.2 sqrt(max(m, n)), an RMS like AdamW's; "
                          "spectral is sqrt(max(1, m/n)).",
                          "lr_scale adjust_lr update_scale")),
      only("muon pro-kl-shampoo",
           choice("optimizer.ns", at<&Config::optimizer, &Optimizer::ns>, "auto",
                  {"auto", "jordan", "polar_express"},
                  "Coefficients of the Newton-Schulz iteration; auto: jordan for muon, polar_express for "
                  "pro-kl-shampoo.",
                  "newton_schulz ns_coefficients ns_set")),
      only("muon pro-kl-shampoo",
           choice("optimizer.ns_precision", at<&Config::optimizer, &Optimizer::ns_precision>, "auto",
                  {"auto", "f32", "bf16"},
                  "What factors of Newton-Schulz products are rounded to (sums are f32); auto: bf16 where the "
                  "processor multiplies it faster (AMX), else f32.",
                  "ns_dtype")),
      only("kl-shampoo pro-kl-shampoo",
           integer("optimizer.refresh", at<&Config::optimizer, &Optimizer::refresh>, 10, "steps", 1, kMostSteps,
                   "Steps between two refreshes of the factors' bases by QR.",
                   "T precondition_frequency update_freq refresh_every")),
      only("kl-shampoo pro-kl-shampoo",
           choice("optimizer.root", at<&Config::optimizer, &Optimizer::root>, "eigenbasis",
                  {"eigenbasis", "newton_schulz"},
                  "Inverse roots of the factors: from kept eigenbases, or fresh at every step by matrix products "
                  "alone (less state, less exact for ill-conditioned factors).",
                  "inverse_root root_method")),
      only("kl-shampoo",
           choice("optimizer.init", at<&Config::optimizer, &Optimizer::init>, "gradient", {"gradient", "constant"},
                  "Eigenvalues at the start: the first gradient's size, or 0.1 as published, which a run with "
                  "small gradients leaves only after hundreds of steps.",
                  "initial initialization init_factor")),
      only("pro-kl-shampoo",
           integer("optimizer.rank", at<&Config::optimizer, &Optimizer::rank>, 128, "directions", 0, 65536,
                   "Dimensions of the tracked subspace of the restricted side; a smaller side is not restricted.",
                   "r subspace_rank proj_rank")),
      only("pro-kl-shampoo",
           choice("optimizer.orientation", at<&Config::optimizer, &Optimizer::orientation>, "larger",
                  {"larger", "input"},
                  "Which side is restricted: the larger one (of a square matrix the input side), or always the "
                  "input side.",
                  "side restricted_side")),
      only("pro-kl-shampoo",
           choice("optimizer.complement", at<&Config::optimizer, &Optimizer::complement>, "polar_left",
                  {"polar_left", "polar", "isotropic"},
                  "Update outside of the subspace: the orthogonalised momentum, whitened on the left before; not "
                  "whitened before; or whitened but not orthogonalised (an ablation).",
                  "orthogonalisation complement_mode")),
      only("pro-kl-shampoo",
           choice("optimizer.complement_scale", at<&Config::optimizer, &Optimizer::complement_scale>, "matched",
                  {"matched", "graft", "fixed"},
                  "Size of that update: the RMS that KL-Shampoo's has, the norm of the isotropic one, or "
                  "optimizer.complement_factor.",
                  "ortho_scale")),
      only("pro-kl-shampoo",
           number("optimizer.complement_factor", at<&Config::optimizer, &Optimizer::complement_factor>, 0.2,
                  "RMS", {0, 100}, "Times sqrt(max(m, n - rank)), with optimizer.complement_scale = fixed.",
                  "complement_c")),
      only("pro-kl-shampoo",
           choice("optimizer.tracker", at<&Config::optimizer, &Optimizer::tracker>, "orthogonal",
                  {"orthogonal", "accumulate"},
                  "How the subspace follows the statistics: an orthogonal iteration every "
                  "optimizer.tracker_every steps, or one product added up at every step and a QR then.",
                  "subspace_tracker")),
      only("pro-kl-shampoo",
           integer("optimizer.tracker_every", at<&Config::optimizer, &Optimizer::tracker_every>, 0, "steps", 0,
                   kMostSteps, "Steps between two turns of the subspace; 0: 1, or optimizer.refresh with accumulate.",
                   "T_u subspace_every proj_update_freq")),

      choice("schedule.kind", at<&Config::schedule, &Schedule::kind>, "cosine",
             {"cosine", "linear", "wsd", "constant"},
             "How the learning rate falls after the warm-up; wsd (warm-up, stable, decay) holds it, then "
             "falls as 1 - sqrt of the time.",
             "lr_schedule lr_scheduler lr_scheduler_type scheduler type name decay"),
      integer("schedule.warmup", at<&Config::schedule, &Schedule::warmup>, 0, "steps", 0, kMostSteps,
              "Steps in which the learning rate rises from 0 to optimizer.lr.",
              "warmup_steps warmup_iters num_warmup_steps warmup_iterations lr_warmup"),
      number("schedule.final", at<&Config::schedule, &Schedule::final>, 0.1, "fraction of lr", {0, 1},
             "Learning rate at the end of the run, as a fraction of optimizer.lr.",
             "min_lr final_lr final_lr_frac end_lr min_lr_ratio learning_rate_decay_frac"),
      number("schedule.decay_fraction", at<&Config::schedule, &Schedule::decay_fraction>, 0.2,
             "fraction of the run", {0, 1},
             "The last part of the run, in which wsd lets the learning rate fall; other kinds ignore it.",
             "decay_frac cooldown_frac cooldown_fraction warmdown_fraction"),

      integer("validation.every", at<&Config::validation, &Validation::every>, 250, "steps", 0, kMostSteps,
              "Steps between two validations; 0: only at the end.",
              "eval_every eval_interval eval_steps val_every val_loss_every interval"),
      integer("validation.tokens", at<&Config::validation, &Validation::tokens>, 65536, "tokens", 1,
              kMostStepTokens, "Validation reads at most this many tokens, the same ones each time.",
              "val_tokens eval_tokens eval_iters"),

      integer("sampling.every", at<&Config::sampling, &Sampling::every>, 0, "steps", 0, kMostSteps,
              "Steps between two samples of text; 0: never.", "sample_every sample_interval generate_every"),
      integer("sampling.tokens", at<&Config::sampling, &Sampling::tokens>, 256, "tokens", 1, 1'000'000,
              "Length of a sample.", "sample_tokens max_new_tokens max_tokens length"),
      text("sampling.prompt", at<&Config::sampling, &Sampling::prompt>, "", kTextUnit,
           "Text that a sample continues; empty: a new document.", "start prefix"),
      number("sampling.temperature", at<&Config::sampling, &Sampling::temperature>, 0.8, "factor", {0, 100},
             "The logits are divided by it: below 1 samples are safer, above 1 wilder; 0: always the most "
             "likely token.",
             "temp"),
      integer("sampling.top_k", at<&Config::sampling, &Sampling::top_k>, 0, "tokens", 0, kMostVocab,
              "Only this many of the most likely tokens are drawn from; 0: all.", "topk k"),

      integer("checkpoint.every", at<&Config::checkpoint, &Checkpoint::every>, 0, "steps", 0, kMostSteps,
              "Steps between two checkpoints; 0: only at the end.",
              "checkpoint_every save_every save_interval save_steps checkpoint_interval interval"),
      integer("checkpoint.keep", at<&Config::checkpoint, &Checkpoint::keep>, 2, "checkpoints", 1, 1000,
              "The newest checkpoints stay, this many; older ones are removed.",
              "save_total_limit keep_last max_to_keep"),
      integer("checkpoint.keep_every", at<&Config::checkpoint, &Checkpoint::keep_every>, 0, "steps", 0, kMostSteps,
              "Checkpoints of steps that are multiples of it stay for good; 0: none does.",
              "keep_interval save_milestones permanent_every"),

      integer("metrics.every", at<&Config::metrics, &Metrics::every>, 0, "steps", 0, kMostSteps,
              "Steps between two reports of the optimizers in metrics.jsonl (sizes of updates, eigenvalues, "
              "times); 0: never.",
              "log_every report_every log_interval"),
      integer("metrics.tail_rank", at<&Config::metrics, &Metrics::tail_rank>, 128, "eigenvalues", 0, 65536,
              "Reports of kl-shampoo say how flat its factors' spectra are past so many eigenvalues: log of arithmetic "
              "over geometric mean, from an eigen-decomposition of each factor, which takes seconds where sides have "
              "thousands; 0: not measured.",
              "tail_gap spectrum_rank report_rank"),

      text("output.dir", at<&Config::output, &Output::dir>, "", kPathUnit,
           "Folder of the run: metrics, checkpoints, resolved config; empty: runs/ and the config's folder "
           "and name.",
           "out_dir output_dir log_dir run_dir save_dir path"),

      choice("device.kind", at<&Config::device, &DeviceOptions::kind>, "cpu", {"cpu", "cuda"},
             "Where the run computes. On a GPU (cuda) kernels are still missing: the first one refuses the run, by name.",
             "type name device backend accelerator"),
      integer("device.threads", at<&Config::device, &DeviceOptions::threads>, 0, "threads", 0, 4096,
              "CPU threads; 0: as many as the process may run on.",
              "num_threads n_threads num_workers omp_num_threads"),
      choice("device.isa", at<&Config::device, &DeviceOptions::isa>, "auto",
             {"auto", "baseline", "avx2", "avx512"},
             "Instruction set of the CPU kernels; auto: the best one that the processor has.",
             "instruction_set simd arch"),
      choice("device.arena", at<&Config::device, &DeviceOptions::arena>, "slab", {"slab", "discrete"},
             "One allocation for all tensors, or one for each, so that sanitizers see an overrun.",
             "allocator memory"),
  };
}

void store(const Slot& slot, const Default& value) {
  std::visit(
      [](auto* place, const auto& x) {
        using Place = std::remove_pointer_t<decltype(place)>;
        using Value = std::remove_cvref_t<decltype(x)>;
        if constexpr (std::is_same_v<Value, std::string> == std::is_same_v<Place, std::string> &&
                      !std::is_same_v<Value, Required>) {
          *place = static_cast<Place>(x);
        }
      },
      slot, value);
}

}  // namespace

bool Key::must_not_be_empty() const {
  const auto* required = std::get_if<Required>(&fallback);
  return required && !required->may_be_empty;
}

bool Key::is_text() const {
  Config config;
  return std::holds_alternative<std::string*>(slot(config));
}

bool Key::is_switch() const {
  return choices == std::vector<std::string>{"on", "off"};
}

bool Key::is_integer() const {
  Config config;
  const Slot place = slot(config);
  return std::holds_alternative<int64_t*>(place) || std::holds_alternative<uint64_t*>(place);
}

const std::vector<Key>& schema() {
  static const std::vector<Key> keys = make_schema();
  return keys;
}

const std::vector<std::string>& sections() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Key& key : schema()) {
      if (out.empty() || out.back() != key.section()) out.emplace_back(key.section());
    }
    return out;
  }();
  return names;
}

const Key* find_key(std::string_view name) {
  for (const Key& key : schema()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::vector<const Key*> keys_of(std::string_view section) {
  std::vector<const Key*> keys;
  for (const Key& key : schema()) {
    if (key.section() == section) keys.push_back(&key);
  }
  return keys;
}

Config defaults() {
  Config config;
  for (const Key& key : schema()) store(key.slot(config), key.fallback);
  return config;
}

std::string number_text(double x) {
  // 2^63 bounds what a cast to int64 may hold; integers of the schema are far below.
  if (std::floor(x) == x && std::abs(x) < 1e15) return fmt::format("{}", static_cast<int64_t>(x));
  return fmt::format("{}", x);
}

std::string range_text(const Key& key, std::string_view name) {
  if (!key.choices.empty()) return either(key.choices);
  if (key.is_text()) return key.must_not_be_empty() ? "not empty" : "any " + key.unit;
  return fmt::format("{} {} {} {} {}", number_text(key.range.min), key.range.min_open ? "<" : "<=", name,
                     key.range.max_open ? "<" : "<=", number_text(key.range.max));
}

std::string default_text(const Key& key) {
  if (key.is_required()) return "required";
  if (const auto* integer = std::get_if<int64_t>(&key.fallback)) return fmt::format("{}", *integer);
  if (const auto* number = std::get_if<double>(&key.fallback)) return number_text(*number);
  const auto& text = std::get<std::string>(key.fallback);
  return text.empty() ? "(empty)" : text;
}

}  // namespace kiln::config
