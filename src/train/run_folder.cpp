#include "src/train/run_folder.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/versions.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kMainLog = "main.log";

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

template <class StepOf>
void keep_lines_up_to(const fs::path& path, int64_t last_step, StepOf step_of) {
  if (!fs::exists(path)) return;
  const std::string content = read_file(path);
  std::string kept;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = content.find('\n', begin);
    if (end == std::string::npos) break;  // cut off in the middle
    const std::string line = content.substr(begin, end - begin);
    const int64_t step = step_of(line);
    if (step >= 0 && step <= last_step) kept += line + "\n";
    begin = end + 1;
  }
  if (kept.size() != content.size()) write_file_atomically(path, kept);
}

}  // namespace

bool RunFolder::occupied(const fs::path& path) {
  return fs::exists(path / kMetrics) || fs::exists(path / "checkpoints");
}

RunFolder::RunFolder(const config::Config& config, Mode mode, int64_t resume_step)
    : path_(config.output.dir) {
  std::error_code problem;
  fs::create_directories(path_, problem);
  if (problem) {
    throw Error(ExitCode::data,
                fmt::format("cannot create the run folder {}: {}", path_.string(), problem.message()),
                "choose another one with --set output.dir=...");
  }
  require(mode == Mode::resume || !occupied(path_), "a fresh run was given the folder of another");
  write_file_atomically(path_ / "config.json", config::to_json(config) + "\n");
  write_file_atomically(path_ / "versions.json", versions_json() + "\n");
  if (mode == Mode::resume) {
    keep_lines_up_to(path_ / kMetrics, resume_step, step_of_metrics_line);
    keep_lines_up_to(path_ / kMainLog, resume_step, step_of_main_log_line);
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
  metrics_->write(line.dump());
  main_log_->write(
      fmt::format("s:{} trl:{:.4f} lr:{:.6g} norm:{:.4f}", m.step, m.loss, m.lr, m.gradient_norm));
}

void RunFolder::record_validation(int64_t step, double loss, double unigram_entropy) {
  metrics_->write(
      json{{"step", step}, {"validation_loss", loss}, {"unigram_entropy", unigram_entropy}}.dump());
  main_log_->write(fmt::format("s:{} tel:{:.4f}", step, loss));
}

void RunFolder::record_sample(int64_t step, const std::string& text) {
  const json line = {{"step", step}, {"sample", text}};
  metrics_->write(line.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace kiln::train
