#include "src/train/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "src/config/load.h"
#include "src/core/error.h"
#include "src/core/file.h"
#include "src/train/checkpoint.h"
#include "src/train/checkpoint_folders.h"
#include "src/train/config_difference.h"

namespace kiln::train {
namespace {

namespace fs = std::filesystem;

template <class Record>
double place_of(const Record& record, Axis axis) {
  if (axis == Axis::steps) return static_cast<double>(record.step);
  return axis == Axis::tokens ? static_cast<double>(record.tokens) : record.seconds;
}

// The number of records at or before a place.
template <class Record>
size_t count_up_to(const std::vector<Record>& records, Axis axis, double place) {
  const auto end = std::upper_bound(records.begin(), records.end(), place,
                                    [&](double x, const Record& r) { return x < place_of(r, axis); });
  return static_cast<size_t>(end - records.begin());
}

bool is_over(const MetricsLog& log, Axis axis, double place) {
  return log.steps.empty() || place_of(log.steps.back(), axis) < place;
}

// From any checkpoint whose manifest is whole.
std::string training_data(const fs::path& run) {
  for (const Candidate& c : candidates(run)) {
    try {
      return read_manifest_file(c.path).state.data;
    } catch (const Error&) {
      // another one may tell
    }
  }
  return {};
}

std::string processor(const fs::path& run) {
  std::error_code ignored;
  const fs::path path = run / "versions.json";
  if (!fs::exists(path, ignored)) return {};
  const auto versions = nlohmann::json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!versions.is_object() || !versions.contains("processor") || !versions["processor"].is_string())
    return {};
  return versions["processor"].get<std::string>();
}

class Opener {
 public:
  explicit Opener(Comparison& comparison) : comparison_(comparison) {}

  void open(const fs::path& path) {
    ComparedRun run{.path = path,
                    .config = {},
                    .log = read_metrics_log(path / "metrics.jsonl"),
                    .data = training_data(path),
                    .processor = processor(path)};
    const std::string name = fmt::format("{} ({})", letter(comparison_.runs.size()), path.string());
    const auto warn = [&](const std::string& what) {
      comparison_.warnings.push_back(fmt::format("{}: {}", name, what));
    };
    if (run.log.steps.empty()) {
      throw Error(ExitCode::data, fmt::format("{} holds no step", (path / "metrics.jsonl").string()),
                  "a run writes a line for every step; has this one begun?");
    }
    try {
      run.config = config::load(path / "config.json");
    } catch (const Error& e) {
      warn(fmt::format("its config cannot be read: {}", e.what()));
    }
    const MetricsLog& log = run.log;
    if (log.validations.empty()) warn("has no validation");
    if (log.torn) warn("the last line of metrics.jsonl is cut off and left out");
    if (log.broken_lines > 0) {
      warn(fmt::format("{} lines of metrics.jsonl cannot be read, the first is line {}", log.broken_lines,
                       log.first_broken_line));
    }
    if (log.missing_steps > 0)
      warn(fmt::format("{} steps are not in the log: times are too short", log.missing_steps));
    if (log.rewound > 0)
      warn("its log goes back to earlier steps; of lines that repeat a step the last counts");
    if (const int64_t all = whole_run(run.config, log.run_steps); log.steps.back().step < all) {
      warn(fmt::format(
          "has done {} of its {} steps: what it ends at here is not what it would end at, as schedules count "
          "on the whole run",
          log.steps.back().step, all));
    }
    comparison_.runs.push_back(std::move(run));
  }

