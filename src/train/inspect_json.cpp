#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/train/inspect.h"

namespace kiln::train {
namespace {

using nlohmann::ordered_json;

// What is not finite is written as null.
ordered_json validation_json(const LoggedValidation& v) {
  return {{"step", v.step},
          {"tokens", v.tokens},
          {"seconds", v.seconds},
          {"loss", v.loss},
          {"unigram_entropy", v.unigram_entropy}};
}

ordered_json tensors_json(const std::vector<InspectedTensor>& tensors) {
  ordered_json list = ordered_json::array();
  for (const InspectedTensor& t : tensors) {
    ordered_json entry = {{"name", t.name}, {"type", t.type}, {"shape", t.shape}, {"bytes", t.bytes}};
    if (t.stats) {
      entry["rms"] = t.stats->rms;
      entry["abs_max"] = t.stats->abs_max;
      entry["non_finite"] = t.stats->non_finite;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

ordered_json config_json(const std::string& text) {
  const ordered_json config = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  return config.is_discarded() ? ordered_json() : config;
}

// Paths and messages may hold bytes that are not UTF-8.
std::string dump(const ordered_json& value) {
  return value.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string json_of(const InspectedRun& run, const InspectOptions& options) {
  const MetricsLog& log = run.log;
  ordered_json out = {{"run", run.path.string()},
                      {"process", run.process ? ordered_json(*run.process) : ordered_json()},
                      {"config", run.config ? config_json(config::to_json(*run.config)) : ordered_json()},
                      {"parameters", run.parameters > 0 ? ordered_json(run.parameters) : ordered_json()}};
  if (!log.steps.empty()) {
    const LoggedStep& last = log.steps.back();
    out["step"] = last.step;
    const int64_t all = whole_run(run.config, log.run_steps);
    out["run_steps"] = all > 0 ? ordered_json(all) : ordered_json();
    out["tokens"] = last.tokens;
    out["loss"] = last.loss;
    out["gradient_norm"] = last.gradient_norm;
    out["seconds"] = last.seconds;
    out["median_ms"] = median_ms(log);
    out["tokens_per_second"] = static_cast<double>(last.tokens) / last.seconds;
    out["optimizer_share"] = optimizer_share(log);
  }
  if (!log.validations.empty()) out["validation"] = validation_json(log.validations.back());
  if (const LoggedValidation* best = best_validation(log)) out["best_validation"] = validation_json(*best);
  out["log"] = {{"missing_steps", log.missing_steps},
                {"rewound", log.rewound},
                {"broken_lines", log.broken_lines},
                {"torn", log.torn}};
  out["checkpoints"] = ordered_json::array();
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
  const int64_t all = whole_run(found.config, s.run_steps);
  ordered_json out = {{"checkpoint", found.path.string()},
                      {"step", s.step},
                      {"run_steps", all > 0 ? ordered_json(all) : ordered_json()},
                      {"optimizer_t", s.optimizer_t},
                      {"samples", s.samples},
                      {"data", s.data},
                      {"config", config_json(s.config_json)}};
  out["files"] = ordered_json::array();
  for (const CheckpointFile& file : found.files) {
    out["files"].push_back({{"name", file.name}, {"bytes", file.bytes}, {"xxh3", file.checksum}});
  }
  out["parameters"] = tensors_json(found.parameters);
  out["optimizer"] = tensors_json(found.optimizer);
  out["optimizer_kinds"] = ordered_json::array();
  for (const StateKind& k : found.kinds) {
    out["optimizer_kinds"].push_back(
        {{"name", k.name}, {"tensors", k.tensors}, {"elements", k.elements}, {"bytes", k.bytes}});
  }
  out["verified"] = options.verify;
  out["problems"] = found.problems;
  return dump(out);
}

}  // namespace kiln::train
