#include "src/train/metrics_log.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "src/config/schema.h"
#include "src/core/file.h"
#include "src/train/median.h"

namespace kiln::train {
namespace {

constexpr double kNotANumber = std::numeric_limits<double>::quiet_NaN();
constexpr double kLongestStep =
    1e12;  // ms, thirty years; as many as the longest run has are an int64 of seconds

int64_t most_steps() {
  static const auto most = static_cast<int64_t>(config::find_key("train.steps")->range.max);
  return most;
}

// NaN for what is missing, null (how JSON has to write what is not finite) or no number.
double number(const nlohmann::json& line, const char* key) {
  const auto it = line.find(key);
  return it != line.end() && it->is_number() ? it->get<double>() : kNotANumber;
}

double time(const nlohmann::json& line, const char* key) {
  const double ms = number(line, key);
  return ms >= 0 && ms <= kLongestStep ? ms : kNotANumber;
}

// None: it is no whole number from `least` to `most`.
std::optional<int64_t> whole_number(const nlohmann::json& line, const char* key, int64_t least,
                                    int64_t most) {
  const auto it = line.find(key);
  if (it == line.end() || !it->is_number_unsigned()) return std::nullopt;
  const auto value = it->get<uint64_t>();
  if (value < static_cast<uint64_t>(least) || value > static_cast<uint64_t>(most)) return std::nullopt;
  return static_cast<int64_t>(value);
}

enum class Kind { start, step, validation, sample, metric, other };

struct Line {
  Kind kind;
  int64_t step;
  nlohmann::json record;
};

std::optional<Line> parse(std::string_view text) {
  nlohmann::json record = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!record.is_object()) return std::nullopt;
  const Kind kind = record.contains("loss")              ? Kind::step
                    : record.contains("validation_loss") ? Kind::validation
                    : record.contains("sample")          ? Kind::sample
                    : record.contains("run_steps")       ? Kind::start
                    : record.contains("metric")          ? Kind::metric
                                                         : Kind::other;
  const auto step = whole_number(record, "step", kind == Kind::start ? 0 : 1, most_steps());
  if (!step) return std::nullopt;
  if (kind == Kind::step && !whole_number(record, "tokens", 0, std::numeric_limits<int64_t>::max()))
    return std::nullopt;
  if (kind == Kind::start && !whole_number(record, "run_steps", 1, most_steps())) return std::nullopt;
  return Line{kind, *step, std::move(record)};
}

class Collector {
 public:
  MetricsLog log;

  void line(std::string_view text) {
    lines_++;
    const std::optional<Line> line = parse(text);
    if ((!line || !take(*line)) && log.broken_lines++ == 0) log.first_broken_line = lines_;
  }

 private:
  // False: the line cannot stand where it does.
  bool take(const Line& line) {
    if (line.kind == Kind::step) return add_step(line.step, line.record);
    if (line.kind == Kind::validation) return add_validation(line.step, line.record);
    if (line.kind == Kind::start) log.run_steps = line.record["run_steps"].get<int64_t>();
    if (line.kind == Kind::sample) log.last_sample = line.step;
    if (line.kind == Kind::metric) add_metric(line.step, line.record);
    return true;
  }

  // Comes before the line of its step.
  void add_metric(int64_t step, const nlohmann::json& record) {
    const auto name = record.find("metric");
    if (!name->is_string() || !name->get_ref<const std::string&>().ends_with(".tail_report_seconds")) return;
    const double seconds = number(record, "value");
    if (step != tail_step_) tail_ms_ = 0;
    tail_step_ = step;
    if (seconds >= 0 && seconds <= 1e-3 * kLongestStep) tail_ms_ += 1e3 * seconds;
  }

