#include "src/train/replay.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "optim/gradient_norm.h"
#include "optim/optimizer_set.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/safetensors.h"
#include "src/plan/optimizers.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

std::string gradient_name(const std::string& name, int64_t step) {
  return fmt::format("{}.grad.{:06}", name, step);
}

class Replay {
 public:
  Replay(const config::Optimizer& optimizer, const config::DeviceOptions& options, const fs::path& path)
      : file_(path),
        device_(cpu_device(static_cast<int>(options.threads), options.isa)),
        pool_(device_.threads),
        table_(parameters()),
        optimizers_(plan::route(table_, optimizer, device_)) {
    table_.plan(plan_, DType::f32, /*gradients=*/true);
    optimizers_.plan(plan_);
    norm_.plan(plan_, table_);
    DryRun record;
    context_.device = device_;
    context_.dry_run = &record;
    norm_.compute(context_, table_);
    optimizers_.step(context_, {.t = 1, .lr_multiplier = 1, .gradient_scale = 1});
    context_.dry_run = nullptr;
    const BufferId workspace = plan_.add("workspace", Category::workspace, record.workspace_bytes);
    arena_.emplace(plan_, ArenaMode::slab, device_);
    table_.bind(*arena_);
    optimizers_.bind(*arena_);
    norm_.bind(*arena_);
    context_.pool = &pool_;
    context_.workspace = Workspace(arena_->at<void>(workspace), record.workspace_bytes);
    for (Parameter& p : table_.all()) copy(p.name + ".param", p, p.master);
  }

  ReplayResult run(const fs::path& output) {
    ReplayResult result{static_cast<int64_t>(table_.all().size()), steps_, 0};
    std::vector<std::vector<float>> history;  // by step, then parameter
    int64_t t = 0;
    for (int64_t step = 1; step <= steps_; step++) {
      for (Parameter& p : table_.all()) copy(gradient_name(p.name, step), p, p.gradient);
      if (std::isfinite(norm_.compute(context_, table_))) {
        optimizers_.step(context_, {.t = ++t, .lr_multiplier = 1, .gradient_scale = 1});
        table_.bump_versions();
      } else {
        result.skipped++;
      }
      for (const Parameter& p : table_.all()) history.emplace_back(p.master, p.master + p.elements());
    }
    write(output, history);
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& what, const char* hint) const {
    throw Error(ExitCode::data, fmt::format("{}: {}", file_.path().string(), what), hint);
  }

  ParameterTable parameters() {
    constexpr std::string_view kParam = ".param";
    ParameterTable table;
    for (const std::string& full : file_.names()) {
      if (!full.ends_with(kParam)) continue;
      const std::string name = full.substr(0, full.size() - kParam.size());
      const Shape& shape = file_.tensor(full).shape;
      if (shape.empty() || shape.size() > 2 || element_count(shape) == 0) {
        fail(fmt::format("{} has the shape \"{}\"", full, to_string(shape)),
             "parameters are vectors or matrices");
      }
      table.add(name, shape, shape.size() == 2 ? ParameterKind::matrix : ParameterKind::norm);
      int64_t steps = 0;
      while (file_.contains(gradient_name(name, steps + 1))) steps++;
      if (table.all().size() > 1 && steps != steps_) {
        fail(fmt::format("{} has {} gradients, an earlier parameter {}", name, steps, steps_),
             "every parameter needs NAME.grad.000001, NAME.grad.000002, ... for the same steps");
      }
      steps_ = steps;
    }
    if (table.all().empty()) fail("there is no tensor NAME.param", "see kiln replay --help");
    if (steps_ == 0) fail("there are no gradients", "name them NAME.grad.000001, NAME.grad.000002, ...");
    const size_t known = table.all().size() * static_cast<size_t>(1 + steps_);
    if (file_.names().size() != known) {
      fail(fmt::format("holds {} tensors, of which {} are parameters and their gradients",
                       file_.names().size(), known),
           "names are NAME.param and NAME.grad.000001, ...; are numbers missing in between?");
    }
    return table;
  }

  void copy(const std::string& name, const Parameter& p, float* to) const {
    const TensorView& view = file_.tensor(name);
    if (view.type != TensorType::f32 || view.shape != p.shape) {
      fail(fmt::format("{} is {} {}, expected F32 {}", name, name_of(view.type), to_string(view.shape),
                       to_string(p.shape)),
           "gradients have the shape of their parameter");
    }
    std::memcpy(to, view.bytes.data(), view.bytes.size());
  }

  void write(const fs::path& output, const std::vector<std::vector<float>>& history) const {
    std::vector<TensorSource> tensors;
    const size_t count = table_.all().size();
    for (size_t i = 0; i < history.size(); i++) {
      const Parameter& p = table_.all()[i % count];
      tensors.push_back({fmt::format("{}.param.{:06}", p.name, i / count + 1), TensorType::f32, p.shape,
                         history[i].data()});
    }
    for (const optim::StateTensor& s : optimizers_.state_tensors()) {
      tensors.push_back({s.name, TensorType::f32, {s.rows, s.cols}, s.data});
    }
    const fs::path unfinished = output.string() + ".tmp";
    write_safetensors(unfinished, tensors, {.metadata = {}, .sync = true});
    fs::rename(unfinished, output);
  }

  SafetensorsFile file_;
  int64_t steps_ = 0;
  Device device_;
  ThreadPool pool_;
  ParameterTable table_;
  optim::OptimizerSet optimizers_;
  optim::GradientNorm norm_;
  Plan plan_;
  std::optional<Arena> arena_;
  Context context_;
};

}  // namespace

ReplayResult replay(const config::Optimizer& optimizer, const config::DeviceOptions& device,
                    const fs::path& tensors, const fs::path& output, bool overwrite) {
  if (fs::exists(output) && !overwrite) {
    throw Error(ExitCode::usage, fmt::format("{} exists already", output.string()),
                "--overwrite replaces it");
  }
  Replay run(optimizer, device, tensors);
  return run.run(output);
}

}  // namespace kiln::train
