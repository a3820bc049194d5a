#include "data/tokenizer.h"

#include <system_error>

#include "data/bpe.h"
#include "data/tokenizer_files.h"
#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSpecHint =
    R"(a tokenizer is "bytes" or a path: a tokenizer.json, a folder with vocab.json and merges.txt, or *.tiktoken)";

class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr int32_t kEndOfText = 256;

  int64_t vocab() const override { return kEndOfText + 1; }
  int32_t end_of_text() const override { return kEndOfText; }
  std::string name() const override { return kBytes; }
  std::string fingerprint() const override { return std::string(32, '0'); }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    tokens.reserve(tokens.size() + text.size());
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  }

  void decode(std::span<const int32_t> tokens, std::string& text) const override {
    text.reserve(text.size() + tokens.size());
    for (const int32_t token : tokens) {
      if (token >= 0 && token < kEndOfText) {
        text += static_cast<char>(token);
      } else {
        text += token == kEndOfText ? "\n\n" : "\xEF\xBF\xBD";
      }
    }
  }
};

BpeRules read_with_merges(const fs::path& vocab) {
  for (const char* name : {"merges.txt", "vocab.bpe"}) {
    const fs::path merges = vocab.parent_path() / name;
    if (fs::exists(merges)) {
      return read_vocab_and_merges(read_file(vocab), vocab.string(), read_file(merges), merges.string());
    }
  }
  throw Error(ExitCode::data,
              fmt::format("{} has neither a model nor a merges.txt beside it", vocab.string()), kSpecHint);
}

// Whether a JSON file is a vocab.json rather than a tokenizer.json: by its name, as both are objects.
bool is_vocabulary(const fs::path& path) {
  return path.filename() == "vocab.json" || path.filename() == "encoder.json";
}

fs::path file_in_folder(const fs::path& folder) {
  for (const char* name : {"tokenizer.json", "vocab.json", "encoder.json"}) {
    if (fs::exists(folder / name)) return folder / name;
  }
  throw Error(ExitCode::data, fmt::format("{} holds neither tokenizer.json nor vocab.json", folder.string()),
              kSpecHint);
}

}  // namespace

Tokenizer::~Tokenizer() = default;

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& spec) {
  if (spec == kBytes) return std::make_unique<ByteTokenizer>();
  std::error_code error;
  const fs::file_status status = fs::status(spec, error);
  if (spec.empty() || !fs::exists(status)) {
    throw Error(
        ExitCode::data, fmt::format("there is no tokenizer \"{}\"", spec),
        fmt::format("{}; kiln data train-tokenizer makes one from text, scripts/demo that of its corpus",
                    kSpecHint));
  }
  const fs::path path = fs::is_directory(status) ? file_in_folder(spec) : fs::path(spec);
  if (path.extension() == ".tiktoken")
    return make_bpe(read_tiktoken(read_file(path), path.string()), path.string());
  if (path.extension() != ".json") {
    throw Error(ExitCode::data, fmt::format("{} is neither .json nor .tiktoken", path.string()), kSpecHint);
  }
  if (is_vocabulary(path)) return make_bpe(read_with_merges(path), path.string());
  return make_bpe(read_tokenizer_json(read_file(path), path.string()), path.string());
}

}  // namespace kiln::data
