// `kiln spectrum`: eigenvalues of the factors that KL-Shampoo keeps in checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace kiln::train {

struct SpectrumOptions {
  std::optional<int64_t>
      rank;  // how many eigenvalues are no part of the tail; none: the config's metrics.tail_rank, or 128
  std::vector<std::string> matrices;   // only matrices whose name contains one of these; empty: all
  std::vector<std::string> overrides;  // of the checkpoint's config: device.threads=1
  std::function<void(int64_t done, int64_t total, const std::string& what)>
      progress;  // factors; may be empty
};

// Of S_a (left, m x m) or S_b (right, n x n) of an m x n matrix.
struct FactorSpectrum {
  int64_t n = 0, other = 0;  // its dimension and that of the other side
  int64_t rank = 0;          // at most n
  std::vector<float>
      values;              // descending; fp32's rounding makes those below some 1e-7 of the first mean little
  bool decomposed = true;  // false: it is not finite, and nothing below means anything
  double gap = 0, whole_gap = 0;  // log(AM/GM) of the tail and of all (optim/spectrum.h)
  double price =
      0;  // of one eigenvalue for the whole tail: other * (n - rank) / 2 * gap, nats of KL divergence a gradient
  double spike = 0;       // the largest eigenvalue over the tail's mean; 0 without a tail
  int64_t flat_from = 0;  // the least rank past which the tail is flat
};

// A tail is called flat where log(AM/GM) is at most this: its eigenvalues scatter by some 45 percent (the gap is
// half the variance of their logarithms). Our choice.
inline constexpr double kFlatGap = 0.1;

// "flat": all of it; "spikes+flat": some large eigenvalues, and a flat tail; "not flat": the tail is not; "no tail": rank
// >= n; "empty": all zero, there was no gradient yet; "broken": not finite.
std::string shape_of(const FactorSpectrum& factor);

struct MatrixSpectrum {
  std::string name;
  int64_t rows, cols;
  FactorSpectrum left, right;
};

struct CheckpointSpectrum {
  std::filesystem::path path;
  int64_t step;
  std::vector<MatrixSpectrum> matrices;  // in the order of the checkpoint
};

struct Spectra {
  int64_t rank;
  std::vector<CheckpointSpectrum> checkpoints;  // rising steps
};

// From descending eigenvalues.
FactorSpectrum describe_spectrum(std::vector<float> descending, int64_t other, int64_t rank);

// Of a checkpoint, or of all checkpoints that a run has kept. The optimizer's file is read once for its checksum and once for
// the factors; memory is planned from their shapes, a workspace for each thread, and refused where there is no room. Throws
// Error(ExitCode::data) for a checkpoint that is damaged (in a run: passed over with a warning, as long as another is whole),
// Error(ExitCode::usage) for one of another optimizer, or when no matrix has such a name.
Spectra spectra_of(const std::filesystem::path& path, const SpectrumOptions& options);

// A table with a line for each matrix, and pictures of the first `pictures` of them. For machines one JSON object.
std::string text_of(const Spectra& spectra, int64_t pictures);
std::string json_of(const Spectra& spectra);

}  // namespace kiln::train
