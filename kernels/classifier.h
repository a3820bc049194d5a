// Softmax and cross-entropy over one chunk of rows of the LM head: the model calls it chunk by chunk, so that the full
// (B T, V) logits never exist.
#pragma once

#include <cstdint>

#include "src/core/dtype.h"

namespace kiln::kernels {

// losses[i] = log sum_{j<V} exp(logits[i,j]) - logits[i,target]; columns V .. Vp-1 are padding and take no part.
// With write_gradient the logits become their gradient: scale * (softmax - onehot(target)), padding columns 0.
// A target < 0 marks a row to ignore: loss 0, gradient 0.
struct SoftmaxCrossEntropy {
  void* logits;            // (rows, Vp) dtype, rows ld apart; in and out
  float* losses;           // (rows), nats
  const int32_t* targets;  // (rows), each < V
  int64_t rows, V, Vp, ld;
  float scale;
  bool write_gradient;
  DType dtype;
};

}  // namespace kiln::kernels
