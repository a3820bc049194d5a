// A tokenizer.json of any bytes is refused with an Error, or encodes any text to tokens that decode to it.
#include "tests/fuzz/fuzz.h"

#include "data/tokenizer_files.h"
#include "tests/fuzz/round_trip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kiln::fuzz::expect_error_or_success([&] {
    const std::string_view content(reinterpret_cast<const char*>(data), size);
    kiln::fuzz::round_trip(
        *kiln::data::make_bpe(kiln::data::read_tokenizer_json(content, "x.json"), "x.json"));
  });
  return 0;
}
