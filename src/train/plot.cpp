#include "src/train/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace kiln::train {

std::string plot(const std::vector<Curve>& curves, int rows, int columns, Scale scale) {
  const bool logarithmic = scale == Scale::logarithmic;
  const auto height_of = [&](double y) { return logarithmic ? std::log10(y) : y; };
  const double infinity = std::numeric_limits<double>::infinity();
  double low = infinity, high = -infinity, end = 0;
  const auto is_drawn = [&](const auto& p) {
    return std::isfinite(p.first) && std::isfinite(p.second) && (!logarithmic || p.second > 0);
  };
  for (const Curve& curve : curves) {
    for (const auto& p : curve.points) {
      if (!is_drawn(p)) continue;
      low = std::min(low, height_of(p.second));
      high = std::max(high, height_of(p.second));
      end = std::max(end, p.first);
    }
  }
  if (low > high) return {};
  // Halves: the distance between two numbers need not be one.
  const double half_height = std::max(high / 2 - low / 2, 0.5e-12), width = end > 0 ? end : 1;
  std::vector<std::string> grid(static_cast<size_t>(rows), std::string(static_cast<size_t>(columns), ' '));
  for (const Curve& curve : curves) {
    for (const auto& p : curve.points) {
      if (!is_drawn(p)) continue;
      const double row = std::round((high / 2 - height_of(p.second) / 2) / half_height * (rows - 1));
      const double column = std::round(p.first / width * (columns - 1));
      grid[static_cast<size_t>(row)][static_cast<size_t>(column)] = curve.mark;
    }
  }
  std::string text;
  for (int r = 0; r < rows; r++) {
    const std::string& line = grid[static_cast<size_t>(r)];
    const bool labelled = r == 0 || r == rows - 1 || r == rows / 2;
    const double down = static_cast<double>(r) / std::max(1, rows - 1);
    const double y = 2 * (high / 2 - half_height * down);
    const std::string label = !labelled     ? ""
                              : logarithmic ? fmt::format("{:.2e}", std::pow(10, y))
                                            : fmt::format("{:.3f}", y);
    text += fmt::format("{:>9} |{}\n", label, line.substr(0, line.find_last_not_of(' ') + 1));
  }
  text += fmt::format("{:>9} +{}\n", "", std::string(static_cast<size_t>(columns), '-'));
  return text + fmt::format("{:>12}{:>{}}\n", "0", fmt::format("{:.0f}", end), std::max(1, columns - 1));
}

}  // namespace kiln::train
