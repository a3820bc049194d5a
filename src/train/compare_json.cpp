#include <cmath>
#include <nlohmann/json.hpp>

#include "src/train/compare.h"

namespace kiln::train {
namespace {

using json = nlohmann::ordered_json;

json number(double x) {
  return std::isfinite(x) ? json(x) : json();
}
json number(const std::optional<double>& x) {
  return x ? number(*x) : json();
}

json validation_json(const LoggedValidation* v) {
  if (!v) return json();
  return {{"step", v->step}, {"tokens", v->tokens}, {"seconds", v->seconds}, {"loss", number(v->loss)}};
}

json table(const Comparison& c, Axis axis) {
  json rows = json::array();
  for (const double place : places(c, axis)) {
    json row = {{"at", place}, {"training_loss", json::array()}, {"validation_loss", json::array()}};
    for (const ComparedRun& run : c.runs) {
      row["training_loss"].push_back(number(training_at(run.log, axis, place, c.options.window)));
      row["validation_loss"].push_back(number(validation_at(run.log, axis, place)));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

json reaches(const Comparison& c) {
  json all = json::array();
  for (size_t target = 0; target < c.runs.size(); target++) {
    const auto& goal = c.runs[target].log.validations;
    if (goal.empty() || !std::isfinite(goal.back().loss)) continue;
    for (size_t i = 0; i < c.runs.size(); i++) {
      if (i == target) continue;
      const Reach r = reach(c.runs[i].log, goal.back().loss);
      const LoggedValidation& final = goal.back();
      json entry = {
          {"run", letter(i)}, {"target", letter(target)}, {"loss", final.loss}, {"reached", r.at != nullptr}};
      if (r.at) {
        entry["at"] = validation_json(r.at);
        entry["not_yet_at"] = validation_json(r.before);
        entry["step_ratio"] = number(static_cast<double>(r.at->step) / static_cast<double>(final.step));
        entry["time_ratio"] = number(r.at->seconds / final.seconds);
      }
      all.push_back(std::move(entry));
    }
  }
  return all;
}

}  // namespace

std::string json_of(const Comparison& c) {
  json out = {{"window", c.options.window}, {"runs", json::array()}};
  for (size_t i = 0; i < c.runs.size(); i++) {
    const ComparedRun& run = c.runs[i];
    const LoggedStep& last = run.log.steps.back();
    const auto& validations = run.log.validations;
    out["runs"].push_back({{"letter", letter(i)},
                           {"path", run.path.string()},
                           {"optimizer", run.config ? json(run.config->optimizer.name) : json()},
                           {"steps", last.step},
                           {"tokens", last.tokens},
                           {"seconds", last.seconds},
                           {"final", validation_json(validations.empty() ? nullptr : &validations.back())},
                           {"best", validation_json(best_validation(run.log))},
                           {"median_ms", median_ms(run.log)},
                           {"optimizer_share", number(optimizer_share(run.log))},
                           {"differences", c.differences[i]}});
  }
  out["warnings"] = c.warnings;
  out["at_equal_steps"] = table(c, Axis::steps);
  out["at_equal_tokens"] = table(c, Axis::tokens);
  out["at_equal_seconds"] = table(c, Axis::seconds);
  out["reach"] = reaches(c);
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace kiln::train
