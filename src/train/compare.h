// Several runs side by side, from what they logged: losses at equal steps, tokens and time, and how much sooner one
// reaches what another ends at.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "src/config/config.h"
#include "src/train/metrics_log.h"

namespace kiln::train {

struct ComparedRun {
  std::filesystem::path path;
  std::optional<config::Config> config;  // none: config.json is missing or cannot be read
  MetricsLog log;
  std::string data;       // fingerprint of the training tokens, from a checkpoint; empty: there is none
  std::string processor;  // that the run computed on; empty: unknown
};

enum class Axis { steps, tokens, seconds };

// What a run has come to at a place: the validation logged there or, if none was, the nearest one before; training
// losses averaged over the last `window` steps up to there, skipped ones aside. None before the first of them, and
// behind the end of the run.
std::optional<double> validation_at(const MetricsLog& log, Axis axis, double place);
std::optional<double> training_at(const MetricsLog& log, Axis axis, double place, int64_t window);

// The first validation of a run that is at or below `loss`, and the last one before it (null: it was the first). Where
// between the two the run came down to the loss was not measured.
struct Reach {
  const LoggedValidation *at = nullptr, *before = nullptr;
};
Reach reach(const MetricsLog& log, double loss);

struct CompareOptions {
  int64_t rows = 10;    // of each table, at most
  int64_t window = 50;  // steps that training losses are averaged over
};

struct Comparison {
  std::vector<ComparedRun> runs;
  CompareOptions options;
  std::vector<std::string> warnings;                  // why numbers may not be comparable, what is missing
  std::vector<std::vector<std::string>> differences;  // of each run's config from the first one's
};

// Throws Error(ExitCode::data) for a folder without a readable metrics.jsonl, or without any step in it.
Comparison compare(const std::vector<std::filesystem::path>& runs, const CompareOptions& options);

// Where the rows of the table of an axis stand: at validations (steps, tokens), or evenly up to the longest run's end.
std::vector<double> places(const Comparison& comparison, Axis axis);

// "A", "B", ... for the first 26 runs, then "R27", ...
std::string letter(size_t run);

std::string text_of(const Comparison& comparison);
std::string json_of(const Comparison& comparison);

// One line for each validation of each run: run,letter,step,tokens,seconds,training_loss,validation_loss
std::string csv_of(const Comparison& comparison);

}  // namespace kiln::train
