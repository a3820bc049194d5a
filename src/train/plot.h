// A small picture of curves, in letters, for a terminal.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace kiln::train {

struct Curve {
  char mark;
  std::vector<std::pair<double, double>> points;  // x, y; x >= 0
};

enum class Scale { linear, logarithmic };  // of y

// `rows` lines of `columns` characters with their scales; x begins at 0. Where several curves meet stands the mark of
// the last one. "" when no point is finite (on a logarithmic scale: and positive).
std::string plot(const std::vector<Curve>& curves, int rows, int columns, Scale scale = Scale::linear);

}  // namespace kiln::train
