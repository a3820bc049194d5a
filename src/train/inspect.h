// What stands in a run folder and in a checkpoint, found without a device and without changing anything. What is
// damaged becomes a sentence in `problems`; the rest is told all the same.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/config/config.h"
#include "src/core/shape.h"
#include "src/train/checkpoint.h"
#include "src/train/metrics_log.h"

namespace kiln::train {

struct InspectOptions {
  bool verify = false;  // read every byte of checkpoints and compare their checksums
  bool stats = false;   // of the numbers in the tensors of a checkpoint
};

struct RunCheckpoint {
  int64_t step;
  std::filesystem::path path;
  int64_t bytes;        // of its files
  std::string problem;  // empty: intact, as far as was looked
};

struct InspectedRun {
  std::filesystem::path path;
  std::optional<config::Config> config;  // none: config.json is missing or cannot be read
  int64_t parameters = 0;                // of the model; 0: unknown
  MetricsLog log;
  std::optional<std::string> process;      // that trains there now
  std::vector<RunCheckpoint> checkpoints;  // newest first
  std::vector<std::string> problems;
};

// Numbers of a tensor. NaN where it has no finite element.
struct TensorStats {
  double rms, abs_max;  // of the finite elements
  int64_t non_finite;
};

struct InspectedTensor {
  std::string name, type;
  Shape shape;
  int64_t bytes;
  std::optional<TensorStats> stats;
};

// State tensors of one name, over all parameters: "m", "s_a", ...
struct StateKind {
  std::string name;
  int64_t tensors = 0, elements = 0, bytes = 0;
};

struct InspectedCheckpoint {
  std::filesystem::path path;
  CheckpointState state;
  std::optional<config::Config> config;  // of the state; none: this version cannot read it
  std::vector<CheckpointFile> files;
  std::vector<InspectedTensor> parameters, optimizer;
  std::vector<StateKind> kinds;
  std::vector<std::string> problems;
};

InspectedRun inspect_run(const std::filesystem::path& path, const InspectOptions& options);
// Throws Error(ExitCode::data) when the manifest itself is missing or damaged: nothing can be said then.
InspectedCheckpoint inspect_checkpoint(const std::filesystem::path& path, const InspectOptions& options);

// fp32 only: of other types nothing is computed.
std::optional<TensorStats> stats_of(const std::string& type, std::span<const std::byte> bytes);

// For people, and for machines (one JSON object).
std::string text_of(const InspectedRun& run, const InspectOptions& options);
std::string text_of(const InspectedCheckpoint& checkpoint, const InspectOptions& options);
std::string json_of(const InspectedRun& run, const InspectOptions& options);
std::string json_of(const InspectedCheckpoint& checkpoint, const InspectOptions& options);

}  // namespace kiln::train
