#include "src/train/spectrum.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "kernels/matrix.h"
#include "kernels/table.h"
#include "optim/spectrum.h"
#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/log.h"
#include "src/core/safetensors.h"
#include "src/device/context.h"
#include "src/device/memory.h"
#include "src/device/scratch.h"
#include "src/train/checkpoint.h"
#include "src/train/checkpoint_folders.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

constexpr const char *kLeft = ".s_a", *kRight = ".s_b", *kMomentum = ".m";

constexpr const char* kForeignHint = "the file is not one that kiln wrote for KL-Shampoo";

// A factor inside a mapped file, and where its eigenvalues go.
struct Factor {
  const float* data;
  int64_t n, other;
  FactorSpectrum* result;
};

// The optimizer's file of a checkpoint, whose checksum holds.
SafetensorsFile checked_file(const fs::path& checkpoint) {
  const CheckpointFile file = read_manifest_file(checkpoint).optimizer;
  if (const std::string problem = file_problem(checkpoint, file, /*content=*/true); !problem.empty()) {
    throw Error(ExitCode::data, problem, "kiln inspect --verify says what of the run is whole");
  }
  return SafetensorsFile(checkpoint / file.name);
}

[[noreturn]] void refuse_optimizer(const fs::path& path, const std::string& name) {
  const char* has = name == "muon"             ? "keeps a momentum and no factors"
                    : name == "pro-kl-shampoo" ? "keeps the right factor on a subspace only"
                                               : "keeps squares of single gradients and no factors";
  throw Error(ExitCode::usage, fmt::format("{} is a checkpoint of {}, which {}", path.string(), name, has),
              "spectra are those of KL-Shampoo: train with optimizer.name=kl-shampoo, as "
              "configs/*/kl-shampoo.json do");
}

config::Config config_of(const fs::path& checkpoint, const std::vector<std::string>& overrides) {
  const CheckpointState state = read_manifest_file(checkpoint).state;
  const config::Config config =
      config::parse(state.config_json, checkpoint / "config", overrides, config::no_files());
  if (config.optimizer.name != "kl-shampoo") refuse_optimizer(checkpoint, config.optimizer.name);
  return config;
}

const float* numbers(const SafetensorsFile& file, const std::string& name, int64_t rows, int64_t cols) {
  const auto fail = [&](const std::string& what) {
    throw Error(ExitCode::data, fmt::format("{}: tensor {} {}", file.path().string(), name, what),
                kForeignHint);
  };
  if (!file.contains(name)) fail("is missing");
  const TensorView& view = file.tensor(name);
  if (view.type != TensorType::f32 || view.shape != Shape{rows, cols}) {
    fail(
        fmt::format("is {} {}, expected F32 {} x {}", name_of(view.type), to_string(view.shape), rows, cols));
  }
  if (reinterpret_cast<uintptr_t>(view.bytes.data()) % alignof(float) != 0) fail("is not aligned");
  return reinterpret_cast<const float*>(view.bytes.data());
}

bool is_wanted(const std::string& name, const std::vector<std::string>& parts) {
  return parts.empty() || std::any_of(parts.begin(), parts.end(),
                                      [&](const auto& p) { return name.find(p) != std::string::npos; });
}

// The matrices of a file, their factors not yet decomposed.
std::vector<MatrixSpectrum> matrices_in(const SafetensorsFile& file, const std::vector<std::string>& parts) {
  std::vector<MatrixSpectrum> found;
  for (const std::string& full : file.names()) {
    if (!full.ends_with(kRight)) continue;
    const std::string name = full.substr(0, full.size() - std::string_view(kRight).size());
    if (!is_wanted(name, parts)) continue;
    if (!file.contains(name + kMomentum)) {
      throw Error(ExitCode::data,
                  fmt::format("{}: {} has a factor and no momentum", file.path().string(), name),
                  kForeignHint);
    }
    const Shape& shape = file.tensor(name + kMomentum).shape;
    if (shape.size() != 2) {
      throw Error(ExitCode::data, fmt::format("{}: {} is no matrix", file.path().string(), name + kMomentum),
                  kForeignHint);
    }
    found.push_back({name, shape[0], shape[1], {}, {}});
  }
  return found;
}

// Decomposes factors of any sizes, those of one size together.
class Decomposer {
 public:
  Decomposer(const config::DeviceOptions& options, int64_t largest)
      : device_(cpu_device(static_cast<int>(options.threads), options.isa)), pool_(device_.threads) {
    context_.device = device_;
    DryRun record;
    context_.dry_run = &record;
    decompose(std::vector<Factor>(static_cast<size_t>(device_.threads), {nullptr, largest, 1, nullptr}), 0);
    context_.dry_run = nullptr;
    Plan plan;
    const BufferId workspace = plan.add("workspace", Category::workspace, record.workspace_bytes);
    require_memory(plan.layout(), device_);
    arena_.emplace(plan, ArenaMode::slab, device_);
    context_.pool = &pool_;
    context_.workspace = Workspace(arena_->at<void>(workspace), record.workspace_bytes);
  }

  void run(std::vector<Factor> factors, int64_t rank, const std::function<void(int64_t)>& progress) {
    std::stable_sort(factors.begin(), factors.end(),
                     [](const Factor& a, const Factor& b) { return a.n > b.n; });
    for (size_t next = 0; next < factors.size();) {
      std::vector<Factor> together;
      while (next < factors.size() && together.size() < static_cast<size_t>(device_.threads) &&
             (together.empty() || factors[next].n == together.front().n)) {
        together.push_back(factors[next++]);
      }
      decompose(together, rank);
      progress(static_cast<int64_t>(together.size()));
    }
  }

