#include "src/train/run_folder.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/log.h"
#include "src/train/run_lock.h"
#include "src/train/versions.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kMainLog = "main.log";
constexpr const char* kConfig = "config.json";

// The step a log line belongs to; -1 for a line that cannot be read (the last one of a run that was killed).
int64_t step_of_metrics_line(const std::string& line) {
  const json object = json::parse(line, nullptr, false);
  return object.is_object() && object.contains("step") && object["step"].is_number_integer()
             ? object["step"].get<int64_t>()
             : -1;
}

int64_t step_of_main_log_line(const std::string& line) {
  long long step = -1;
  return line.size() > 2 && line.back() != ':' && std::sscanf(line.c_str(), "s:%lld ", &step) == 1 ? step
                                                                                                   : -1;
}

// Steps of which a log that should have every one has no line, as "3, 7 to 9".
class Gaps {
 public:
  void saw(int64_t step) {
    add(next_, step - 1);
    next_ = step + 1;
  }
  std::string up_to(int64_t last_step) {
    add(next_, last_step);
    return count_ > kMostRanges ? fmt::format("{} and {} more ranges", text_, count_ - kMostRanges) : text_;
  }

 private:
  static constexpr int kMostRanges = 5;

  void add(int64_t first, int64_t last) {
    if (first > last || ++count_ > kMostRanges) return;
    if (!text_.empty()) text_ += ", ";
    text_ += first == last ? fmt::format("{}", first) : fmt::format("{} to {}", first, last);
  }

  int64_t next_ = 1;
  int count_ = 0;
  std::string text_;
};

// Visits the lines that stay; returns those of `last_step` itself.
template <class StepOf, class Visit>
std::string keep_lines_up_to(const fs::path& path, int64_t last_step, StepOf step_of, Visit visit) {
  std::string last;
  if (!fs::exists(path)) return last;
  const std::string content = read_file(path);
  std::string kept;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = content.find('\n', begin);
    if (end == std::string::npos) break;  // cut off in the middle
    const std::string line = content.substr(begin, end - begin);
    const int64_t step = step_of(line);
    if (step >= 0 && step <= last_step) {
      kept += line + "\n";
      visit(step, line);
    }
    if (step == last_step) last += line + "\n";
    begin = end + 1;
  }
  if (kept.size() != content.size()) write_file_atomically(path, kept);
  return last;
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
  write_file_atomically(path_ / "versions.json", versions_json() + "\n");
  if (mode == Mode::resume) {
    Gaps gaps;
    const auto look = [&](int64_t step, const std::string& line) {
      if (line.find("\"loss\":") != std::string::npos) gaps.saw(step);
    };
    const std::string last = keep_lines_up_to(path_ / kMetrics, resume_step, step_of_metrics_line, look);
    if (const std::string missing = gaps.up_to(resume_step); !missing.empty()) {
      log_warning(
          fmt::format("{} has no lines of steps {}, which the run has taken: they stay missing there, the "
                      "checkpoint of step {} holds what they did",
                      (path_ / kMetrics).string(), missing, resume_step));
    }
    validation_logged_ = last.find("\"validation_loss\"") != std::string::npos;
    sample_logged_ = last.find("\"sample\"") != std::string::npos;
    keep_lines_up_to(path_ / kMainLog, resume_step, step_of_main_log_line,
                     [](int64_t, const std::string&) {});
  }
  metrics_.emplace(path_ / kMetrics);
  main_log_.emplace(path_ / kMainLog);
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
