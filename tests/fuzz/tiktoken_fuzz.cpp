// The same for tiktoken rank files.
#include "tests/fuzz/fuzz.h"

#include "data/tokenizer_files.h"
#include "tests/fuzz/round_trip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kiln::fuzz::expect_error_or_success([&] {
    const std::string_view content(reinterpret_cast<const char*>(data), size);
    kiln::fuzz::round_trip(
        *kiln::data::make_bpe(kiln::data::read_tiktoken(content, "x.tiktoken"), "x.tiktoken"));
  });
  return 0;
}
