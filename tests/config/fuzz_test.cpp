// Damaged configs: whatever the bytes, loading ends in a Config or in a kiln::Error that says something.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "src/config/load.h"
#include "src/config/positions.h"
#include "src/core/error.h"
#include "src/core/random.h"
#include "tests/config/valid.h"

namespace kiln::config {
namespace {

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed, hash_name("config mutants")) {}

  std::string mutate(std::string text) {
    static const std::vector<std::string> kTokens = {"{",
                                                     "}",
                                                     "[",
                                                     "]",
                                                     ",",
                                                     ":",
                                                     "\"",
                                                     "\\",
                                                     "/",
                                                     "null",
                                                     "true",
                                                     "-",
                                                     "0",
                                                     "1e999",
                                                     "1e-999",
                                                     "9",
                                                     ".",
                                                     "e",
                                                     "\\u",
                                                     "\\ud83d",
                                                     "\xff",
                                                     "\xc3",
                                                     "\xed\xa0\x80",
                                                     std::string(1, '\0'),
                                                     "\n",
                                                     "\t",
                                                     "\"notes\":",
                                                     "\"extends\": \".\",",
                                                     "\"lr\": 1,",
                                                     "99999999999999999999",
                                                     std::string(70, '['),
                                                     "\xef\xbb\xbf"};
    const uint64_t edits = 1 + draw(4);
    for (uint64_t i = 0; i < edits; i++) {
      const size_t at = draw(text.size() + 1), length = draw(std::min<size_t>(20, text.size() - at) + 1);
      switch (draw(5)) {
        case 0:
          text.erase(at, length);
          break;
        case 1:
          text.insert(at, text.substr(at, length));
          break;
        case 2:
          text.insert(at, 1, static_cast<char>(draw(256)));
          break;
        case 3:
          text.insert(at, kTokens[draw(kTokens.size())]);
          break;
        default:
          if (at < text.size()) text[at] = static_cast<char>(draw(256));
      }
    }
    return text;
  }

 private:
  size_t draw(size_t n) { return random_.block(count_++)[0] % n; }

  Random random_;
  uint64_t count_ = 0;
};

TEST(Fuzz, MutantsLoadOrAreRefused) {
  Mutator mutator(1);
  int accepted = 0;
  for (int i = 0; i < 20'000; i++) {
    const std::string text = mutator.mutate(kValid);
    try {
      const Config config = parse(text, "mutant.json");
      EXPECT_EQ(parse(to_json(config), "mutant.json"), config) << text;
      accepted++;
    } catch (const Error& e) {
      EXPECT_TRUE(std::string(e.what()).starts_with("mutant.json")) << e.what();
      EXPECT_FALSE(e.hint().empty()) << e.what();
      EXPECT_EQ(e.code(), ExitCode::usage) << e.what();
    }
  }
  EXPECT_GT(accepted, 100);  // or the mutants are all too broken to reach the later checks
  EXPECT_LT(accepted, 10'000);
}

TEST(Fuzz, OverridesSetOrAreRefused) {
  Mutator mutator(2);
  for (int i = 0; i < 3'000; i++) {
    const std::string text =
        mutator.mutate(i % 2 == 0 ? "optimizer.lr=0.001" : "sampling.prompt=\"Once \\u00e9\"");
    try {
      const Config config = parse(kValid, "x.json", {text});
      EXPECT_EQ(parse(to_json(config), "x.json"), config) << text;
    } catch (const Error& e) {
      EXPECT_TRUE(std::string(e.what()).starts_with("--set ")) << e.what();
      EXPECT_FALSE(e.hint().empty()) << e.what();
    }
  }
}

// What the scanner lets through, the JSON parser takes; what it refuses, the parser refuses too, unless it is
// one of the things that the scanner is stricter about.
TEST(Fuzz, ScannerAgreesWithTheParser) {
  Mutator mutator(3);
  for (int i = 0; i < 10'000; i++) {
    const std::string text = mutator.mutate(kValid);
    const bool is_json = nlohmann::json::accept(text);
    try {
      scan(text);
      EXPECT_TRUE(is_json) << text;
    } catch (const SyntaxError& e) {
      const std::string message = e.what();
      const bool is_stricter = message.find("given twice") != std::string::npos ||
                               message.find("nested deeper") != std::string::npos ||
                               message.find("64-bit float") != std::string::npos ||
                               text.find('\0') != std::string::npos;  // ends the text for the parser
      EXPECT_TRUE(!is_json || is_stricter) << message << "\n" << text;
    }
  }
}

}  // namespace
}  // namespace kiln::config
