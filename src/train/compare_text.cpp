#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/train/compare.h"
#include "src/train/plot.h"
#include "src/train/progress.h"

namespace kiln::train {
namespace {

std::string loss_text(const std::optional<double>& loss) {
  return loss ? fmt::format("{:.4f}", *loss) : "-";
}

std::string place_text(double place, Axis axis) {
  return axis == Axis::seconds ? time_text(place) : fmt::format("{:.0f}", place);
}

// Padded on the left.
std::string cell(const std::string& text, size_t width) {
  return fmt::format("{:>{}}", text, width);
}

std::string summary(const Comparison& c) {
  size_t widest = 3;
  for (const ComparedRun& run : c.runs) widest = std::max(widest, run.path.string().size());
  std::string text =
      fmt::format("   {:<{}}  {:<14} {:>8} {:>12} {:>13}  {:>16}  {:>16} {:>9} {:>9}\n", "run", widest,
                  "optimizer", "steps", "tokens", "time", "validation", "best", "ms/step", "optimizer");
  for (size_t i = 0; i < c.runs.size(); i++) {
    const ComparedRun& run = c.runs[i];
    const LoggedStep& last = run.log.steps.back();
    const auto at = [](const LoggedValidation* v) {
      return v ? fmt::format("{:.4f} @{}", v->loss, v->step) : "-";
    };
    const double share = optimizer_share(run.log);
    text += fmt::format("{:<2} {:<{}}  {:<14} {:>8} {:>12} {:>13}  {:>16}  {:>16} {:>9.1f} {:>9}\n",
                        letter(i), run.path.string(), widest, run.config ? run.config->optimizer.name : "?",
                        last.step, last.tokens, time_text(last.seconds),
                        at(run.log.validations.empty() ? nullptr : &run.log.validations.back()),
                        at(best_validation(run.log)), median_ms(run.log),
                        std::isfinite(share) ? fmt::format("{:.1f} %", 100 * share) : "-");
  }
  return text +
         "   time: of the steps as logged, without validations, samples, checkpoints; ms/step: median; "
         "optimizer: the share of\n"
         "   the steps' time that the updates took, those of all optimizers\n";
}

std::string table(const Comparison& c, Axis axis, const char* title, const char* unit) {
  constexpr size_t kPlace = 14, kLoss = 9;
  std::string text = fmt::format("\n{}\n{}", title, cell(unit, kPlace));
  for (size_t i = 0; i < c.runs.size(); i++) {
    text += "  " + cell("train " + letter(i), kLoss) + cell("valid " + letter(i), kLoss);
  }
  text += "\n";
  for (const double place : places(c, axis)) {
    text += cell(place_text(place, axis), kPlace);
    for (const ComparedRun& run : c.runs) {
      text += "  " + cell(loss_text(training_at(run.log, axis, place, c.options.window)), kLoss) +
              cell(loss_text(validation_at(run.log, axis, place)), kLoss);
    }
    text += "\n";
  }
  return text;
}

// Equal steps are equal tokens when all runs train on as many tokens a step.
bool same_tokens_per_step(const Comparison& c) {
  const auto per_step = [](const ComparedRun& run) {
    return static_cast<double>(run.log.steps.back().tokens) / static_cast<double>(run.log.steps.back().step);
  };
  return std::all_of(c.runs.begin(), c.runs.end(),
                     [&](const ComparedRun& run) { return per_step(run) == per_step(c.runs.front()); });
}

std::string reaches(const Comparison& c) {
  std::string text;
  for (size_t target = 0; target < c.runs.size(); target++) {
    const MetricsLog& goal = c.runs[target].log;
    if (goal.validations.empty() || !std::isfinite(goal.validations.back().loss)) continue;
    const LoggedValidation& final = goal.validations.back();
    text += fmt::format("to {}'s final {:.4f}, which took {} steps, {}:\n", letter(target), final.loss,
                        final.step, time_text(final.seconds));
    for (size_t i = 0; i < c.runs.size(); i++) {
      if (i == target || c.runs[i].log.validations.empty()) continue;
      const Reach r = reach(c.runs[i].log, final.loss);
      if (!r.at) {
        const LoggedValidation* best = best_validation(c.runs[i].log);
        text += fmt::format("  {:<3} not reached{}\n", letter(i),
                            best ? fmt::format(", its best is {:.4f}", best->loss) : "");
        continue;
      }
      const auto ratio = [](double a, double b) {
        return b > 0 ? fmt::format("{:.3f}", a / b) : std::string("-");
      };
      text += fmt::format("  {:<3} {} steps ({} of {}'s), {} ({}){}\n", letter(i), r.at->step,
                          ratio(static_cast<double>(r.at->step), static_cast<double>(final.step)),
                          letter(target), time_text(r.at->seconds), ratio(r.at->seconds, final.seconds),
                          r.before ? fmt::format("; not yet at step {}", r.before->step) : "");
    }
  }
  if (text.empty()) return text;
  return "\nsteps and time to another run's final validation loss (the first logged validation at or below "
         "it)\n" +
         text;
}

// The first tenth is left out: there losses fall so far that nothing else could be seen.
std::string picture(const Comparison& c) {
  double end = 0;
  for (const ComparedRun& run : c.runs) end = std::max(end, static_cast<double>(run.log.steps.back().step));
  std::vector<Curve> curves;
  for (size_t i = 0; i < c.runs.size(); i++) {
    curves.push_back({.mark = letter(i).front(), .points = {}});
    for (const LoggedValidation& v : c.runs[i].log.validations) {
      if (static_cast<double>(v.step) >= 0.1 * end)
        curves.back().points.emplace_back(static_cast<double>(v.step), v.loss);
    }
  }
  const std::string drawn = plot(curves, 12, 72);
  return drawn.empty() ? drawn
                       : "\nvalidation loss against steps, from a tenth of the longest run on\n" + drawn;
}

}  // namespace

std::string text_of(const Comparison& c) {
  std::string text = summary(c);
  for (const std::string& warning : c.warnings) text += fmt::format("note: {}\n", warning);
  for (size_t i = 1; i < c.runs.size(); i++) {
    if (c.differences[i].empty()) continue;
    text += fmt::format("\nconfig, {} -> {}:\n", letter(0), letter(i));
    for (const std::string& difference : c.differences[i]) text += fmt::format("  {}\n", difference);
  }
  const std::string how = fmt::format(
      "train: mean of the last {} steps; valid: the last validation logged up to there", c.options.window);
  text += table(c, Axis::steps, fmt::format("at equal steps ({})", how).c_str(), "step");
  if (same_tokens_per_step(c)) {
    text += "(all runs train on as many tokens a step, so equal steps are equal tokens)\n";
  } else {
    text += table(c, Axis::tokens, "at equal tokens", "tokens");
  }
  text += table(c, Axis::seconds, "at equal time", "time");
  return text + reaches(c) + picture(c);
}

std::string csv_of(const Comparison& c) {
  std::string text = "run,letter,step,tokens,seconds,training_loss,validation_loss\n";
  for (size_t i = 0; i < c.runs.size(); i++) {
    const ComparedRun& run = c.runs[i];
    std::string name;  // quoted, as paths may hold commas
    for (const char ch : run.path.string()) name += ch == '"' ? "\"\"" : std::string(1, ch);
    for (const LoggedValidation& v : run.log.validations) {
      const auto training = training_at(run.log, Axis::steps, static_cast<double>(v.step), c.options.window);
      text += fmt::format("\"{}\",{},{},{},{:.3f},{},{}\n", name, letter(i), v.step, v.tokens, v.seconds,
                          training ? fmt::format("{}", *training) : "",
                          std::isfinite(v.loss) ? fmt::format("{}", v.loss) : "");
    }
  }
  return text;
}

}  // namespace kiln::train
