#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/device/plan.h"
#include "src/train/inspect.h"
#include "src/train/progress.h"

namespace kiln::train {
namespace {

std::string line(const char* what, const std::string& value) {
  return fmt::format("{:<14}{}\n", what, value);
}

std::string size_text(int64_t bytes) {
  return bytes_text(static_cast<size_t>(bytes));
}

std::string config_lines(const config::Config& c, int64_t parameters) {
  const auto& m = c.model;
  std::string model = fmt::format("{}, {} layers, width {}, {} heads, vocabulary {}, context {}", m.family,
                                  m.layers, m.width, m.heads, m.vocab, m.context);
  if (parameters > 0) model += fmt::format("; {} parameters", parameters);
  std::string text = line("model", model);
  text += line("optimizer", fmt::format("{}, lr {:g}, schedule {}, seed {}", c.optimizer.name, c.optimizer.lr,
                                        c.schedule.kind, c.train.seed));
  text += line("data", fmt::format("{} (validation {}), tokenizer {}", c.data.train,
                                   c.data.validation.empty() ? "none" : c.data.validation, c.data.tokenizer));
  return text + line("step", fmt::format("{} tokens, sequences of {}, micro-batches of {}",
                                         c.train.tokens_per_step, c.train.sequence, c.train.micro_batch));
}

std::string validation_text(const LoggedValidation& v) {
  return fmt::format("{:.4f} at step {} ({:+.4f} to the unigram entropy)", v.loss, v.step,
                     v.loss - v.unigram_entropy);
}

std::string log_lines(const InspectedRun& run) {
  const MetricsLog& log = run.log;
  if (log.steps.empty()) return line("reached", "no step is logged");
  const LoggedStep& last = log.steps.back();
  std::string reached = fmt::format("step {}", last.step);
  if (const int64_t all = whole_run(run.config, log.run_steps); all > 0) {
    reached += fmt::format(" of {} ({:.1f} %)", all,
                           100.0 * static_cast<double>(last.step) / static_cast<double>(all));
  }
  std::string text = line("reached", reached + fmt::format(", {} tokens", last.tokens));
  text += line("loss", fmt::format("{:.4f} in the last step (gradient norm {:.3f}, lr {:.2e})", last.loss,
                                   last.gradient_norm, last.lr));
  if (!log.validations.empty()) text += line("validation", validation_text(log.validations.back()));
  if (const LoggedValidation* best = best_validation(log);
      best && best->step != log.validations.back().step) {
    text += line("  best", validation_text(*best));
  }
  const auto skipped =
      std::count_if(log.steps.begin(), log.steps.end(), [](const LoggedStep& s) { return s.skipped; });
  if (skipped > 0)
    text += line("skipped",
                 fmt::format("{} steps changed nothing (their lines in metrics.jsonl say why)", skipped));
  const double ms = median_ms(log);
  const double tokens = static_cast<double>(last.tokens) / static_cast<double>(last.step);
  text += line("time", fmt::format("{} in steps (validations, samples, checkpoints not counted)",
                                   time_text(last.seconds)));
  text += line("speed", fmt::format("{:.1f} ms a step (median), {:.0f} tokens/s", ms, tokens / ms * 1e3));
  if (const double share = optimizer_share(log); std::isfinite(share)) {
    text += line("", fmt::format("the optimizers' updates take {:.1f} % of the steps' time", 100 * share));
  }
  if (log.missing_steps > 0)
    text += line("missing", fmt::format("{} steps in between are not in the log", log.missing_steps));
  if (log.torn) text += line("", "the last line of metrics.jsonl has no end: cut off, or just being written");
  return text;
}

std::string problem_lines(const std::vector<std::string>& problems) {
  std::string text;
  for (const std::string& problem : problems) text += fmt::format("damaged: {}\n", problem);
  return text;
}

}  // namespace

std::string text_of(const InspectedRun& run, const InspectOptions& options) {
  std::string text = line("run", run.path.string());
  text += line("now", run.process ? fmt::format("process {} is training here", *run.process)
                                  : "no process is training here");
  if (run.config) text += config_lines(*run.config, run.parameters);
  text += log_lines(run);
  if (run.checkpoints.empty()) text += line("checkpoints", "none");
  for (size_t i = 0; i < run.checkpoints.size(); i++) {
    const RunCheckpoint& c = run.checkpoints[i];
    const char* intact = options.verify ? "intact, every byte checked" : "intact by manifest and sizes";
    text +=
        line(i == 0 ? "checkpoints" : "", fmt::format("step {:>8} {:>12}  {}{}", c.step, size_text(c.bytes),
                                                      c.problem.empty() ? intact : "damaged",
                                                      c.path.filename().string().starts_with(".old-")
                                                          ? ", being replaced by another of the same step"
                                                          : ""));
  }
  return text + problem_lines(run.problems);
}

std::string text_of(const InspectedCheckpoint& found, const InspectOptions& options) {
  const CheckpointState& s = found.state;
  std::string text = line("checkpoint", found.path.string());
  const int64_t all = whole_run(found.config, s.run_steps);
  text += line("reached", fmt::format("step {}{}, {} updates, {} sequences", s.step,
                                      all > 0 ? fmt::format(" of {}", all) : "", s.optimizer_t, s.samples));
  if (found.config) text += config_lines(*found.config, 0);
  text += line("trained on", s.data);
  for (const CheckpointFile& file : found.files) {
    const std::string path = (found.path / file.name).string();
    const bool damaged = std::any_of(found.problems.begin(), found.problems.end(),
                                     [&](const std::string& p) { return p.find(path) != std::string::npos; });
    text += line("file",
                 fmt::format("{:<24} {:>12}  xxh3 {}  {}", file.name, size_text(file.bytes), file.checksum,
                             damaged          ? "damaged"
                             : options.verify ? "verified"
                                              : "size as in the manifest; --verify compares the checksum"));
  }
  size_t widest = 9;
  int64_t elements = 0;
  for (const InspectedTensor& t : found.parameters) {
    widest = std::max(widest, t.name.size());
    elements += element_count(t.shape);
  }
  if (!found.parameters.empty()) {
    text += fmt::format("{:<{}} {:>14} {:>5} {:>13}", "parameter", widest, "shape", "type", "elements");
    text += options.stats ? fmt::format(" {:>11} {:>11} {:>10}\n", "rms", "abs max", "non-finite") : "\n";
  }
  for (const InspectedTensor& t : found.parameters) {
    text += fmt::format("{:<{}} {:>14} {:>5} {:>13}", t.name, widest, to_string(t.shape), t.type,
                        element_count(t.shape));
    if (t.stats)
      text += fmt::format(" {:>11.4g} {:>11.4g} {:>10}", t.stats->rms, t.stats->abs_max, t.stats->non_finite);
    text += "\n";
  }
  if (elements > 0) text += fmt::format("{:<{}} {:>14} {:>5} {:>13}\n", "total", widest, "", "", elements);
  if (!found.kinds.empty())
    text += fmt::format("{:<15} {:>8} {:>14} {:>14}\n", "optimizer state", "tensors", "elements", "size");
  for (const StateKind& k : found.kinds) {
    text += fmt::format("  {:<13} {:>8} {:>14} {:>14}\n", k.name, k.tensors, k.elements, size_text(k.bytes));
  }
  int64_t non_finite = 0;
  for (const auto* tensors : {&found.parameters, &found.optimizer}) {
    for (const InspectedTensor& t : *tensors) non_finite += t.stats ? t.stats->non_finite : 0;
  }
  if (non_finite > 0) text += fmt::format("{} numbers in the tensors are not finite\n", non_finite);
  return text + problem_lines(found.problems);
}

}  // namespace kiln::train
