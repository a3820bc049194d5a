// The names of cuBLAS's statuses, with the real library's words (of 13.1).
#include <cublasLt.h>
#include <cublas_v2.h>

#include <algorithm>
#include <iterator>

namespace {

struct StatusText {
  cublasStatus_t status;
  const char *name, *text;
};

constexpr StatusText kUnknown{CUBLAS_STATUS_SUCCESS, "unrecognized status", "unrecognized status"};
constexpr StatusText kStatuses[] = {
    {CUBLAS_STATUS_SUCCESS, "CUBLAS_STATUS_SUCCESS", "success"},
    {CUBLAS_STATUS_NOT_INITIALIZED, "CUBLAS_STATUS_NOT_INITIALIZED", "the library was not initialized"},
    {CUBLAS_STATUS_ALLOC_FAILED, "CUBLAS_STATUS_ALLOC_FAILED", "the resource allocation failed"},
    {CUBLAS_STATUS_INVALID_VALUE, "CUBLAS_STATUS_INVALID_VALUE",
     "an unsupported value or parameter was passed to the function"},
    {CUBLAS_STATUS_ARCH_MISMATCH, "CUBLAS_STATUS_ARCH_MISMATCH",
     "the function requires an architectural feature absent from the device"},
    {CUBLAS_STATUS_EXECUTION_FAILED, "CUBLAS_STATUS_EXECUTION_FAILED",
     "the function failed to launch on the GPU"},
    {CUBLAS_STATUS_INTERNAL_ERROR, "CUBLAS_STATUS_INTERNAL_ERROR", "an internal operation failed"},
    {CUBLAS_STATUS_NOT_SUPPORTED, "CUBLAS_STATUS_NOT_SUPPORTED",
     "the requested functionality is not supported"},
};

const StatusText& text_of(cublasStatus_t status) {
  const auto found = std::find_if(std::begin(kStatuses), std::end(kStatuses),
                                  [&](const StatusText& each) { return each.status == status; });
  return found == std::end(kStatuses) ? kUnknown : *found;
}

}  // namespace

extern "C" {

const char* cublasGetStatusName(cublasStatus_t status) {
  return text_of(status).name;
}

const char* cublasGetStatusString(cublasStatus_t status) {
  return text_of(status).text;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return text_of(status).name;
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return text_of(status).text;
}

}  // extern "C"
