// The configuration of a run. Defaults, units, ranges and the sentence that explains each key stand in one
// place: schema.cpp. Struct members are named as the JSON keys. What load() returns is resolved: where a key
// may say "0: as that other key wants it", its field holds the number that was meant.
#pragma once

#include <cstdint>
#include <string>

namespace kiln::config {

struct Model {
  std::string family;  // a name of models/families
  int64_t layers = 0;
  int64_t width = 0;           // C, a multiple of heads
  int64_t heads = 0;           // NH
  int64_t ffn = 0;             // inner width of the feed-forward block; resolved: never 0
  int64_t vocab = 0;           // V: token ids that exist
  int64_t vocab_multiple = 0;  // the rows of the embedding are V rounded up to this
  int64_t context = 0;         // longest sequence
  int64_t kv_heads = 0;        // heads of keys and values; resolved: never 0
  std::string tied;       // "on" | "off": whether the head is the token embedding; resolved: never "auto"
  double norm_eps = 0;    // resolved: never 0
  double rope_theta = 0;  // base of the rotary wave lengths; only where positions are rotary
  bool operator==(const Model&) const = default;
};

struct Data {
  std::string train;       // token shards: a path, a folder's pattern ("cache/corpus/train_*.bin")
  std::string validation;  // the same; empty: no validation
  std::string tokenizer;   // "bytes", "gpt2" or a path: what the tokens of the shards mean
  bool operator==(const Data&) const = default;
};

struct Train {
  int64_t steps = 0;            // optimizer steps of the whole run; resolved: 0 only where `epochs` decides
  int64_t tokens = 0;           // the same as tokens; 0: not given
  double epochs = 0;            // the same as passes over data.train; 0: not given
  int64_t micro_batch = 0;      // sequences in one forward and backward pass
  int64_t sequence = 0;         // tokens in a sequence, at most model.context; resolved: never 0
  int64_t tokens_per_step = 0;  // a multiple of micro_batch * sequence; resolved: never 0
  int64_t loss_rows = 0;        // rows of logits that exist at a time
  uint64_t seed = 0;
  double clip = 0;                // largest global gradient norm; 0: no clipping
  std::string precision;          // "f32"
  std::string recompute;          // "none" | "block"
  int64_t max_skipped = 0;        // non-finite steps in a row that are borne; 0: any number
  double skip_loss_z = 0;         // standard deviations above the mean that make an outlier; 0: none is
  double skip_norm_z = 0;         // the same for the gradient norm
  int64_t skip_window = 0;        // steps that mean and deviation are over
  std::string overfit_one_batch;  // "on" | "off"
  bool operator==(const Train&) const = default;
};

// Keys that the named optimizer has no use for hold their defaults.
struct Optimizer {
  std::string name;  // "adamw" | "muon" | "kl-shampoo" | "pro-kl-shampoo"
  double lr = 0, b1 = 0, b2 = 0, eps = 0, wd = 0;
  double adamw_lr = 0, adamw_b1 = 0, adamw_b2 = 0, adamw_eps = 0,
         adamw_wd = 0;       // of what is no hidden matrix
  std::string nesterov;      // "on" | "off"
  std::string scale;         // "match_rms" | "spectral"
  std::string ns;            // "jordan" | "polar_express"; resolved: "auto" only where there is none
  std::string ns_precision;  // "auto" | "f32" | "bf16"
  int64_t refresh = 0;       // T, steps
  std::string root;          // "eigenbasis" | "newton_schulz"
  std::string init;          // "gradient" | "constant"
  int64_t rank = 0;
  std::string orientation;       // "larger" | "input"
  std::string complement;        // "polar_left" | "polar" | "isotropic"
  std::string complement_scale;  // "matched" | "graft" | "fixed"
  double complement_factor = 0;  // with "fixed"
  std::string tracker;           // "orthogonal" | "accumulate"
  int64_t tracker_every = 0;     // T_u, steps; resolved: 0 only where there is no tracker
  bool operator==(const Optimizer&) const = default;
};

struct Schedule {
  std::string kind;           // "cosine" | "linear" | "wsd" | "constant"
  int64_t warmup = 0;         // steps from 0 to the full learning rate
  double final = 0;           // multiplier at the end
  double decay_fraction = 0;  // of the run that the last phase of "wsd" takes
  bool operator==(const Schedule&) const = default;
};

struct Validation {
  int64_t every = 0;   // steps; 0: only at the end
  int64_t tokens = 0;  // at most this many, the same ones each time
  bool operator==(const Validation&) const = default;
};

struct Sampling {
  int64_t every = 0;  // steps; 0: never
  int64_t tokens = 0;
  std::string prompt;      // empty: a new document
  double temperature = 0;  // 0: always the most likely token
  int64_t top_k = 0;       // 0: all
  bool operator==(const Sampling&) const = default;
};

struct Checkpoint {
  int64_t every = 0;       // steps; 0: only at the end
  int64_t keep = 0;        // newest checkpoints that stay
  int64_t keep_every = 0;  // steps; multiples stay for good; 0: none
  bool operator==(const Checkpoint&) const = default;
};

struct Metrics {
  int64_t every = 0;      // steps between two reports of the optimizers; 0: never
  int64_t tail_rank = 0;  // eigenvalues past which KL-Shampoo's reports look; 0: they do not
  bool operator==(const Metrics&) const = default;
};

struct Output {
  std::string dir;  // the run folder; resolved: never empty
  bool operator==(const Output&) const = default;
};

struct DeviceOptions {
  std::string kind;     // "cpu" | "cuda"
  int64_t threads = 0;  // 0: all
  std::string isa;      // "auto" | "baseline" | "avx2" | "avx512"
  std::string arena;    // "slab" | "discrete"
  bool operator==(const DeviceOptions&) const = default;
};

struct Config {
  Model model;
  Data data;
  Train train;
  Optimizer optimizer;
  Schedule schedule;
  Validation validation;
  Sampling sampling;
  Checkpoint checkpoint;
  Metrics metrics;
  Output output;
  DeviceOptions device;
  bool operator==(const Config&) const = default;
};

}  // namespace kiln::config
