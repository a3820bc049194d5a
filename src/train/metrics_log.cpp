#include "src/train/metrics_log.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "src/core/file.h"

namespace kiln::train {
namespace {

using nlohmann::json;

// NaN for what is missing, null (how JSON has to write what is not finite) or no number.
double number(const json& line, const char* key) {
  const auto it = line.find(key);
  return it != line.end() && it->is_number() ? it->get<double>() : std::numeric_limits<double>::quiet_NaN();
}

class Collector {
 public:
  MetricsLog log;

  void line(std::string_view text) {
    lines_++;
    const json record = json::parse(text, nullptr, /*allow_exceptions=*/false);
    const auto step = record.is_object() ? record.find("step") : record.end();
    if (!record.is_object() || step == record.end() || !step->is_number_integer()) {
      if (log.broken_lines++ == 0) log.first_broken_line = lines_;
      return;
    }
    if (record.contains("loss")) {
      add_step(step->get<int64_t>(), record);
    } else if (record.contains("validation_loss")) {
      add_validation(step->get<int64_t>(), record);
    } else if (const auto name = record.find("metric"); name != record.end() && name->is_string()) {
      add_metric(name->get_ref<const std::string&>(), number(record, "value"));
    }
  }

  void finish() {
    for (size_t i = 0; i < std::min(reported_steps_, log.steps.size()); i++)
      log.reported_ms += log.steps[i].ms;
  }

 private:
  void add_step(int64_t step, const json& record) {
    if (!log.steps.empty() && step <= log.steps.back().step) rewind(step);
    const int64_t last = log.steps.empty() ? step - 1 : log.steps.back().step;
    log.missing_steps += step - last - 1;
    const double ms = number(record, "ms"), before = log.steps.empty() ? 0 : log.steps.back().seconds;
    const auto tokens = number(record, "tokens");
    log.steps.push_back({.step = step,
                         .tokens = std::isfinite(tokens) ? static_cast<int64_t>(tokens) : 0,
                         .loss = number(record, "loss"),
                         .lr = number(record, "lr"),
                         .gradient_norm = number(record, "gradient_norm"),
                         .ms = ms,
                         .mfu = number(record, "mfu"),
                         .seconds = before + (std::isfinite(ms) ? ms * 1e-3 : 0),
                         .skipped = record.contains("skipped")});
  }

  // The lines of a step and of all after it count no more.
  void rewind(int64_t step) {
    log.rewound++;
    while (!log.steps.empty() && log.steps.back().step >= step) log.steps.pop_back();
    while (!log.validations.empty() && log.validations.back().step >= step) log.validations.pop_back();
  }

  void add_validation(int64_t step, const json& record) {
    while (!log.validations.empty() && log.validations.back().step >= step) log.validations.pop_back();
    const bool any = !log.steps.empty();
    log.validations.push_back({.step = step,
                               .tokens = any ? log.steps.back().tokens : 0,
                               .loss = number(record, "validation_loss"),
                               .unigram_entropy = number(record, "unigram_entropy"),
                               .seconds = any ? log.steps.back().seconds : 0});
  }

  // A report, which comes right before the line of its step, covers the steps since the one before it.
  void add_metric(const std::string& name, double value) {
    if (!name.ends_with("_ms") || !std::isfinite(value)) return;
    log.optimizer_ms += value;
    reported_steps_ = log.steps.size() + 1;
  }

  int64_t lines_ = 0;
  size_t reported_steps_ = 0;
};

}  // namespace

MetricsLog read_metrics_log(const std::filesystem::path& path) {
  Collector collector;
  std::string rest;  // of a line that a piece ended in
  read_pieces(path, [&](std::string_view piece) {
    for (size_t end; (end = piece.find('\n')) != std::string_view::npos; piece.remove_prefix(end + 1)) {
      if (rest.empty()) {
        collector.line(piece.substr(0, end));
      } else {
        collector.line(rest.append(piece.substr(0, end)));
        rest.clear();
      }
    }
    rest.append(piece);
  });
  collector.log.torn = !rest.empty();
  collector.finish();
  return std::move(collector.log);
}

double median_ms(const MetricsLog& log) {
  std::vector<double> times;
  for (const LoggedStep& s : log.steps) {
    if (std::isfinite(s.ms)) times.push_back(s.ms);
  }
  if (times.empty()) return 0;
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  if (times.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(times.begin(), middle)) / 2;
}

const LoggedValidation* best_validation(const MetricsLog& log) {
  const LoggedValidation* best = nullptr;
  for (const LoggedValidation& v : log.validations) {
    if (std::isfinite(v.loss) && (!best || v.loss < best->loss)) best = &v;
  }
  return best;
}

double optimizer_share(const MetricsLog& log) {
  return log.optimizer_ms > 0 && log.reported_ms > 0 ? log.optimizer_ms / log.reported_ms
                                                     : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace kiln::train
