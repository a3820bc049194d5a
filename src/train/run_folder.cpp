#include "src/train/run_folder.h"

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/core/log.h"
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
  return line.size() > 2 && line.back() != ':' && std::sscanf(line.c_str(), "s:%lld ", &step) == 1 ? step : -1;
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

std::FILE* open_for_append(const fs::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "ae");
  if (!file) {
    throw Error(ExitCode::data, fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)),
                "check the permissions of the run folder (output.dir) and the space on its disk");
  }
  return file;
}

}  // namespace

bool RunFolder::occupied(const fs::path& path) { return fs::exists(path / kMetrics) || fs::exists(path / "checkpoints"); }

RunFolder::RunFolder(const config::Config& config, Mode mode, int64_t resume_step) : path_(config.output.dir) {
  std::error_code problem;
  fs::create_directories(path_, problem);
  if (problem) {
    throw Error(ExitCode::data, fmt::format("cannot create the run folder {}: {}", path_.string(), problem.message()),
                "choose another one with --set output.dir=...");
  }
  require(mode == Mode::resume || !occupied(path_), "a fresh run was given the folder of another");
  write_file_atomically(path_ / "config.json", config::to_json(config) + "\n");
  write_file_atomically(path_ / "versions.json", versions_json() + "\n");
  if (mode == Mode::resume) {
    keep_lines_up_to(path_ / kMetrics, resume_step, step_of_metrics_line);
    keep_lines_up_to(path_ / kMainLog, resume_step, step_of_main_log_line);
  }
  metrics_ = open_for_append(path_ / kMetrics);
  main_log_ = open_for_append(path_ / kMainLog);
}

RunFolder::~RunFolder() {
  if (metrics_) std::fclose(metrics_);
  if (main_log_) std::fclose(main_log_);
}

void RunFolder::write_line(std::FILE* file, const std::string& line) {
  const bool ok = std::fwrite(line.data(), 1, line.size(), file) == line.size() && std::fputc('\n', file) != EOF &&
                  std::fflush(file) == 0;
  if (ok) return;
  std::clearerr(file);
  if (!warned_) log_warning(fmt::format("cannot write a log in {}: {}; the run goes on", path_.string(), std::strerror(errno)));
  warned_ = true;
}

void RunFolder::record_step(const StepMetrics& m) {
  json line = {{"step", m.step}, {"tokens", m.tokens}, {"loss", m.loss}, {"lr", m.lr}, {"gradient_norm", m.gradient_norm},
               {"ms", m.ms}, {"tokens_per_second", m.tokens_per_second}, {"mfu", m.mfu}};
  if (m.skipped) line["skipped"] = true;
  write_line(metrics_, line.dump());
  write_line(main_log_, fmt::format("s:{} trl:{:.4f} lr:{:.6g} norm:{:.4f}", m.step, m.loss, m.lr, m.gradient_norm));
}

void RunFolder::record_validation(int64_t step, double loss, double unigram_entropy) {
  write_line(metrics_, json{{"step", step}, {"validation_loss", loss}, {"unigram_entropy", unigram_entropy}}.dump());
  write_line(main_log_, fmt::format("s:{} tel:{:.4f}", step, loss));
}

void RunFolder::record_metric(int64_t step, std::string_view name, double value) {
  write_line(metrics_, json{{"step", step}, {"metric", name}, {"value", value}}.dump());
}

void RunFolder::record_sample(int64_t step, const std::string& text) {
  const json line = {{"step", step}, {"sample", text}};
  write_line(metrics_, line.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace kiln::train
