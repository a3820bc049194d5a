#include "src/train/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/safetensors.h"
#include "src/plan/planned_run.h"
#include "src/train/checkpoint_folders.h"
#include "src/train/run_folder.h"
#include "src/train/run_lock.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

// Runs `work`; what it throws becomes a problem.
template <class Work>
void note_problem(std::vector<std::string>& problems, Work work) {
  try {
    work();
  } catch (const Error& e) {
    problems.emplace_back(e.what());
  }
}

int64_t folder_bytes(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const auto size = entry.file_size(ignored);
    if (!ignored) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

std::string problem_of(const Candidate& candidate, bool verify) {
  try {
    const CheckpointState state = verify ? verify_checkpoint(candidate.path) : read_manifest(candidate.path);
    if (state.step != candidate.step) return fmt::format("its manifest says step {}", state.step);
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

void look_at_log(InspectedRun& run) {
  const fs::path path = run.path / "metrics.jsonl";
  note_problem(run.problems, [&] { run.log = read_metrics_log(path); });
  if (run.log.broken_lines > 0) {
    run.problems.push_back(fmt::format("{}: {} lines cannot be read, the first is line {}", path.string(),
                                       run.log.broken_lines, run.log.first_broken_line));
  }
  if (run.log.rewound > 0) {
    run.problems.push_back(
        fmt::format("{}: goes back to earlier steps {} times; of lines that repeat a step the last "
                    "counts",
                    path.string(), run.log.rewound));
  }
}

void read_tensors(const fs::path& path, const InspectOptions& options,
                  std::vector<InspectedTensor>& tensors) {
  const SafetensorsFile file(path);
  for (const std::string& name : file.names()) {
    const TensorView& view = file.tensor(name);
    const std::string type(name_of(view.type));
    tensors.push_back({.name = name,
                       .type = type,
                       .shape = view.shape,
                       .bytes = static_cast<int64_t>(view.bytes.size()),
                       .stats = options.stats ? stats_of(type, view.bytes) : std::nullopt});
  }
}

// "h.0.attn.qkv.weight.q.s_a" -> "s_a"
std::string kind_of(const std::string& name) {
  return name.substr(name.rfind('.') + 1);
}

}  // namespace

std::optional<TensorStats> stats_of(const std::string& type, std::span<const std::byte> bytes) {
  if (type != "F32") return std::nullopt;
  double squares = 0, abs_max = 0;
  int64_t non_finite = 0;
  const size_t n = bytes.size() / sizeof(float);
  for (size_t i = 0; i < n; i++) {
    float x;
    std::memcpy(&x, bytes.data() + i * sizeof x, sizeof x);  // files from elsewhere may not be aligned
    if (!std::isfinite(x)) {
      non_finite++;
      continue;
    }
    const double a = std::fabs(static_cast<double>(x));
    squares += a * a;
    abs_max = std::max(abs_max, a);
  }
  const auto finite = static_cast<double>(n) - static_cast<double>(non_finite);
  if (finite == 0) {
    const double none = std::numeric_limits<double>::quiet_NaN();
    return TensorStats{.rms = none, .abs_max = none, .non_finite = non_finite};
  }
  return TensorStats{.rms = std::sqrt(squares / finite), .abs_max = abs_max, .non_finite = non_finite};
}

InspectedRun inspect_run(const fs::path& path, const InspectOptions& options) {
  InspectedRun run{.path = path,
                   .config = {},
                   .log = {},
                   .process = process_training_in(path),
                   .checkpoints = {},
                   .problems = {}};
  note_problem(run.problems, [&] { run.config = config::load(path / "config.json"); });
  if (run.config) {
    note_problem(run.problems, [&] { run.parameters = plan::parameter_count(*run.config); });
  }
  look_at_log(run);
  note_problem(run.problems, [&] {
    for (const Candidate& c : candidates(path)) {
      run.checkpoints.push_back({c.step, c.path, folder_bytes(c.path), problem_of(c, options.verify)});
      const std::string& problem = run.checkpoints.back().problem;
      if (!problem.empty() && !is_there(c.path)) {  // the run that goes on there has removed it just now
        run.checkpoints.pop_back();
        continue;
      }
      if (!problem.empty())
        run.problems.push_back(fmt::format("the checkpoint of step {}: {}", c.step, problem));
    }
  });
  return run;
}

InspectedCheckpoint inspect_checkpoint(const fs::path& path, const InspectOptions& options) {
  const Manifest manifest = read_manifest_file(path);
  InspectedCheckpoint found{.path = path,
                            .state = manifest.state,
                            .config = {},
                            .files = {manifest.model, manifest.optimizer},
                            .parameters = {},
                            .optimizer = {},
                            .kinds = {},
                            .problems = {}};
  try {
    found.config =
        config::parse(found.state.config_json, "the config in manifest.json", {}, config::no_files());
  } catch (const Error&) {
    // Of another version, or not written by a run: told as "none", the rest does not depend on it.
  }
  for (size_t i = 0; i < found.files.size(); i++) {
    const std::string problem = file_problem(path, found.files[i], options.verify);
    if (!problem.empty()) found.problems.push_back(problem);
    note_problem(found.problems, [&] {
      read_tensors(path / found.files[i].name, options, i == 0 ? found.parameters : found.optimizer);
    });
  }
  for (const InspectedTensor& tensor : found.optimizer) {
    const std::string kind = kind_of(tensor.name);
    auto same = std::find_if(found.kinds.begin(), found.kinds.end(),
                             [&](const StateKind& k) { return k.name == kind; });
    if (same == found.kinds.end()) same = found.kinds.insert(same, StateKind{.name = kind});
    same->tensors++;
    same->elements += element_count(tensor.shape);
    same->bytes += tensor.bytes;
  }
  return found;
}

}  // namespace kiln::train
