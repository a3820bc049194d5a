// The tokenizer that a run's tokens mean something in.
#pragma once

#include <memory>
#include <string>

#include "data/tokenizer.h"
#include "src/config/config.h"

namespace kiln::train {

// What config.data.tokenizer names; none for "gpt2", which has no file here. `shards` is the pattern of the
// token shards in question. Throws Error(ExitCode::usage) when the tokenizer has more tokens than the model,
// or when it is not the one that the shards were made with (dataset.json beside them tells, where there is
// one), and whatever open_tokenizer() throws.
std::unique_ptr<data::Tokenizer> open_run_tokenizer(const config::Config& config, const std::string& shards);

// The same for a model that is trained: `asked_for`, where not empty, in place of what the config names; what
// does not fit is not the model's to change.
std::unique_ptr<data::Tokenizer> open_model_tokenizer(config::Config config, const std::string& asked_for,
                                                      const std::string& shards);

}  // namespace kiln::train
