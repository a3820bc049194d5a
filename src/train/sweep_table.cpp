#include "src/train/sweep_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "src/core/error.h"

namespace kiln::train {
namespace {

using nlohmann::ordered_json;

std::string share_text(double share) {
  return std::isnan(share) ? "-" : fmt::format("{:.1f} %", 100 * share);
}

ordered_json settings_json(const Settings& settings) {
  ordered_json object = ordered_json::object();
  for (const auto& [key, value] : settings) object[key] = ordered_json::parse(value);
  return object;
}

// JSON has no infinity: null with a word.
ordered_json result_json(const SweepResult& result) {
  ordered_json object = ordered_json::object();
  if (std::isfinite(result.loss)) {
    object["validation_loss"] = result.loss;
    object["median_ms"] = result.ms;
    object["steps"] = result.steps;
    object["from_step"] = result.from;
    if (std::isfinite(result.optimizer_share)) object["optimizer_share"] = result.optimizer_share;
  } else {
    object["validation_loss"] = nullptr;
    object["state"] = std::isinf(result.loss) ? "diverged" : "not run";
  }
  return object;
}

// The first row is the heading.
using Rows = std::vector<std::vector<std::string>>;

std::string repeated(const char* what, size_t times) {
  std::string result;
  for (size_t i = 0; i < times; i++) result += what;
  return result;
}

std::string ms_text(const SweepResult& result) {
  return result.ms > 0 ? fmt::format("{:.1f}", result.ms) : "-";
}

Rows seed_rows(const SweepTable& table) {
  Rows rows{{"arm", "chosen", "steps", "seeds", "validation loss, mean", "sd", "each", "ms/step",
             "optimizer's share"}};
  for (const ArmResult& arm : table.arms) {
    if (arm.finals.empty()) continue;
    const Spread s = spread(arm.finals);
    std::string each;
    std::vector<const SweepResult*> by_time;
    for (const SeedResult& f : arm.finals) {
      each += (each.empty() ? "" : ", ") + loss_text(f.result.loss);
      by_time.push_back(&f.result);
    }
    std::sort(by_time.begin(), by_time.end(), [](const auto* a, const auto* b) { return a->ms < b->ms; });
    const SweepResult& middle = *by_time[by_time.size() / 2];
    rows.push_back({arm.arm->name, label(arm.chosen), fmt::format("{}", middle.steps),
                    fmt::format("{}", arm.finals.size()), loss_text(s.mean),
                    std::isfinite(s.deviation) ? fmt::format("{:.4f}", s.deviation) : "-", each,
                    ms_text(middle), share_text(middle.optimizer_share)});
  }
  return rows;
}

Rows rung_rows(const SweepTable& table) {
  Rows rows{{"arm", "rung", "candidate", "steps", "from step", "validation loss", "stays", "ms/step"}};
  for (const ArmResult& arm : table.arms) {
    for (size_t rung = 0; rung < arm.rungs.size(); rung++) {
      for (const SweepCandidate& c : arm.rungs[rung]) {
        rows.push_back({arm.arm->name, fmt::format("{}", rung + 1), label(c.settings),
                        c.result.steps > 0 ? fmt::format("{}", c.result.steps) : "-",
                        fmt::format("{}", c.result.from), loss_text(c.result.loss), c.kept ? "yes" : "",
                        ms_text(c.result)});
      }
    }
  }
  return rows;
}

std::vector<Rows> tables(const SweepTable& table) {
  std::vector<Rows> result;
  for (Rows& rows : std::vector<Rows>{seed_rows(table), rung_rows(table)}) {
    if (rows.size() > 1) result.push_back(std::move(rows));
  }
  return result;
}

// Columns as wide as their widest cell, two spaces apart.
std::string aligned(const Rows& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); i++) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string result;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); i++) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    result += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return result;
}

}  // namespace

