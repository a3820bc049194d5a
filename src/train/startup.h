// The block of facts that a run prints before its first step.
#pragma once

#include <string>

#include "data/dataset.h"
#include "src/config/config.h"
#include "src/plan/planned_run.h"
#include "src/train/ceiling.h"

namespace kiln::train {

// Parameter table, planned memory by category, device, data, optimizer routing, and the formula behind MFU.
std::string startup_text(const config::Config& config, const plan::PlannedRun& run, const Device& device,
                         const data::Dataset& training, const data::Dataset* validation, int64_t steps,
                         const Ceiling& ceiling);

// What to say of device.threads = `asked` where the process may run on `usable` processors; empty: nothing.
std::string thread_warning(int64_t asked, int64_t usable);

// What to say of a model.vocab that is far above the tokenizer's (0: unknown); empty: nothing.
std::string vocabulary_warning(const config::Config& config, int64_t tokenizer_vocab);

}  // namespace kiln::train
