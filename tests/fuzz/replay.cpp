// Runs a harness on every file of its corpus: seeds, and what fuzzing once found. Usage: PROGRAM FOLDER
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/fuzz.h"

int main(int, char** argv) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    std::printf("%s, %zu bytes\n", entry.path().c_str(), content.size());
    std::fflush(stdout);  // which file it was, if this one ends the process
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(content.data()), content.size());
    files++;
  }
  return files > 0 ? 0 : 1;
}
