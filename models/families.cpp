#include "models/families.h"

#include "models/gpt2.h"
#include "models/llama.h"
#include "src/core/error.h"

namespace kiln::models {

std::unique_ptr<Model> create_model(std::string_view family, const ModelShape& shape) {
  if (family == "gpt2") return create_gpt2(shape);
  if (family == "llama") return create_llama(shape);
  throw Error(ExitCode::usage, fmt::format("there is no model family \"{}\"", family),
              "kiln config --explain model.family lists them");
}

}  // namespace kiln::models
