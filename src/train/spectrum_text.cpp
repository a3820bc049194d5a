#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/train/plot.h"
#include "src/train/spectrum.h"

namespace kiln::train {
namespace {

constexpr size_t kMostCurves = 6;
constexpr int kPictureRows = 16, kPictureColumns = 96;

std::string side_text(const FactorSpectrum& f) {
  if (!f.decomposed) return fmt::format("{:>9} {:>8} {:>10} {:>6}  {:<11}", "-", "-", "-", "-", shape_of(f));
  return fmt::format("{:>9.3g} {:>8.4f} {:>10.4g} {:>6}  {:<11}", f.spike, f.gap, f.price, f.flat_from,
                     shape_of(f));
}

std::string table(const CheckpointSpectrum& c, size_t widest) {
  std::string side =
      fmt::format("{:>9} {:>8} {:>10} {:>6}  {:<11}", "spike", "gap", "price", "flat r", "spectrum");
  std::string text = fmt::format("{:<{}} {:>11} | S_a {} | S_b {}\n", "matrix", widest, "shape", side, side);
  for (const MatrixSpectrum& m : c.matrices) {
    text +=
        fmt::format("{:<{}} {:>11} | {:>3} {} | {:>3} {}\n", m.name, widest,
                    fmt::format("{} x {}", m.rows, m.cols), "", side_text(m.left), "", side_text(m.right));
  }
  for (size_t end = text.find(" \n"); end != std::string::npos; end = text.find(" \n")) text.erase(end, 1);
  return text;
}

// At most kMostCurves of them, the first and the last included.
std::vector<const CheckpointSpectrum*> spread_out(const std::vector<CheckpointSpectrum>& all) {
  std::vector<const CheckpointSpectrum*> some;
  const size_t count = std::min(all.size(), kMostCurves);
  for (size_t i = 0; i < count; i++)
    some.push_back(&all[count == 1 ? 0 : i * (all.size() - 1) / (count - 1)]);
  return some;
}

std::string picture(const Spectra& spectra, size_t matrix, bool left) {
  std::vector<Curve> curves{{'|', {}}};
  std::string marks;
  double least = 0, most = 0;
  int64_t rank = 0, n = 0;
  for (const CheckpointSpectrum* c : spread_out(spectra.checkpoints)) {
    if (matrix >= c->matrices.size()) continue;
    const FactorSpectrum& f = left ? c->matrices[matrix].left : c->matrices[matrix].right;
    if (!f.decomposed) continue;
    rank = f.rank, n = f.n;
    Curve curve{static_cast<char>('a' + curves.size() - 1), {}};
    for (size_t i = 0; i < f.values.size(); i++) {
      const auto value = static_cast<double>(f.values[i]);
      curve.points.emplace_back(static_cast<double>(i + 1), value);
      if (!(value > 0)) continue;
      least = least == 0 ? value : std::min(least, value);
      most = std::max(most, value);
    }
    marks += fmt::format(", {}: step {}", curve.mark, c->step);
    curves.push_back(std::move(curve));
  }
  if (most == 0) return {};
  for (int row = 0; rank < n && row < kPictureRows; row++) {  // between eigenvalues r and r + 1
    curves[0].points.emplace_back(
        static_cast<double>(rank) + 0.5,
        most * std::pow(least / most, static_cast<double>(row) / (kPictureRows - 1)));
  }
  return fmt::format("\n{} {}, {} eigenvalues, the largest first, logarithmic{}{}\n{}",
                     spectra.checkpoints.back().matrices[matrix].name, left ? "S_a" : "S_b", n,
                     rank < n ? fmt::format("; |: r = {}", rank) : "", marks,
                     plot(curves, kPictureRows, kPictureColumns, Scale::logarithmic));
}

}  // namespace

std::string text_of(const Spectra& spectra, int64_t pictures) {
  size_t widest = 6;
  for (const CheckpointSpectrum& c : spectra.checkpoints) {
    for (const MatrixSpectrum& m : c.matrices) widest = std::max(widest, m.name.size());
  }
  std::string text;
  for (const CheckpointSpectrum& c : spectra.checkpoints) {
    text += fmt::format("{}step {}, r = {} ({})\n{}", text.empty() ? "" : "\n", c.step, spectra.rank,
                        c.path.string(), table(c, widest));
  }
  text += fmt::format(
      "spike: largest eigenvalue over the mean of those past r; gap: log(AM/GM) of those past r; price: m (n "
      "- r) / 2 * gap,\n"
      "nats that one eigenvalue for all of them costs (n this side, m the other); flat r: past which the gap "
      "is at most {:g}\n",
      kFlatGap);
  const size_t matrices = spectra.checkpoints.back().matrices.size();
  const size_t drawn = std::min(matrices, static_cast<size_t>(pictures));
  for (size_t i = 0; i < drawn; i++) text += picture(spectra, i, true) + picture(spectra, i, false);
  if (drawn > 0 && drawn < matrices) {
    text += fmt::format("\n{} matrices are not drawn: --pictures N draws more, --matrix NAME chooses\n",
                        matrices - drawn);
  }
  return text;
}

}  // namespace kiln::train
