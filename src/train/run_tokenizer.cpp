#include "src/train/run_tokenizer.h"

#include <fmt/format.h>

#include <filesystem>

#include "data/dataset_folder.h"
#include "src/core/error.h"

namespace kiln::train {

std::unique_ptr<data::Tokenizer> open_run_tokenizer(const config::Config& config, const std::string& shards) {
  const std::string& spec = config.data.tokenizer;
  if (spec == "gpt2") return nullptr;
  auto tokenizer = data::open_tokenizer(spec);
  const auto folder = std::filesystem::path(shards).parent_path();
  const auto dataset = data::read_description(folder);
  if (dataset && dataset->tokenizer_fingerprint != tokenizer->fingerprint()) {
    const std::string& made_with =
        dataset->tokenizer_path.empty() ? dataset->tokenizer_name : dataset->tokenizer_path;
    throw Error(
        ExitCode::usage,
        fmt::format("data.tokenizer = \"{}\" is not the tokenizer that the shards in {} were made with ({})",
                    spec, folder.string(), made_with),
        fmt::format("set data.tokenizer to {}, or prepare the shards anew with this one", made_with));
  }
  if (tokenizer->vocab() > config.model.vocab) {
    throw Error(ExitCode::usage,
                fmt::format("model.vocab = {} is less than the {} tokens of data.tokenizer = \"{}\"",
                            config.model.vocab, tokenizer->vocab(), spec),
                fmt::format("set model.vocab to {}", tokenizer->vocab()));
  }
  return tokenizer;
}

std::unique_ptr<data::Tokenizer> open_model_tokenizer(config::Config config, const std::string& asked_for,
                                                      const std::string& shards) {
  if (asked_for == "gpt2") {
    throw Error(ExitCode::usage, "--tokenizer gpt2 names no file",
                "a folder with GPT-2's vocab.json and merges.txt, or gpt2.tiktoken");
  }
  if (!asked_for.empty()) config.data.tokenizer = asked_for;
  try {
    return open_run_tokenizer(config, shards);
  } catch (const Error& e) {
    throw Error(e.code(), e.what(),
                "--tokenizer PATH names another; it has to be the one that the model's training shards were "
                "made with");
  }
}

}  // namespace kiln::train
