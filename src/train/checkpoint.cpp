#include "src/train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "src/core/checksum.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/safetensors.h"
#include "src/train/checkpoint_folders.h"
#include "src/train/run_folder.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "manifest.json";
constexpr const char* kModelHint =
    "the checkpoint was written with another config: use the config of that run";

int64_t file_bytes(const fs::path& path) {
  std::error_code code;
  const auto bytes = fs::file_size(path, code);
  if (code) {
    throw Error(ExitCode::data, fmt::format("{}: {}", path.string(), code.message()), kDamagedHint);
  }
  return static_cast<int64_t>(bytes);
}

void write_tensors(const fs::path& folder, const ParameterTable& parameters,
                   const optim::OptimizerSet& optimizers) {
  const auto parameter = [&](size_t i) {
    const Parameter& p = parameters.all()[i];
    return TensorSource{p.name, TensorType::f32, p.shape, p.master};
  };
  write_safetensors(folder / kModelFile, parameters.all().size(), parameter, {.metadata = {}, .sync = true});
  const auto state = [&](size_t i) {
    const optim::StateTensor& s = optimizers.state_tensors()[i];
    return TensorSource{s.name, TensorType::f32, {s.rows, s.cols}, s.data};
  };
  write_safetensors(folder / kOptimizerFile, optimizers.state_tensors().size(), state,
                    {.metadata = {}, .sync = true});
}

CheckpointFile file_in(const fs::path& folder, const char* name) {
  return {.name = name, .bytes = file_bytes(folder / name), .checksum = file_checksum(folder / name)};
}

void write_manifest(const fs::path& folder, const CheckpointState& state) {
  const Manifest manifest{
      .state = state, .model = file_in(folder, kModelFile), .optimizer = file_in(folder, kOptimizerFile)};
  write_file_atomically(folder / kManifest, manifest_text(manifest));
}

// What a tensor of the checkpoint must be, and where it goes.
struct Target {
  const std::string* name;
  Shape shape;
  float* data;
};

std::vector<Target> targets_of(const ParameterTable& parameters) {
  std::vector<Target> weights;
  for (const Parameter& p : parameters.all()) {
    require(p.dtype == DType::f32, "checkpoints are loaded into fp32 weights only");
    weights.push_back({&p.name, p.shape, p.master});
  }
  return weights;
}

// Both sides must name the same tensors of the same shapes.
void check(const SafetensorsFile& file, const std::vector<Target>& targets) {
  const auto fail = [&](const std::string& what) {
    throw Error(ExitCode::data, fmt::format("{}: {}", file.path().string(), what), kModelHint);
  };
  std::set<std::string_view> wanted;
  for (const Target& t : targets) {
    wanted.insert(*t.name);
    require(t.data != nullptr, "a checkpoint is loaded before memory is bound");
    if (!file.contains(*t.name)) fail(fmt::format("there is no tensor {}, which this run has", *t.name));
    const TensorView& view = file.tensor(*t.name);
    if (view.type != TensorType::f32)
      fail(fmt::format("tensor {} is {}, not F32", *t.name, name_of(view.type)));
    if (view.shape != t.shape) {
      fail(fmt::format("tensor {} is {}, but {} in this run", *t.name, to_string(view.shape),
                       to_string(t.shape)));
    }
  }
  for (const std::string& name : file.names()) {
    if (!wanted.contains(name)) fail(fmt::format("tensor {} does not exist in this run", name));
  }
}

void copy(const SafetensorsFile& file, const std::vector<Target>& targets) {
  for (const Target& t : targets) {
    const auto bytes = file.tensor(*t.name).bytes;
    if (!bytes.empty()) std::memcpy(t.data, bytes.data(), bytes.size());
  }
}

// The manifest, and the wanted files of the sizes it says; with `content` of its checksums, too.
CheckpointState checked(const fs::path& folder, CheckpointPart part, bool content) {
  Manifest manifest = read_manifest_file(folder);
  for (const CheckpointFile* file : {&manifest.model, &manifest.optimizer}) {
    if (part == CheckpointPart::weights && file == &manifest.optimizer) continue;
    const std::string problem = file_problem(folder, *file, content);
    if (!problem.empty()) throw Error(ExitCode::data, problem, kDamagedHint);
  }
  return std::move(manifest.state);
}

}  // namespace

fs::path save_checkpoint(const fs::path& run, const CheckpointState& state, const ParameterTable& parameters,
                         const optim::OptimizerSet& optimizers) {
  const std::string name = folder_name(state.step);
  const fs::path final = root(run) / name;
  const fs::path temporary = root(run) / (std::string(kTemporary) + name);
  const fs::path replaced = root(run) / (std::string(kReplaced) + name);
  make_folder(root(run));
  sync_directory(run);
  tidy(run);
  const bool replace = is_there(final);
  try {
    make_folder(temporary);
    write_tensors(temporary, parameters, optimizers);
    write_manifest(temporary, state);
    sync_directory(temporary);
    if (replace) move_folder(final, replaced);
    move_folder(temporary, final);
    sync_directory(root(run));
  } catch (...) {
    try {
      tidy(run);
    } catch (const Error&) {
      // The first error is the one to report; what is left is tidied before the next checkpoint.
    }
    throw;
  }
  if (replace) remove_checkpoint(replaced);
  return final;
}