SweepTable empty_table(const SweepSpec& spec) {
  SweepTable table;
  for (const SweepArm& arm : spec.arms) {
    if (spec.rungs.empty() && arm.candidates.size() > 1) {
      throw Error(ExitCode::usage,
                  fmt::format("the arm \"{}\" has a grid, but there are no rungs to choose on", arm.name),
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

void keep_best(std::vector<SweepCandidate>& candidates, int64_t keep) {
  std::vector<SweepCandidate*> order;
  for (SweepCandidate& c : candidates) {
    if (std::isfinite(c.result.loss)) order.push_back(&c);
  }
  std::stable_sort(order.begin(), order.end(), [](const SweepCandidate* a, const SweepCandidate* b) {
    return a->result.loss < b->result.loss;
  });
  for (size_t i = 0; i < order.size() && static_cast<int64_t>(i) < keep; i++) order[i]->kept = true;
}

const Settings* survivor(const ArmResult& arm) {
  if (arm.rungs.empty()) return &arm.arm->candidates.front();
  const SweepCandidate* best = nullptr;
  for (const SweepCandidate& c : arm.rungs.back()) {
    if (c.kept && (!best || c.result.loss < best->result.loss)) best = &c;
  }
  return best ? &best->settings : nullptr;
}

Spread spread(const std::vector<SeedResult>& finals) {
  double sum = 0, squares = 0;
  const double infinity = std::numeric_limits<double>::infinity();
  Spread s{0, std::nan(""), infinity, -infinity};
  const auto n = static_cast<double>(finals.size());
  for (const SeedResult& f : finals) {
    sum += f.result.loss;
    s.least = std::min(s.least, f.result.loss);
    s.greatest = std::max(s.greatest, f.result.loss);
  }
  s.mean = sum / n;
  for (const SeedResult& f : finals) squares += (f.result.loss - s.mean) * (f.result.loss - s.mean);
  if (finals.size() > 1) s.deviation = std::sqrt(squares / (n - 1));
  return s;
}

std::string loss_text(double loss) {
  if (std::isnan(loss)) return "-";
  return std::isinf(loss) ? "diverged" : fmt::format("{:.4f}", loss);
}

std::string text(const SweepTable& table) {
  std::string result;
  for (const Rows& rows : tables(table)) result += (result.empty() ? "" : "\n") + aligned(rows);
  return result;
}

std::string markdown(const SweepTable& table) {
  std::string result;
  for (const Rows& rows : tables(table)) {
    if (!result.empty()) result += '\n';
    for (size_t i = 0; i < rows.size(); i++) {
      result += fmt::format("| {} |\n", fmt::join(rows[i], " | "));
      if (i == 0) result += fmt::format("|{}\n", repeated("---|", rows[i].size()));
    }
  }
  return result;
}

std::string to_json(const SweepTable& table) {
  ordered_json arms = ordered_json::array();
  for (const ArmResult& arm : table.arms) {
    ordered_json rungs = ordered_json::array(), finals = ordered_json::array();
    for (const auto& candidates : arm.rungs) {
      ordered_json rows = ordered_json::array();
      for (const SweepCandidate& c : candidates) {
        ordered_json row = {{"set", settings_json(c.settings)}, {"kept", c.kept}};
        row.update(result_json(c.result));
        rows.push_back(row);
      }
      rungs.push_back(rows);
    }
    for (const SeedResult& f : arm.finals) {
      ordered_json row = {{"seed", f.seed}};
      row.update(result_json(f.result));
      finals.push_back(row);
    }
    ordered_json entry = {{"name", arm.arm->name},
                          {"config", arm.arm->config},
                          {"rungs", rungs},
                          {"chosen", settings_json(arm.chosen)},
                          {"final", finals}};
    if (!arm.finals.empty()) {
      // What is not finite becomes null.
      const Spread s = spread(arm.finals);
      entry["validation_loss"] = {
          {"mean", s.mean}, {"sd", s.deviation}, {"min", s.least}, {"max", s.greatest}};
    }
    arms.push_back(entry);
  }
  return ordered_json{{"arms", arms}}.dump(2) + "\n";
}

}  // namespace kiln::train