 private:
  // In a dry run the factors have sizes alone.
  void decompose(const std::vector<Factor>& factors, int64_t rank) {
    const int64_t n = factors.front().n;
    const auto count = static_cast<int64_t>(factors.size());
    Scratch scratch(context_);
    kernels::Matrices vectors = scratch.matrices(count, n * n), values = scratch.matrices(count, n);
    auto* status = scratch.take<int32_t>(count);
    std::vector<const float*> in;
    for (const Factor& f : factors) in.push_back(f.data);
    kernels::matrix_eigen(
        context_,
        {.vectors = vectors, .values = values, .s = in.data(), .count = count, .n = n, .status = status});
    for (int64_t k = 0; !context_.dry_run && k < count; k++) {
      const Factor& f = factors[static_cast<size_t>(k)];
      std::vector<float> descending(values[k], values[k] + n);
      std::reverse(descending.begin(), descending.end());
      *f.result = describe_spectrum(std::move(descending), f.other, rank);
      f.result->decomposed = status[k] != kernels::kFailed;
    }
  }

  Device device_;
  ThreadPool pool_;
  std::optional<Arena> arena_;
  Context context_;
};

struct Source {
  fs::path path;
  int64_t step;
};

// Rising steps.
std::vector<Source> sources_in(const fs::path& path) {
  if (is_checkpoint(path)) return {{path, read_manifest_file(path).state.step}};
  std::vector<Source> sources;
  for (const Candidate& c : candidates(path)) {
    if (!c.replaced) sources.push_back({c.path, c.step});
  }
  std::reverse(sources.begin(), sources.end());
  if (sources.empty()) {
    throw Error(ExitCode::data, fmt::format("there is no checkpoint in {}", path.string()),
                "a run writes one at its end, and every checkpoint.every steps");
  }
  return sources;
}

CheckpointSpectrum spectrum_of(const Source& source, int64_t rank, const config::DeviceOptions& device,
                               const SpectrumOptions& options) {
  const SafetensorsFile file = checked_file(source.path);
  CheckpointSpectrum result{source.path, source.step, matrices_in(file, options.matrices)};
  if (result.matrices.empty() && options.matrices.empty()) {
    throw Error(ExitCode::data, fmt::format("{}: there are no factors in it", file.path().string()),
                kForeignHint);
  }
  if (result.matrices.empty()) {
    throw Error(ExitCode::usage, fmt::format("{}: no matrix has such a name", source.path.string()),
                "kiln inspect lists the names; a part of one will do: --matrix mlp");
  }
  std::vector<Factor> factors;
  int64_t largest = 0;
  for (MatrixSpectrum& m : result.matrices) {
    factors.push_back({numbers(file, m.name + kLeft, m.rows, m.rows), m.rows, m.cols, &m.left});
    factors.push_back({numbers(file, m.name + kRight, m.cols, m.cols), m.cols, m.rows, &m.right});
    largest = std::max({largest, m.rows, m.cols});
  }
  Decomposer decomposer(device, largest);
  int64_t done = 0;
  const auto total = static_cast<int64_t>(factors.size());
  decomposer.run(factors, rank, [&](int64_t more) {
    done += more;
    if (options.progress) options.progress(done, total, fmt::format("step {}", source.step));
  });
  return result;
}

}  // namespace

FactorSpectrum describe_spectrum(std::vector<float> descending, int64_t other, int64_t rank) {
  const auto n = static_cast<int64_t>(descending.size());
  FactorSpectrum f{.n = n, .other = other, .rank = std::min(rank, n), .values = std::move(descending)};
  const std::vector<float> ascending(f.values.rbegin(), f.values.rend());
  f.gap = optim::tail_gap(ascending.data(), n, f.rank);
  f.whole_gap = optim::tail_gap(ascending.data(), n, 0);
  f.price = static_cast<double>(other) * static_cast<double>(n - f.rank) / 2 * f.gap;
  double tail = 0;
  for (int64_t i = 0; i < n - f.rank; i++) tail += static_cast<double>(ascending[static_cast<size_t>(i)]);
  if (f.rank < n && tail > 0)
    f.spike = static_cast<double>(f.values.front()) / (tail / static_cast<double>(n - f.rank));
  f.flat_from = optim::flat_rank(ascending.data(), n, kFlatGap);
  return f;
}

std::string shape_of(const FactorSpectrum& factor) {
  if (!factor.decomposed) return "broken";
  if (factor.values.empty() || factor.values.front() <= 0) return "empty";
  if (factor.rank >= factor.n) return "no tail";
  if (factor.whole_gap <= kFlatGap) return "flat";
  return factor.gap <= kFlatGap ? "spikes+flat" : "not flat";
}

Spectra spectra_of(const fs::path& path, const SpectrumOptions& options) {
  const std::vector<Source> sources = sources_in(path);
  const bool is_run = !is_checkpoint(path);
  Spectra result{-1, {}};
  std::optional<Error> first;
  for (const Source& source : sources) {
    try {
      const config::Config config = config_of(source.path, options.overrides);
      if (result.rank < 0)
        result.rank = options.rank.value_or(config.metrics.tail_rank > 0 ? config.metrics.tail_rank : 128);
      result.checkpoints.push_back(spectrum_of(source, result.rank, config.device, options));
    } catch (const Error& e) {
      if (!is_run || e.code() != ExitCode::data) throw;
      if (!first) first = e;
      log_warning(fmt::format("passing over a checkpoint: {}", e.what()));
    }
  }
  if (result.checkpoints.empty()) throw *first;
  return result;
}

}  // namespace kiln::train