  // What must be equal for numbers to be compared.
  void check_alike() {
    const auto& runs = comparison_.runs;
    std::set<std::string> tokenizers, validations, processors, threads, sequences;
    std::set<std::string> data;
    std::vector<double> entropies;
    for (const ComparedRun& run : runs) {
      if (run.config) {
        const auto& c = *run.config;
        tokenizers.insert(fmt::format("{} ({} tokens)", c.data.tokenizer, c.model.vocab));
        if (!run.log.validations.empty()) {
          validations.insert(fmt::format("{}, {} tokens", c.data.validation, c.validation.tokens));
        }
        threads.insert(fmt::format("{}", c.device.threads));
        sequences.insert(fmt::format("{}", c.train.sequence));
      }
      if (!run.data.empty()) data.insert(run.data);
      if (!run.processor.empty()) processors.insert(run.processor);
      if (!run.log.validations.empty() && std::isfinite(run.log.validations.back().unigram_entropy)) {
        entropies.push_back(run.log.validations.back().unigram_entropy);
      }
    }
    const auto differ = [&](const std::set<std::string>& values, const char* what, const char* consequence) {
      if (values.size() < 2) return false;
      comparison_.warnings.push_back(
          fmt::format("{} differ ({}): {}", what, fmt::join(values, " | "), consequence));
      return true;
    };
    const bool tokenizer =
        differ(tokenizers, "tokenizers", "losses in nats a token of different tokens are not comparable");
    differ(sequences, "train.sequence",
           "validation reads windows of that length, so losses are not comparable");
    // The entropy is of the very tokens that were predicted: if it differs, they do, whatever the files are called.
    const auto [least, most] = std::minmax_element(entropies.begin(), entropies.end());
    if (!tokenizer && entropies.size() > 1 && *most - *least > 1e-9 * *most) {
      comparison_.warnings.push_back(fmt::format(
          "validations read different tokens ({}; unigram entropies from {:.6f} to {:.6f}): their "
          "losses are not comparable",
          fmt::join(validations, " | "), *least, *most));
    }
    differ(data, "training tokens", "the runs learnt from different text");
    differ(processors, "processors", "their times are not comparable");
    differ(threads, "device.threads", "their times are not comparable");
  }

 private:
  Comparison& comparison_;
};

}  // namespace

std::optional<double> validation_at(const MetricsLog& log, Axis axis, double place) {
  const size_t count = count_up_to(log.validations, axis, place);
  if (count == 0 || is_over(log, axis, place)) return std::nullopt;
  return log.validations[count - 1].loss;
}

std::optional<double> training_at(const MetricsLog& log, Axis axis, double place, int64_t window) {
  const size_t end = count_up_to(log.steps, axis, place);
  if (end == 0 || is_over(log, axis, place)) return std::nullopt;
  double sum = 0;
  int64_t count = 0;
  for (size_t i = end - std::min(end, static_cast<size_t>(window)); i < end; i++) {
    if (log.steps[i].skipped || !std::isfinite(log.steps[i].loss)) continue;
    sum += log.steps[i].loss;
    count++;
  }
  if (count == 0) return std::nullopt;
  return sum / static_cast<double>(count);
}

Reach reach(const MetricsLog& log, double loss) {
  const LoggedValidation* before = nullptr;
  for (const LoggedValidation& v : log.validations) {
    if (v.loss <= loss) return {.at = &v, .before = before};
    before = &v;
  }
  return {.at = nullptr, .before = before};
}

std::string letter(size_t run) {
  return run < 26 ? std::string(1, static_cast<char>('A' + run)) : fmt::format("R{}", run + 1);
}

std::vector<double> places(const Comparison& comparison, Axis axis) {
  std::set<double> all;
  double end = 0;
  for (const ComparedRun& run : comparison.runs) {
    end = std::max(end, place_of(run.log.steps.back(), axis));
    for (const LoggedValidation& v : run.log.validations) {
      if (axis != Axis::seconds) all.insert(place_of(v, axis));
    }
  }
  const auto rows = static_cast<size_t>(std::max<int64_t>(1, comparison.options.rows));
  if (all.empty()) {
    std::vector<double> even;
    for (size_t i = 1; i <= rows; i++) {
      const double place = end * static_cast<double>(i) / static_cast<double>(rows);
      even.push_back(i == rows ? end : axis == Axis::seconds ? place : std::floor(place));
    }
    return even;
  }
  // Evenly thinned, the last one kept.
  const std::vector<double> each(all.begin(), all.end());
  std::vector<double> kept;
  const size_t count = std::min(rows, each.size());
  for (size_t i = 1; i <= count; i++) kept.push_back(each[each.size() * i / count - 1]);
  return kept;
}

Comparison compare(const std::vector<fs::path>& runs, const CompareOptions& options) {
  Comparison comparison{.runs = {}, .options = options, .warnings = {}, .differences = {}};
  Opener opener(comparison);
  for (const fs::path& run : runs) opener.open(run);
  opener.check_alike();
  const auto& first = comparison.runs.front().config;
  for (const ComparedRun& run : comparison.runs) {
    comparison.differences.emplace_back();
    if (first && run.config) {
      comparison.differences.back() =
          meaningful_differences(config::to_json(*first), config::to_json(*run.config));
    }
  }
  return comparison;
}

}  // namespace kiln::train
