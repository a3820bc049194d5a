// manifest.json of a checkpoint: what resuming needs besides tensors, and what the files of tensors must be. The text
// comes from outside: nothing in it is believed before it was looked at.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace kiln::train {

// Random numbers are counter-based: the seed, in the config, is all their state.
struct CheckpointState {
  int64_t step = 0;                                      // steps taken, skipped ones included
  int64_t optimizer_t = 0;                               // steps that updated something
  int64_t samples = 0;                                   // sequences drawn from the sampler
  std::string data;                                      // fingerprint of the training tokens
  std::string config_json;                               // the resolved config
  std::vector<double> losses = {}, gradient_norms = {};  // of the guards (guards.h)
  int64_t run_steps = 0;      // of the whole run, also where train.epochs decides them; 0: not known
  double ceiling_gflops = 0;  // that the run's MFU is a fraction of (ceiling.h); 0: not known
  bool operator==(const CheckpointState&) const = default;
};

// A file of a checkpoint as its manifest describes it.
struct CheckpointFile {
  std::string name;
  int64_t bytes;
  std::string checksum;  // checksum.h
  bool operator==(const CheckpointFile&) const = default;
};

struct Manifest {
  CheckpointState state;
  CheckpointFile model, optimizer;  // kModelFile, kOptimizerFile
  bool operator==(const Manifest&) const = default;
};

inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";

// What to do about a damaged checkpoint.
inline constexpr const char* kDamagedHint = "delete or repair that folder: an older checkpoint is used then";

// With a checksum of its own over all the rest.
std::string manifest_text(const Manifest& manifest);

// Throws Error(ExitCode::data), which names `path`, for what is no manifest, not of this version, or not as it was
// written: the checksum tells.
Manifest parse_manifest(const std::string& text, const std::filesystem::path& path);

}  // namespace kiln::train
