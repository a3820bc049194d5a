// A metrics.jsonl of any bytes is read: lines that no run can have written are counted and passed over, and with what is
// left kiln inspect and kiln compare can compute.
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "src/config/schema.h"
#include "src/train/metrics_log.h"
#include "src/train/plot.h"
#include "tests/fuzz/memory_file.h"

namespace {

using namespace kiln::train;

void expect(bool holds) {
  if (!holds) std::abort();
}

bool is_time(double ms) {
  return std::isnan(ms) || (ms >= 0 && ms <= 1e12);
}

void look_at_records(const MetricsLog& log) {
  static const auto most = static_cast<int64_t>(kiln::config::find_key("train.steps")->range.max);
  int64_t step = 0, tokens = 0;
  double seconds = 0;
  for (const LoggedStep& s : log.steps) {
    expect(s.step > step && s.step <= most && s.tokens >= tokens && s.seconds >= seconds &&
           std::isfinite(s.seconds));
    expect(is_time(s.ms) && is_time(s.optimizer_ms));
    step = s.step;
    tokens = s.tokens;
    seconds = s.seconds;
  }
  step = tokens = 0;
  seconds = 0;
  for (const LoggedValidation& v : log.validations) {
    expect(v.step > step && v.step <= most && v.tokens >= tokens && v.seconds >= seconds &&
           std::isfinite(v.seconds));
    step = v.step;
    tokens = v.tokens;
    seconds = v.seconds;
  }
  expect(log.run_steps >= 0 && log.run_steps <= most && log.last_sample >= 0 && log.last_sample <= most);
  int64_t missing = 0, before = 0;
  for (const auto& [first, last] : gaps_up_to(log, log.steps.empty() ? 0 : log.steps.back().step)) {
    expect(first > before && last >= first);
    missing += last - first + 1;
    before = last;
  }
  expect(missing == log.missing_steps);
  expect((log.broken_lines > 0) == (log.first_broken_line > 0));
}

void look_at_figures(const MetricsLog& log) {
  const double share = optimizer_share(log), median = median_ms(log);
  expect(std::isnan(share) || (share >= 0 && std::isfinite(share)));
  expect(median >= 0 && median <= 1e12);
  const LoggedValidation* best = best_validation(log);
  expect(!best || std::isfinite(best->loss));
  Curve losses{'A', {}}, rates{'B', {}};
  for (const LoggedStep& s : log.steps) {
    losses.points.emplace_back(static_cast<double>(s.step), s.loss);
    rates.points.emplace_back(s.seconds, s.lr);
  }
  const std::string picture = plot({losses, rates}, 7, 30);
  expect(picture.empty() || std::count(picture.begin(), picture.end(), '\n') == 9);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kiln::fuzz::MemoryFile file(data, size);
  const MetricsLog log = read_metrics_log(file.path());
  look_at_records(log);
  look_at_figures(log);
  int64_t broken = 0;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
    broken += !step_of_metrics_line(rest.substr(0, end));
  }
  expect(broken <= log.broken_lines && log.torn == !rest.empty());
  return 0;
}
