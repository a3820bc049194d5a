// Prints how many instructions the emulator executes in a second of one processor, all checks on: LayerNorm forward,
// checked against fp64. Fails where that is fewer than the second argument says.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "tests/cuda_emulator/launch.h"
#include "tests/cuda_emulator/tests/device_array.h"
#include "tests/cuda_emulator/tests/layernorm.h"

using namespace kiln::emulator;
using kiln::emulator::testing::DeviceArray;

namespace {

constexpr int kRepeats = 5;

double largest_error(const std::vector<float>& out, const std::vector<float>& in, int rows, int columns) {
  double largest = 0;
  for (int r = 0; r < rows; ++r) {
    const float* x = in.data() + static_cast<size_t>(r) * static_cast<size_t>(columns);
    double mean = 0, variance = 0;
    for (int c = 0; c < columns; ++c) mean += static_cast<double>(x[c]) / columns;
    for (int c = 0; c < columns; ++c)
      variance += (static_cast<double>(x[c]) - mean) * (static_cast<double>(x[c]) - mean) / columns;
    const double rstd = 1 / std::sqrt(variance + 1e-5);
    for (int c = 0; c < columns; ++c) {
      const double expected = (static_cast<double>(x[c]) - mean) * rstd * (1 + 0.001 * c) + 0.5;
      const size_t at = static_cast<size_t>(r) * static_cast<size_t>(columns) + static_cast<size_t>(c);
      largest = std::max(largest, std::fabs(static_cast<double>(out[at]) - expected));
    }
  }
  return largest;
}

}  // namespace

int main(int argc, char** argv) {
  const int rows = argc > 1 ? std::atoi(argv[1]) : 2048, columns = 768;
  const double least = argc > 2 ? std::atof(argv[2]) : 0;
  std::vector<float> in(static_cast<size_t>(rows * columns)), weight(columns), bias(columns, 0.5f);
  for (size_t i = 0; i < in.size(); ++i) in[i] = std::sin(static_cast<float>(i) * 0.37f);
  for (int c = 0; c < columns; ++c) weight[static_cast<size_t>(c)] = static_cast<float>(1 + 0.001 * c);
  DeviceArray<float> x(in), w(weight), b(bias), y(in.size());
  DeviceArray<float> mean(static_cast<size_t>(rows)), rstd(static_cast<size_t>(rows));
  double best = 0;
  uint64_t executed = 0;
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const Counts before = counts();
    kiln::emulator::testing::layernorm_forward(y.data(), mean.data(), rstd.data(), x.data(), w.data(),
                                               b.data(), rows, columns, nullptr);
    cudaDeviceSynchronize();
    executed = counts().thread_instructions - before.thread_instructions;
    best = std::max(best, static_cast<double>(executed) / (counts().seconds - before.seconds));
  }
  const double error = largest_error(y.read(), in, rows, columns);
  std::fputs(
      fmt::format(
          "LayerNorm forward, {} rows of {}: {:.3g} thread instructions, {:.3g} a second of processor time "
          "(best of {}); largest error {:.2g}\n",
          rows, columns, static_cast<double>(executed), best, kRepeats, error)
          .c_str(),
      stdout);
  if (best < least) {
    std::fputs(fmt::format("too slow: at least {:.3g} a second are asked for\n", least).c_str(), stderr);
    return 1;
  }
  return error < 1e-4 ? 0 : 1;
}
