// The learning rate over a run: one multiplier that scales every group's own learning rate.
#pragma once

#include <cstdint>
#include <string>

namespace kiln::optim {

struct Schedule {
  std::string kind;           // "cosine", "linear", "wsd" or "constant"
  int64_t steps = 0;          // updates of the whole run
  int64_t warmup = 0;         // updates that the rise takes
  double final = 0;           // what cosine, linear and wsd fall to
  double decay_fraction = 0;  // wsd: the part of the run, at its end, in which it falls
};

// The multiplier of update `step`, counted from 0.
//   Warm-up: (step + 1) / warmup while step < warmup; its last update is the first with the full learning
//   rate. After it, with p = (step - warmup) / (steps - warmup):
//     cosine: final + (1 - final) (1 + cos(pi p)) / 2
//     linear: 1 - (1 - final) p
//     constant: 1
//     wsd: 1 up to update number steps - round(decay_fraction steps), or to the end of the warm-up if
//       that is later; from there 1 - (1 - final) sqrt(q), q growing from 0 to 1 as p does.
//   From step = steps on: final, or 1 for constant; it never rises again.
// wsd is "warmup, stable, decay" (Hu et al., arXiv 2404.06395) with the 1-sqrt decay of Haegele et al., arXiv
// 2405.18392. Throws Error(ExitCode::usage) for an unknown kind.
double multiplier(const Schedule& schedule, int64_t step);

}  // namespace kiln::optim
