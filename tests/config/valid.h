// A small complete config that tests break in one place at a time.
#pragma once

#include <string>

namespace kiln::config {

inline const std::string kValid = R"({
  "model": { "family": "gpt2", "layers": 2, "width": 64, "heads": 4, "vocab": 257, "context": 32 },
  "data": { "train": "train_*.bin", "validation": "validation.bin" },
  "train": { "steps": 100, "micro_batch": 4 },
  "optimizer": { "lr": 0.001 }
})";

}  // namespace kiln::config
