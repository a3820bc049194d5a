// Every multiplication and factorisation that the libraries were asked for, in the order of the calls, for tests that
// count them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace kiln::emulator {

struct LibraryCall {
  std::string api = {};  // "cublasLtMatmul"
  int64_t m = 0, n = 0,
          k = 0;      // of op(A) (m, k) times op(B) (k, n), column-major; of a factorised matrix (m, n)
  int64_t count = 1;  // of matrices in the batch
  bool a_transposed = false, b_transposed = false;
  std::string a_type = {}, b_type = {}, out_type = {};  // "CUDA_R_16BF"
  std::string epilogue = {};                            // "BIAS"; empty where the call has none
  double alpha = 1, beta = 0;                           // NaN where they lie on the device
};

const std::vector<LibraryCall>& library_calls();
void clear_library_calls();
void log_call(LibraryCall call);

}  // namespace kiln::emulator
