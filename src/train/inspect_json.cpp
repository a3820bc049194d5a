#include <cmath>
#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/train/inspect.h"

namespace kiln::train {
namespace {

using json = nlohmann::ordered_json;

// JSON has no NaN: null.
json number(double x) {
  return std::isfinite(x) ? json(x) : json();
}

json validation_json(const LoggedValidation& v) {
  return {{"step", v.step},
          {"tokens", v.tokens},
          {"seconds", v.seconds},
          {"loss", number(v.loss)},
          {"unigram_entropy", number(v.unigram_entropy)}};
}

json tensors_json(const std::vector<InspectedTensor>& tensors) {
  json list = json::array();
  for (const InspectedTensor& t : tensors) {
    json entry = {{"name", t.name}, {"type", t.type}, {"shape", t.shape}, {"bytes", t.bytes}};
    if (t.stats) {
      entry["rms"] = number(t.stats->rms);
      entry["abs_max"] = number(t.stats->abs_max);
      entry["non_finite"] = t.stats->non_finite;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

json config_json(const std::string& text) {
  const json config = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return config.is_discarded() ? json() : config;
}

// Paths and messages may hold bytes that are not UTF-8.
std::string dump(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string json_of(const InspectedRun& run, const InspectOptions& options) {
  const MetricsLog& log = run.log;
  json out = {{"run", run.path.string()},
              {"process", run.process ? json(*run.process) : json()},
              {"config", run.config ? config_json(config::to_json(*run.config)) : json()},
              {"parameters", run.parameters > 0 ? json(run.parameters) : json()}};
  if (!log.steps.empty()) {
    const LoggedStep& last = log.steps.back();
    out["step"] = last.step;
    out["tokens"] = last.tokens;
    out["loss"] = number(last.loss);
    out["gradient_norm"] = number(last.gradient_norm);
    out["seconds"] = last.seconds;
    out["median_ms"] = median_ms(log);
    out["tokens_per_second"] = number(static_cast<double>(last.tokens) / last.seconds);
    out["optimizer_share"] = number(optimizer_share(log));
  }
  if (!log.validations.empty()) out["validation"] = validation_json(log.validations.back());
  if (const LoggedValidation* best = best_validation(log)) out["best_validation"] = validation_json(*best);
  out["log"] = {{"missing_steps", log.missing_steps},
                {"rewound", log.rewound},
                {"broken_lines", log.broken_lines},
                {"torn", log.torn}};
  out["checkpoints"] = json::array();
  for (const RunCheckpoint& c : run.checkpoints) {
    out["checkpoints"].push_back({{"step", c.step},
                                  {"path", c.path.string()},
                                  {"bytes", c.bytes},
                                  {"intact", c.problem.empty()},
                                  {"problem", c.problem}});
  }
  out["verified"] = options.verify;
  out["problems"] = run.problems;
  return dump(out);
}

std::string json_of(const InspectedCheckpoint& found, const InspectOptions& options) {
  const CheckpointState& s = found.state;
  json out = {{"checkpoint", found.path.string()},
              {"step", s.step},
              {"optimizer_t", s.optimizer_t},
              {"samples", s.samples},
              {"data", s.data},
              {"config", config_json(s.config_json)}};
  out["files"] = json::array();
  for (const CheckpointFile& file : found.files) {
    out["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"xxh3", file.checksum}});
  }
  out["parameters"] = tensors_json(found.parameters);
  out["optimizer"] = tensors_json(found.optimizer);
  out["optimizer_kinds"] = json::array();
  for (const StateKind& k : found.kinds) {
    out["optimizer_kinds"].push_back(
        {{"name", k.name}, {"tensors", k.tensors}, {"elements", k.elements}, {"bytes", k.bytes}});
  }
  out["verified"] = options.verify;
  out["problems"] = found.problems;
  return dump(out);
}

}  // namespace kiln::train