bool is_checkpoint(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    throw Error(
        ExitCode::data,
        fmt::format("{} is {}", path.string(), fs::exists(path, ignored) ? "not a folder" : "not there"),
        "give the folder of a run (output.dir) or one below its checkpoints/");
  }
  const std::string name =
      fs::path(path / "").parent_path().filename().string();  // without a slash at the end
  if (fs::exists(path / kManifest, ignored)) return true;
  // Before the name counts: a run may be called step_size_01.
  if (RunFolder::holds_run(path) || fs::exists(path / "config.json", ignored)) return false;
  if (name.starts_with(kStep) || name.starts_with(std::string(kReplaced) + std::string(kStep))) return true;
  throw Error(ExitCode::data, fmt::format("{} holds neither a run nor a checkpoint", path.string()),
              "a run has metrics.jsonl, a checkpoint manifest.json; kiln data inspect shows token shards");
}

std::string file_problem(const fs::path& folder, const CheckpointFile& file, bool content) {
  const fs::path path = folder / file.name;
  try {
    if (const int64_t bytes = file_bytes(path); bytes != file.bytes) {
      return fmt::format("{}: has {} bytes, the manifest says {}", path.string(), bytes, file.bytes);
    }
    if (!content) return {};
    if (const std::string found = file_checksum(path); found != file.checksum) {
      return fmt::format("{}: its checksum is {}, the manifest says {}: the file is damaged", path.string(),
                         found, file.checksum);
    }
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

Manifest read_manifest_file(const fs::path& folder) {
  return parse_manifest(read_file(folder / kManifest), folder / kManifest);
}

CheckpointState read_manifest(const fs::path& folder, CheckpointPart part) {
  return checked(folder, part, /*content=*/false);
}

CheckpointState verify_checkpoint(const fs::path& folder, CheckpointPart part) {
  return checked(folder, part, /*content=*/true);
}

bool has_checkpoints(const fs::path& run) {
  return !candidates(run).empty();
}

std::optional<fs::path> find_latest_checkpoint(const fs::path& run, const Warn& warn, CheckpointPart part) {
  for (const Candidate& c : candidates(run)) {
    try {
      const CheckpointState state = verify_checkpoint(c.path, part);
      if (state.step == c.step) return c.path;
      warn(fmt::format("passing over a broken checkpoint: {} holds step {}", c.path.string(), state.step));
    } catch (const Error& e) {
      warn(fmt::format("passing over a broken checkpoint: {}", e.what()));
    }
  }
  return std::nullopt;
}

CheckpointState load_checkpoint(const fs::path& folder, ParameterTable& parameters,
                                optim::OptimizerSet& optimizers) {
  CheckpointState state = verify_checkpoint(folder);
  const SafetensorsFile model(folder / kModelFile), optimizer(folder / kOptimizerFile);
  const std::vector<Target> weights = targets_of(parameters);
  std::vector<Target> states;
  for (const optim::StateTensor& s : optimizers.state_tensors())
    states.push_back({&s.name, {s.rows, s.cols}, s.data});
  check(model, weights);
  check(optimizer, states);
  copy(model, weights);
  copy(optimizer, states);
  parameters.bump_versions();
  return state;
}

CheckpointState load_weights(const fs::path& folder, ParameterTable& parameters) {
  CheckpointState state = verify_checkpoint(folder, CheckpointPart::weights);
  const SafetensorsFile model(folder / kModelFile);
  const std::vector<Target> weights = targets_of(parameters);
  check(model, weights);
  copy(model, weights);
  parameters.bump_versions();
  return state;
}

void prune_checkpoints(const fs::path& run, int64_t keep, int64_t keep_every, const Warn& warn) {
  require(keep >= 1, "at least one checkpoint must be kept");
  int64_t kept = 0;
  for (const Candidate& c : candidates(run)) {
    if (kept >= keep && keep_every > 0 && c.step % keep_every == 0 && !c.replaced) continue;
    try {
      if (kept < keep) {
        read_manifest(c.path);
        kept++;
        continue;
      }
    } catch (const Error&) {
      continue;  // broken, but newer than what is kept: not ours to judge
    }
    try {
      remove_checkpoint(c.path);
    } catch (const Error& e) {
      warn(fmt::format("an old checkpoint stays: {}", e.what()));
    }
  }
}

}  // namespace kiln::train
