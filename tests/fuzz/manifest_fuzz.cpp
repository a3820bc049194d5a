// A manifest of any bytes is refused with an Error, or is one that can be written and read again, and leads to no other
// file: the config in it extends none. So that not every change ends at the manifest's own checksum, each input is read
// a second time with that set right.
#include "tests/fuzz/fuzz.h"

#include <nlohmann/json.hpp>

#include "src/config/load.h"
#include "src/core/checksum.h"
#include "src/train/manifest.h"

namespace {

using namespace kiln;

void read(const std::string& text) {
  fuzz::expect_error_or_success([&] {
    const train::Manifest manifest = train::parse_manifest(text, "manifest.json");
    const train::CheckpointState& state = manifest.state;
    if (state.step < 0 || state.optimizer_t < 0 || state.samples < 0 || state.run_steps < 0 ||
        manifest.model.bytes < 0 || manifest.optimizer.bytes < 0 || !(state.ceiling_gflops >= 0)) {
      std::abort();
    }
    try {
      if (train::parse_manifest(train::manifest_text(manifest), "manifest.json") != manifest) std::abort();
    } catch (const Error&) {
      std::abort();  // what was written must be readable
    }
    config::parse(state.config_json, "step_00000001/config", {}, config::no_files());
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  read(text);
  auto sealed = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!sealed.is_object()) return 0;
  sealed.erase("xxh3");
  sealed["xxh3"] = text_checksum(sealed.dump());
  read(sealed.dump());
  return 0;
}
