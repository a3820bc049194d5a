// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kiln {

enum class DType : uint8_t { f32, bf16 };
inline constexpr int kDTypes = 2;

constexpr size_t size_of(DType t) {
  return t == DType::f32 ? 4 : 2;
}
constexpr std::string_view name_of(DType t) {
  return t == DType::f32 ? "f32" : "bf16";
}

}  // namespace kiln
