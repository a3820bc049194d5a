#include "src/train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/safetensors.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kVersion = 1;
constexpr const char* kManifest = "manifest.json";
constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr std::string_view kTemporary = ".tmp-", kReplaced = ".old-", kStep = "step_";

constexpr const char* kOtherHint = "delete or repair that folder: an older checkpoint is used then";
constexpr const char* kModelHint =
    "the checkpoint was written with another config: use the config of that run";

fs::path root(const fs::path& run) {
  return run / "checkpoints";
}
std::string folder_name(int64_t step) {
  return fmt::format("{}{:08}", kStep, step);
}

// Runs a change of the file system; its error as ours.
template <class Change>
void change(const char* what, const fs::path& path, Change&& action) {
  std::error_code code;
  action(code);
  if (code) {
    throw Error(ExitCode::data, fmt::format("cannot {} {}: {}", what, path.string(), code.message()),
                "check the disk and the permissions of the run folder");
  }
}

void move_folder(const fs::path& from, const fs::path& to) {
  change("rename", from, [&](std::error_code& code) { fs::rename(from, to, code); });
}

void delete_folder(const fs::path& path) {
  change("remove", path, [&](std::error_code& code) { fs::remove_all(path, code); });
}

void make_folder(const fs::path& path) {
  change("create", path, [&](std::error_code& code) { fs::create_directories(path, code); });
}

struct Candidate {
  int64_t step;
  bool replaced;  // ".old-": counts only where the new one is missing or broken
  fs::path path;
};

std::optional<Candidate> parse_name(const fs::path& path) {
  const std::string name = path.filename().string();
  std::string_view digits = name;
  const bool replaced = digits.starts_with(kReplaced);
  if (replaced) digits.remove_prefix(kReplaced.size());
  if (!digits.starts_with(kStep)) return std::nullopt;
  digits.remove_prefix(kStep.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || digits.empty() || digits[0] == '-' || end != digits.data() + digits.size()) {
    return std::nullopt;
  }
  return Candidate{step, replaced, path};
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> paths;
  change("list", folder, [&](std::error_code& code) {
    for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
      paths.push_back(it->path());
    }
    if (code == std::errc::no_such_file_or_directory) code.clear();  // no checkpoint yet
  });
  return paths;
}

// Newest first.
std::vector<Candidate> candidates(const fs::path& run) {
  std::vector<Candidate> found;
  for (const fs::path& path : entries(root(run))) {
    if (auto c = parse_name(path)) found.push_back(std::move(*c));
  }
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) {
    return a.step != b.step ? a.step > b.step : a.replaced < b.replaced;
  });
  return found;
}

// Finishes what a crash interrupted: a replacement that had not arrived is undone, all other leftovers go.
void tidy(const fs::path& run) {
  for (const fs::path& path : entries(root(run))) {
    const std::string name = path.filename().string();
    const fs::path original = path.parent_path() / name.substr(std::min(name.size(), kReplaced.size()));
    if (name.starts_with(kReplaced) && !is_there(original)) {
      move_folder(path, original);
    } else if (name.starts_with(kReplaced) || name.starts_with(kTemporary)) {
      delete_folder(path);
    }
  }
}

// Takes the name away first: a crash midway leaves no half checkpoint that looks whole.
void remove_checkpoint(const fs::path& path) {
  const fs::path doomed = path.parent_path() / (std::string(kTemporary) + path.filename().string());
  delete_folder(doomed);
  move_folder(path, doomed);
  sync_directory(path.parent_path());
  delete_folder(doomed);
}

int64_t file_bytes(const fs::path& path) {
  std::error_code code;
  const auto bytes = fs::file_size(path, code);
  if (code) {
    throw Error(ExitCode::data, fmt::format("{}: {}", path.string(), code.message()), kOtherHint);
  }
  return static_cast<int64_t>(bytes);
}

void write_tensors(const fs::path& folder, const ParameterTable& parameters,
                   const optim::OptimizerSet& optimizers) {
  const auto parameter = [&](size_t i) {
    const Parameter& p = parameters.all()[i];
    return TensorSource{p.name, TensorType::f32, p.shape, p.master};
  };
  write_safetensors(folder / kModel, parameters.all().size(), parameter, {.metadata = {}, .sync = true});
  const auto state = [&](size_t i) {
    const optim::StateTensor& s = optimizers.state_tensors()[i];
    return TensorSource{s.name, TensorType::f32, {s.rows, s.cols}, s.data};
  };
  write_safetensors(folder / kOptimizer, optimizers.state_tensors().size(), state,
                    {.metadata = {}, .sync = true});
}

