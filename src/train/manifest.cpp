#include "src/train/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "src/core/checksum.h"
#include "src/core/error.h"

namespace kiln::train {
namespace {

constexpr int64_t kManifestVersion = 2;
constexpr const char* kSeal = "xxh3";
// Absent: empty or not known.
constexpr const char* kLosses = "guard_losses";
constexpr const char* kGradientNorms = "guard_gradient_norms";
constexpr const char* kRunSteps = "run_steps";
constexpr const char* kCeiling = "ceiling_gflops";

// The manifest's own checksum stands in it, over the text of all the rest.
std::string seal(nlohmann::json manifest) {
  manifest.erase(kSeal);
  return text_checksum(manifest.dump());
}

class ManifestReader {
 public:
  ManifestReader(const std::string& text, const std::filesystem::path& path)
      : path_(path), manifest_(nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false)) {}

  Manifest read() const {
    if (!manifest_.is_object()) fail("is not a JSON object");
    if (const int64_t version = whole_number(manifest_, "version"); version != kManifestVersion) {
      fail(fmt::format("has version {}, this program knows version {}", version, kManifestVersion));
    }
    if (text(manifest_, kSeal) != seal(manifest_))
      fail("its checksum does not match its content: the file is damaged");
    Manifest found{.state = {}, .model = file(kModelFile), .optimizer = file(kOptimizerFile)};
    CheckpointState& state = found.state;
    state.step = whole_number(manifest_, "step");
    state.optimizer_t = whole_number(manifest_, "optimizer_t");
    state.samples = whole_number(manifest_, "samples");
    state.data = text(manifest_, "data");
    state.config_json = text(manifest_, "config");
    state.losses = numbers(kLosses);
    state.gradient_norms = numbers(kGradientNorms);
    if (manifest_.contains(kRunSteps)) state.run_steps = whole_number(manifest_, kRunSteps);
    if (manifest_.contains(kCeiling)) state.ceiling_gflops = positive(kCeiling);
    return found;
  }

 private:
  using json = nlohmann::json;

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::data, fmt::format("{}: {}", path_.string(), what), kDamagedHint);
  }
  int64_t whole_number(const json& object, const char* key) const {
    const auto it = object.find(key);
    if (it == object.end() || !it->is_number_unsigned() || it->get<uint64_t>() > INT64_MAX) {
      fail(fmt::format("\"{}\" is not a whole number", key));
    }
    return it->get<int64_t>();
  }
  double positive(const char* key) const {
    const auto it = manifest_.find(key);
    if (!it->is_number() || !(it->get<double>() > 0))
      fail(fmt::format("\"{}\" is not a positive number", key));
    return it->get<double>();
  }
  const std::string& text(const json& object, const char* key) const {
    const auto it = object.find(key);
    if (it == object.end() || !it->is_string()) fail(fmt::format("\"{}\" is not a string", key));
    return it->get_ref<const std::string&>();
  }
  std::vector<double> numbers(const char* key) const {
    const auto values = manifest_.find(key);
    const auto is_number = [](const json& x) { return x.is_number(); };
    if (values == manifest_.end()) return {};
    if (!values->is_array() || !std::all_of(values->begin(), values->end(), is_number)) {
      fail(fmt::format("\"{}\" is not an array of numbers", key));
    }
    return values->get<std::vector<double>>();
  }
  CheckpointFile file(const char* name) const {
    const auto files = manifest_.find("files");
    if (files == manifest_.end() || !files->is_object()) fail("\"files\" is not a JSON object");
    const auto entry = files->find(name);
    if (entry == files->end() || !entry->is_object())
      fail(fmt::format("\"files\" does not hold \"{}\"", name));
    return {.name = name, .bytes = whole_number(*entry, "bytes"), .checksum = text(*entry, "xxh3")};
  }

  const std::filesystem::path& path_;
  json manifest_;
};

}  // namespace

std::string manifest_text(const Manifest& m) {
  const CheckpointState& state = m.state;
  nlohmann::json files;
  for (const CheckpointFile* file : {&m.model, &m.optimizer}) {
    files[file->name] = {{"bytes", file->bytes}, {"xxh3", file->checksum}};
  }
  nlohmann::json manifest = {{"version", kManifestVersion},
                             {"step", state.step},
                             {"optimizer_t", state.optimizer_t},
                             {"samples", state.samples},
                             {"data", state.data},
                             {"config", state.config_json},
                             {"files", files}};
  if (!state.losses.empty()) manifest[kLosses] = state.losses;
  if (!state.gradient_norms.empty()) manifest[kGradientNorms] = state.gradient_norms;
  if (state.run_steps > 0) manifest[kRunSteps] = state.run_steps;
  if (state.ceiling_gflops > 0) manifest[kCeiling] = state.ceiling_gflops;
  manifest[kSeal] = seal(manifest);
  return manifest.dump(2) + "\n";
}

Manifest parse_manifest(const std::string& text, const std::filesystem::path& path) {
  return ManifestReader(text, path).read();
}

}  // namespace kiln::train
