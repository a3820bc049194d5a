#include "src/train/run_folder.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/log.h"
#include "src/train/metrics_log.h"
#include "src/train/run_lock.h"
#include "src/train/versions.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kMainLog = "main.log";
constexpr const char* kConfig = "config.json";
constexpr const char* kVersions = "versions.json";

// None for what cannot be read (the last line of a run that was killed).
std::optional<int64_t> step_of_main_log_line(const std::string& line) {
  long long step = -1;
  const bool whole =
      line.size() > 2 && line.back() != ':' && std::sscanf(line.c_str(), "s:%lld ", &step) == 1;
  return whole ? std::optional<int64_t>(step) : std::nullopt;
}

// "3, 7 to 9"
std::string ranges_text(const std::vector<std::pair<int64_t, int64_t>>& ranges) {
  constexpr size_t kMost = 5;
  std::string text;
  for (size_t i = 0; i < std::min(ranges.size(), kMost); i++) {
    const auto& [first, last] = ranges[i];
    text += i == 0 ? "" : ", ";
    text += first == last ? fmt::format("{}", first) : fmt::format("{} to {}", first, last);
  }
  return ranges.size() > kMost ? fmt::format("{} and {} more ranges", text, ranges.size() - kMost) : text;
}

// Nothing of a run that begins anew stays (last_step 0).
template <class StepOf>
void keep_lines_up_to(const fs::path& path, int64_t last_step, StepOf step_of) {
  if (!fs::exists(path)) return;
  const std::string content = read_file(path);
  std::string kept;
  for (size_t begin = 0; last_step > 0 && begin < content.size();) {
    const size_t end = content.find('\n', begin);
    if (end == std::string::npos) break;  // cut off in the middle
    const std::string line = content.substr(begin, end - begin);
    const std::optional<int64_t> step = step_of(line);
    if (step && *step >= 0 && *step <= last_step) kept += line + "\n";
    begin = end + 1;
  }
  if (kept.size() != content.size()) write_file_atomically(path, kept);
}

}  // namespace

bool RunFolder::occupied(const fs::path& path) {
  std::error_code not_there;
  for (const auto& entry : fs::directory_iterator(path, not_there)) {
    if (entry.path().filename() != RunLock::kFile) return true;
  }
  return false;
}

bool RunFolder::holds_run(const fs::path& path) {
  return fs::exists(path / kMetrics) || fs::exists(path / kMainLog) || fs::exists(path / "checkpoints");
}

bool RunFolder::holds_beginning(const fs::path& path) {
  std::error_code not_there;
  for (const auto& entry : fs::directory_iterator(path, not_there)) {
    const std::string name = entry.path().filename().string();
    if (name == kConfig && read_file(entry.path()).find("\"optimizer\"") == std::string::npos) return false;
    if (name != RunLock::kFile && name != kConfig && name != fmt::format("{}.tmp", kConfig) &&
        name != kVersions && name != fmt::format("{}.tmp", kVersions)) {
      return false;
    }
  }
  return true;
}

RunFolder::RunFolder(const config::Config& config, Mode mode, int64_t resume_step)
    : path_(config.output.dir) {
  fs::create_directories(path_);
  require(mode == Mode::resume || !occupied(path_), "a fresh run was given the folder of another");
  const std::string resolved = config::to_json(config) + "\n";
  if (const fs::path path = path_ / kConfig;
      mode == Mode::resume && fs::exists(path) && read_file(path) != resolved) {
    fs::rename(path, path_ / fmt::format("config_until_step_{}.json", resume_step));
  }
  write_file_atomically(path_ / kConfig, resolved);
  write_file_atomically(path_ / kVersions, versions_json() + "\n");
  if (mode == Mode::resume) {
    keep_lines_up_to(path_ / kMetrics, resume_step, step_of_metrics_line);
    keep_lines_up_to(path_ / kMainLog, resume_step, step_of_main_log_line);
    look_at_log(resume_step);
  }
  metrics_.emplace(path_ / kMetrics);
  main_log_.emplace(path_ / kMainLog);
}

void RunFolder::look_at_log(int64_t resume_step) {
  const fs::path path = path_ / kMetrics;
  const MetricsLog log = fs::exists(path) ? read_metrics_log(path) : MetricsLog();
  if (const auto missing = gaps_up_to(log, resume_step); !missing.empty()) {
    log_warning(
        fmt::format("{} has no lines of steps {}, which the run has taken: they stay missing there, the "
                    "checkpoint of step {} holds what they did",
                    path.string(), ranges_text(missing), resume_step));
  }
  said_steps_ = log.run_steps;
  validation_logged_ = !log.validations.empty() && log.validations.back().step == resume_step;
  sample_logged_ = resume_step > 0 && log.last_sample == resume_step;
  resume_step_ = resume_step;
}

void RunFolder::record_start(int64_t run_steps, double ceiling_gflops) {
  if (said_steps_ == run_steps) return;
  metrics_->write(
      json{{"step", resume_step_}, {"run_steps", run_steps}, {"ceiling_gflops", ceiling_gflops}}.dump());
}

void RunFolder::sync() {
  metrics_->sync();
  main_log_->sync();
}

void RunFolder::record_step(const StepMetrics& m) {
  json line = {{"step", m.step},
               {"tokens", m.tokens},
               {"loss", m.loss},
               {"lr", m.lr},
               {"gradient_norm", m.gradient_norm},
               {"ms", m.ms},
               {"optimizer_ms", m.optimizer_ms},
               {"tokens_per_second", m.tokens_per_second},
               {"mfu", m.mfu}};
  if (m.skipped) line["skipped"] = true;
  if (m.skipped) line["reason"] = m.reason;
  if (std::isfinite(m.loss_deviations)) line["loss_deviations"] = m.loss_deviations;
  if (std::isfinite(m.norm_deviations)) line["gradient_norm_deviations"] = m.norm_deviations;
  metrics_->write(line.dump());
  main_log_->write(
      fmt::format("s:{} trl:{:.4f} lr:{:.6g} norm:{:.4f}", m.step, m.loss, m.lr, m.gradient_norm));
}

void RunFolder::record_validation(int64_t step, double loss, double unigram_entropy) {
  metrics_->write(
      json{{"step", step}, {"validation_loss", loss}, {"unigram_entropy", unigram_entropy}}.dump());
  main_log_->write(fmt::format("s:{} tel:{:.4f}", step, loss));
}

void RunFolder::record_metric(int64_t step, std::string_view name, double value) {
  metrics_->write(json{{"step", step}, {"metric", name}, {"value", value}}.dump());
}

void RunFolder::record_sample(int64_t step, const std::string& text) {
  const json line = {{"step", step}, {"sample", text}};
  metrics_->write(line.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace kiln::train
