// Where the rooms below the trainer drop numbers worth recording (norms, eigenvalue ranges, counters, times).
#pragma once

#include <string_view>

namespace kiln {

class MetricSink {
 public:
  virtual ~MetricSink() = default;
  virtual void record(std::string_view name, double value) = 0;
};

}  // namespace kiln
