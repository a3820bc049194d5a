#include "src/train/sweep_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "src/core/error.h"

namespace kiln::train {
namespace {

using json = nlohmann::ordered_json;

std::string share_text(double share) { return std::isnan(share) ? "-" : fmt::format("{:.1f} %", 100 * share); }

json settings_json(const Settings& settings) {
  json object = json::object();
  for (const auto& [key, value] : settings) object[key] = json::parse(value);
  return object;
}

// JSON has no infinity: null with a word.
json result_json(const SweepResult& result) {
  json object = json::object();
  if (std::isfinite(result.loss)) {
    object["validation_loss"] = result.loss;
    object["median_ms"] = result.ms;
    if (std::isfinite(result.optimizer_share)) object["optimizer_share"] = result.optimizer_share;
  } else {
    object["validation_loss"] = nullptr;
    object["state"] = std::isinf(result.loss) ? "diverged" : "not run";
  }
  return object;
}

}  // namespace

SweepTable empty_table(const SweepSpec& spec) {
  SweepTable table;
  for (const SweepArm& arm : spec.arms) {
    if (spec.rungs.empty() && arm.candidates.size() > 1) {
      throw Error(ExitCode::usage, fmt::format("the arm \"{}\" has a grid, but there are no rungs to choose on", arm.name),
                  "give \"rungs\", or drop the grid");
    }
    ArmResult result{&arm, {}, {}, {}};
    result.rungs.resize(spec.rungs.size());
    if (!spec.rungs.empty()) {
      for (const Settings& settings : arm.candidates) result.rungs.front().push_back({settings, {}, false});
    }
    table.arms.push_back(std::move(result));
  }
  return table;
}

void keep_best(std::vector<Candidate>& candidates, int64_t keep) {
  std::vector<Candidate*> order;
  for (Candidate& c : candidates) {
    if (std::isfinite(c.result.loss)) order.push_back(&c);
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const Candidate* a, const Candidate* b) { return a->result.loss < b->result.loss; });
  for (size_t i = 0; i < order.size() && static_cast<int64_t>(i) < keep; i++) order[i]->kept = true;
}

const Settings* survivor(const ArmResult& arm) {
  if (arm.rungs.empty()) return &arm.arm->candidates.front();
  const Candidate* best = nullptr;
  for (const Candidate& c : arm.rungs.back()) {
    if (c.kept && (!best || c.result.loss < best->result.loss)) best = &c;
  }
  return best ? &best->settings : nullptr;
}

Spread spread(const std::vector<SeedResult>& finals) {
  double sum = 0, squares = 0;
  const auto n = static_cast<double>(finals.size());
  for (const SeedResult& f : finals) sum += f.result.loss;
  const double mean = sum / n;
  for (const SeedResult& f : finals) squares += (f.result.loss - mean) * (f.result.loss - mean);
  return {mean, finals.size() < 2 ? std::nan("") : std::sqrt(squares / (n - 1))};
}

std::string loss_text(double loss) {
  if (std::isnan(loss)) return "-";
  return std::isinf(loss) ? "diverged" : fmt::format("{:.4f}", loss);
}

std::string markdown(const SweepTable& table) {
  std::string text;
  if (std::any_of(table.arms.begin(), table.arms.end(), [](const ArmResult& a) { return !a.finals.empty(); })) {
    text += "| arm | chosen | seeds | validation loss, mean | sd | each | ms/step | optimizer's share |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for (const ArmResult& arm : table.arms) {
      if (arm.finals.empty()) continue;
      const Spread s = spread(arm.finals);
      std::string each;
      std::vector<double> ms;
      for (const SeedResult& f : arm.finals) {
        each += (each.empty() ? "" : ", ") + loss_text(f.result.loss);
        ms.push_back(f.result.ms);
      }
      std::nth_element(ms.begin(), ms.begin() + static_cast<std::ptrdiff_t>(ms.size() / 2), ms.end());
      text += fmt::format("| {} | {} | {} | {} | {} | {} | {:.1f} | {} |\n", arm.arm->name, label(arm.chosen),
                          arm.finals.size(), loss_text(s.mean), std::isfinite(s.deviation) ? fmt::format("{:.4f}", s.deviation) : "-",
                          each, ms[ms.size() / 2], share_text(arm.finals.front().result.optimizer_share));
    }
    text += '\n';
  }
  if (std::any_of(table.arms.begin(), table.arms.end(), [](const ArmResult& a) { return !a.rungs.empty(); })) {
    text += "| arm | rung | candidate | validation loss | stays | ms/step |\n|---|---|---|---|---|---|\n";
    for (const ArmResult& arm : table.arms) {
      for (size_t rung = 0; rung < arm.rungs.size(); rung++) {
        for (const Candidate& c : arm.rungs[rung]) {
          text += fmt::format("| {} | {} | {} | {} | {} | {:.1f} |\n", arm.arm->name, rung + 1, label(c.settings),
                              loss_text(c.result.loss), c.kept ? "yes" : "", c.result.ms);
        }
      }
    }
  }
  return text;
}

std::string to_json(const SweepTable& table) {
  json arms = json::array();
  for (const ArmResult& arm : table.arms) {
    json rungs = json::array(), finals = json::array();
    for (const auto& candidates : arm.rungs) {
      json rows = json::array();
      for (const Candidate& c : candidates) {
        json row = {{"set", settings_json(c.settings)}, {"kept", c.kept}};
        row.update(result_json(c.result));
        rows.push_back(row);
      }
      rungs.push_back(rows);
    }
    for (const SeedResult& f : arm.finals) {
      json row = {{"seed", f.seed}};
      row.update(result_json(f.result));
      finals.push_back(row);
    }
    arms.push_back({{"name", arm.arm->name},
                    {"config", arm.arm->config},
                    {"rungs", rungs},
                    {"chosen", settings_json(arm.chosen)},
                    {"final", finals}});
  }
  return json{{"arms", arms}}.dump(2) + "\n";
}

}  // namespace kiln::train
