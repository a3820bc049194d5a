// How fast text becomes tokens on one core. Usage: kiln_bench_tokenizer [TOKENIZER [TEXT.txt]]: a tokenizer
// as in data.tokenizer and a text file; without them, a vocabulary of 4096 is trained on made-up text.
#include <benchmark/benchmark.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "data/bpe.h"
#include "data/pretokenizer.h"
#include "data/train_bpe.h"
#include "src/core/file.h"
#include "src/core/random.h"

namespace {

using namespace kiln;

// Words of which the n-th is about n times rarer than the first (Zipf), as in a language.
std::string made_up_text(size_t bytes) {
  const Random random(1, hash_name("made-up text"));
  uint64_t drawn = 0;
  std::vector<std::string> words;
  for (int i = 0; i < 30'000; i++) {
    std::string word;
    for (uint32_t n = 2 + random.block(drawn++)[0] % 9; n > 0; n--) {
      word += "etaoinshrdlucmfwypvbgkjqxz"[random.block(drawn)[1] % (1 + random.block(drawn)[2] % 26)];
      drawn++;
    }
    words.push_back(word);
  }
  std::string text;
  while (text.size() < bytes) {
    const double u = random.uniform(drawn++);
    const auto n = static_cast<size_t>(std::exp(u * std::log(static_cast<double>(words.size()))));
    text += words[std::min(n, words.size() - 1)];
    text += random.block(drawn++)[0] % 12 == 0 ? ".\n" : " ";
  }
  return text;
}

std::string text;
std::unique_ptr<data::Tokenizer> tokenizer;

void pretokenize(benchmark::State& state) {
  const data::Pretokenizer pretokenizer;
  data::Pretokens pretokens(pretokenizer);
  std::string_view piece;
  for (auto _ : state) {
    size_t pieces = 0;
    for (pretokens.start(text); pretokens.next(piece);) pieces++;
    benchmark::DoNotOptimize(pieces);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(pretokenize)->Unit(benchmark::kMillisecond);

void encode(benchmark::State& state) {
  std::vector<int32_t> tokens;
  for (auto _ : state) {
    tokens.clear();
    tokenizer->encode(text, tokens);
    benchmark::DoNotOptimize(tokens.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.counters["bytes/token"] = static_cast<double>(text.size()) / static_cast<double>(tokens.size());
}
BENCHMARK(encode)->Unit(benchmark::kMillisecond);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  text = argc > 2 ? read_file(argv[2]) : made_up_text(10'000'000);
  if (argc > 1) {
    tokenizer = data::open_tokenizer(argv[1]);
  } else {
    const auto path = std::filesystem::temp_directory_path() / "kiln_bench_tokenizer.txt";
    std::ofstream(path) << text;
    tokenizer = data::make_bpe(data::train_bpe(data::count_pretokens({.inputs = {path.string()}}, 0), 4096),
                               "trained");
    std::filesystem::remove(path);
  }
  benchmark::RunSpecifiedBenchmarks();
}
