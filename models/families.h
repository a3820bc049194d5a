// The families of models by the names that configs have for them.
#pragma once

#include <memory>
#include <string_view>

#include "models/model.h"

namespace kiln::models {

// "gpt2" or "llama". Throws Error(ExitCode::usage) for other names, and as the family's create function does.
std::unique_ptr<Model> create_model(std::string_view family, const ModelShape& shape);

}  // namespace kiln::models
