// Keeps what an optimizer reports.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "src/core/metric_sink.h"

namespace kiln::tests {

class Recorder : public MetricSink {
 public:
  void record(std::string_view name, double value) override { values[std::string(name)] = value; }
  std::map<std::string, double> values;
};

}  // namespace kiln::tests