  bool add_step(int64_t step, const nlohmann::json& record) {
    const auto tokens = record["tokens"].get<int64_t>();
    const auto before = std::lower_bound(log.steps.begin(), log.steps.end(), step,
                                         [](const LoggedStep& s, int64_t x) { return s.step < x; });
    if (before != log.steps.begin() && std::prev(before)->tokens > tokens) return false;
    if (before != log.steps.end()) rewind(step);
    const double optimizer_ms = time(record, "optimizer_ms");
    const double tail_ms = step == tail_step_ && tail_ms_ <= optimizer_ms ? tail_ms_ : 0;
    tail_ms_ = 0;
    const double ms = time(record, "ms"), seconds = log.steps.empty() ? 0 : log.steps.back().seconds;
    log.steps.push_back({.step = step,
                         .tokens = tokens,
                         .loss = number(record, "loss"),
                         .lr = number(record, "lr"),
                         .gradient_norm = number(record, "gradient_norm"),
                         .ms = ms,
                         .mfu = number(record, "mfu"),
                         .seconds = seconds + (std::isfinite(ms) ? ms * 1e-3 : 0),
                         .skipped = record.contains("skipped"),
                         .optimizer_ms = optimizer_ms,
                         .tail_ms = tail_ms});
    return true;
  }

  // The lines of a step and of all after it count no more.
  void rewind(int64_t step) {
    log.rewound++;
    while (!log.steps.empty() && log.steps.back().step >= step) log.steps.pop_back();
    while (!log.validations.empty() && log.validations.back().step >= step) log.validations.pop_back();
    if (log.last_sample >= step) log.last_sample = 0;
  }

  // Comes after the line of its step, or that one is missing.
  bool add_validation(int64_t step, const nlohmann::json& record) {
    const bool any = !log.steps.empty();
    if (any && step < log.steps.back().step) return false;
    while (!log.validations.empty() && log.validations.back().step >= step) log.validations.pop_back();
    log.validations.push_back({.step = step,
                               .tokens = any ? log.steps.back().tokens : 0,
                               .loss = number(record, "validation_loss"),
                               .unigram_entropy = number(record, "unigram_entropy"),
                               .seconds = any ? log.steps.back().seconds : 0});
    return true;
  }

  int64_t lines_ = 0;
  int64_t tail_step_ = 0;
  double tail_ms_ = 0;
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
  MetricsLog log = std::move(collector.log);
  log.torn = !rest.empty();
  for (const auto& [first, last] : gaps_up_to(log, log.steps.empty() ? 0 : log.steps.back().step)) {
    log.missing_steps += last - first + 1;
  }
  return log;
}

std::optional<int64_t> step_of_metrics_line(std::string_view line) {
  const std::optional<Line> read = parse(line);
  return read ? std::optional(read->step) : std::nullopt;
}

std::vector<std::pair<int64_t, int64_t>> gaps_up_to(const MetricsLog& log, int64_t last) {
  std::vector<std::pair<int64_t, int64_t>> gaps;
  int64_t next = 1;
  for (const LoggedStep& s : log.steps) {
    if (s.step > last) break;
    if (s.step > next) gaps.emplace_back(next, s.step - 1);
    next = s.step + 1;
  }
  if (next <= last) gaps.emplace_back(next, last);
  return gaps;
}

int64_t whole_run(const std::optional<config::Config>& config, int64_t said) {
  return config && config->train.steps > 0 ? config->train.steps : said;
}

double median_ms(const MetricsLog& log) {
  std::vector<double> times;
  for (const LoggedStep& s : log.steps) {
    if (std::isfinite(s.ms)) times.push_back(s.ms);
  }
  return times.empty() ? 0 : median_of(std::move(times));
}

const LoggedValidation* best_validation(const MetricsLog& log) {
  const LoggedValidation* best = nullptr;
  for (const LoggedValidation& v : log.validations) {
    if (std::isfinite(v.loss) && (!best || v.loss < best->loss)) best = &v;
  }
  return best;
}

double optimizer_share(const MetricsLog& log) {
  double updates = 0, steps = 0;
  for (const LoggedStep& s : log.steps) {
    if (!std::isfinite(s.optimizer_ms) || !std::isfinite(s.ms)) continue;
    const double tail = s.tail_ms <= s.ms ? s.tail_ms : 0;
    updates += s.optimizer_ms - tail;
    steps += s.ms - tail;
  }
  return steps > 0 ? updates / steps : kNotANumber;
}

}  // namespace kiln::train