void write_manifest(const fs::path& folder, const CheckpointState& state) {
  json files;
  for (const char* name : {kModel, kOptimizer}) files[name] = file_bytes(folder / name);
  const json manifest = {
      {"version", kVersion},      {"step", state.step},          {"optimizer_t", state.optimizer_t},
      {"samples", state.samples}, {"config", state.config_json}, {"files", files}};
  write_file_atomically(folder / kManifest, manifest.dump(2) + "\n");
}

// What a tensor of the checkpoint must be, and where it goes.
struct Target {
  const std::string* name;
  Shape shape;
  float* data;
};

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
  try {
    make_folder(temporary);
    write_tensors(temporary, parameters, optimizers);
    write_manifest(temporary, state);
    sync_directory(temporary);
  } catch (...) {
    std::error_code ignored;  // the first error is the one to report
    fs::remove_all(temporary, ignored);
    throw;
  }
  const bool replace = is_there(final);
  if (replace) move_folder(final, replaced);
  move_folder(temporary, final);
  sync_directory(root(run));
  if (replace) remove_checkpoint(replaced);
  return final;
}

CheckpointState read_manifest(const fs::path& folder) {
  const fs::path path = folder / kManifest;
  const auto fail = [&](const std::string& what) {
    throw Error(ExitCode::data, fmt::format("{}: {}", path.string(), what), kOtherHint);
  };
  const json manifest = json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object()) fail("is not a JSON object");
  const auto whole_number = [&](const json& object, const char* key) {
    const auto it = object.find(key);
    if (it == object.end() || !it->is_number_unsigned() || it->get<uint64_t>() > INT64_MAX) {
      fail(fmt::format("\"{}\" is not a whole number", key));
    }
    return it->get<int64_t>();
  };
  if (const int64_t version = whole_number(manifest, "version"); version != kVersion) {
    fail(fmt::format("has version {}, this program knows version {}", version, kVersion));
  }
  CheckpointState state{.step = whole_number(manifest, "step"),
                        .optimizer_t = whole_number(manifest, "optimizer_t"),
                        .samples = whole_number(manifest, "samples"),
                        .config_json = {}};
  const auto config = manifest.find("config");
  if (config == manifest.end() || !config->is_string()) fail("\"config\" is not a string");
  state.config_json = config->get<std::string>();
  const auto files = manifest.find("files");
  if (files == manifest.end() || !files->is_object()) fail("\"files\" is not a JSON object");
  for (const char* name : {kModel, kOptimizer}) {
    const int64_t expected = whole_number(*files, name), bytes = file_bytes(folder / name);
    if (bytes != expected) {
      throw Error(
          ExitCode::data,
          fmt::format("{}: has {} bytes, the manifest says {}", (folder / name).string(), bytes, expected),
          kOtherHint);
    }
  }
  return state;
}

std::optional<fs::path> find_latest_checkpoint(const fs::path& run, const Warn& warn) {
  for (const Candidate& c : candidates(run)) {
    try {
      const CheckpointState state = read_manifest(c.path);
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
  CheckpointState state = read_manifest(folder);
  const SafetensorsFile model(folder / kModel), optimizer(folder / kOptimizer);
  std::vector<Target> weights, states;
  for (const Parameter& p : parameters.all()) {
    require(p.dtype == DType::f32, "checkpoints are loaded into fp32 weights only");
    weights.push_back({&p.name, p.shape, p.master});
  }
  for (const optim::StateTensor& s : optimizers.state_tensors())
    states.push_back({&s.name, {s.rows, s.cols}, s.data});
  check(model, weights);
  check(optimizer, states);
  copy(model, weights);
  copy(optimizer, states);
  parameters.bump_versions();
  return state;
}

void prune_checkpoints(const fs::path& run, int64_t keep, const Warn& warn) {
  require(keep >= 1, "at least one checkpoint must be kept");
  int64_t kept = 0;
  for (const Candidate& c : candidates(run)) {
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
