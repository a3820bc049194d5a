#include <cmath>
#include <nlohmann/json.hpp>

#include "src/train/compare.h"

namespace kiln::train {
namespace {

using nlohmann::ordered_json;

// What is not finite is written as null, too.
ordered_json number(const std::optional<double>& x) {
  return x ? ordered_json(*x) : ordered_json();
}

ordered_json validation_json(const LoggedValidation* v) {
  if (!v) return ordered_json();
  return {{"step", v->step}, {"tokens", v->tokens}, {"seconds", v->seconds}, {"loss", v->loss}};
}

ordered_json table(const Comparison& c, Axis axis) {
  ordered_json rows = ordered_json::array();
  for (const double place : places(c, axis)) {
    ordered_json row = {
        {"at", place}, {"training_loss", ordered_json::array()}, {"validation_loss", ordered_json::array()}};
    for (const ComparedRun& run : c.runs) {
      row["training_loss"].push_back(number(training_at(run.log, axis, place, c.options.window)));
      row["validation_loss"].push_back(number(validation_at(run.log, axis, place)));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

ordered_json reach_rows(const Comparison& c) {
  ordered_json all = ordered_json::array();
  for (size_t target = 0; target < c.runs.size(); target++) {
    const auto& goal = c.runs[target].log.validations;
    if (goal.empty() || !std::isfinite(goal.back().loss)) continue;
    for (size_t i = 0; i < c.runs.size(); i++) {
      if (i == target) continue;
      const Reach r = reach(c.runs[i].log, goal.back().loss);
      const LoggedValidation& final = goal.back();
      ordered_json entry = {
          {"run", letter(i)}, {"target", letter(target)}, {"loss", final.loss}, {"reached", r.at != nullptr}};
      if (r.at) {
        entry["at"] = validation_json(r.at);
        entry["not_yet_at"] = validation_json(r.before);
        entry["step_ratio"] = static_cast<double>(r.at->step) / static_cast<double>(final.step);
        entry["time_ratio"] = r.at->seconds / final.seconds;
      }
      all.push_back(std::move(entry));
    }
  }
  return all;
}

}  // namespace

std::string json_of(const Comparison& c) {
  ordered_json out = {{"window", c.options.window}, {"runs", ordered_json::array()}};
  for (size_t i = 0; i < c.runs.size(); i++) {
    const ComparedRun& run = c.runs[i];
    const LoggedStep& last = run.log.steps.back();
    const auto& validations = run.log.validations;
    const int64_t all = whole_run(run.config, run.log.run_steps);
    out["runs"].push_back(
        {{"letter", letter(i)},
         {"path", run.path.string()},
         {"optimizer", run.config ? ordered_json(run.config->optimizer.name) : ordered_json()},
         {"steps", last.step},
         {"run_steps", all > 0 ? ordered_json(all) : ordered_json()},
         {"tokens", last.tokens},
         {"seconds", last.seconds},
         {"final", validation_json(validations.empty() ? nullptr : &validations.back())},
         {"best", validation_json(best_validation(run.log))},
         {"median_ms", median_ms(run.log)},
         {"optimizer_share", optimizer_share(run.log)},
         {"differences", c.differences[i]}});
  }
  out["warnings"] = c.warnings;
  out["at_equal_steps"] = table(c, Axis::steps);
  out["at_equal_tokens"] = table(c, Axis::tokens);
  out["at_equal_seconds"] = table(c, Axis::seconds);
  out["reach"] = reach_rows(c);
  return out.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace kiln::train
