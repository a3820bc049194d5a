// mma.sync and ldmatrix with the lane layouts of the PTX ISA, 9.7.14.5.
#include <cstring>

#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/memory_ops.h"
#include "tests/cuda_emulator/rows.h"
#include "tests/cuda_emulator/small_floats.h"

namespace kiln::emulator {

namespace {

constexpr int kM = 16, kN = 8;

// Lane l holds of every fragment the elements of row l/4 (and 8 below it) and columns 2(l%4), 2(l%4)+1 (and 8 further).
struct Place2 {
  int major, minor;
};
Place2 pair_of_lane(int lane) {
  return {lane >> 2, 2 * (lane & 3)};
}

template <float (*kDecode)(uint16_t)>
void unpack_a(Registers r, const std::vector<uint32_t>& rows, float (&a)[kM][16]) {
  for (size_t part = 0; part < rows.size(); ++part) {
    const uint32_t* from = row<const uint32_t>(r, rows[part]);
    const int down = part & 1 ? 8 : 0, right = part & 2 ? 8 : 0;
    for (int l = 0; l < kLanes; ++l) {
      const Place2 at = pair_of_lane(l);
      a[at.major + down][at.minor + right] = kDecode(static_cast<uint16_t>(from[l]));
      a[at.major + down][at.minor + right + 1] = kDecode(static_cast<uint16_t>(from[l] >> 16));
    }
  }
}

template <float (*kDecode)(uint16_t)>
void unpack_b(Registers r, const std::vector<uint32_t>& rows, float (&b)[16][kN]) {
  for (size_t part = 0; part < rows.size(); ++part) {
    const uint32_t* from = row<const uint32_t>(r, rows[part]);
    for (int l = 0; l < kLanes; ++l) {
      const Place2 at = pair_of_lane(l);
      const int k = at.minor + (part == 1 ? 8 : 0);
      b[k][at.major] = kDecode(static_cast<uint16_t>(from[l]));
      b[k + 1][at.major] = kDecode(static_cast<uint16_t>(from[l] >> 16));
    }
  }
}

// Accumulators are four rows of fp32 or two rows of f16 pairs.
void unpack_c(Registers r, const std::vector<uint32_t>& rows, float (&c)[kM][kN]) {
  for (int l = 0; l < kLanes; ++l) {
    const Place2 at = pair_of_lane(l);
    for (int part = 0; part < 4; ++part) {
      float& element = c[at.major + (part & 2 ? 8 : 0)][at.minor + (part & 1)];
      if (rows.size() == 4) {
        element = row<const float>(r, rows[static_cast<size_t>(part)])[l];
      } else {
        const uint32_t pair = row<const uint32_t>(r, rows[static_cast<size_t>(part / 2)])[l];
        element = half_to_float(static_cast<uint16_t>(part & 1 ? pair >> 16 : pair));
      }
    }
  }
}

void pack_d(Registers r, const std::vector<uint32_t>& rows, const float (&c)[kM][kN]) {
  for (int l = 0; l < kLanes; ++l) {
    const Place2 at = pair_of_lane(l);
    for (int half = 0; half < 2; ++half) {
      const float* pair = &c[at.major + 8 * half][at.minor];
      if (rows.size() == 4) {
        row<float>(r, rows[static_cast<size_t>(2 * half)])[l] = pair[0];
        row<float>(r, rows[static_cast<size_t>(2 * half + 1)])[l] = pair[1];
      } else {
        row<uint32_t>(r, rows[static_cast<size_t>(half)])[l] =
            uint32_t{float_to_half(pair[1])} << 16 | float_to_half(pair[0]);
      }
    }
  }
}

// Products of 16-bit numbers are exact in fp32; they are added in the order of k. What hardware does inside is not
// documented.
template <float (*kDecode)(uint16_t)>
void run_mma(Warp& warp, const Op& op, uint32_t) {
  const Registers r = warp.registers();
  const int depth = op.small;
  float a[kM][16], b[16][kN], c[kM][kN];
  unpack_a<kDecode>(r, op.detail->a_rows, a);
  unpack_b<kDecode>(r, op.detail->b_rows, b);
  unpack_c(r, op.detail->c_rows, c);
  for (int m = 0; m < kM; ++m) {
    for (int k = 0; k < depth; ++k) {
      for (int n = 0; n < kN; ++n) c[m][n] += a[m][k] * b[k][n];
    }
  }
  pack_d(r, op.detail->rows, c);
}

// Tile i comes from the rows that lanes 8i..8i+7 point to, 16 bytes each. Lane l gets elements 2(l%4), 2(l%4)+1 of row
// l/4, or with .trans of column l/4. A cell counts as read by a lane that receives of it.
void run_ldmatrix(Warp& warp, const Op& op, uint32_t) {
  const Registers r = warp.registers();
  const Addresses at = addresses_of(warp, op.a, op.offset, op.access.narrow_address);
  const Clock clock = warp.shared_clock();
  const bool transposed = op.small != 0;
  for (size_t tile = 0; tile < op.detail->rows.size(); ++tile) {
    uint16_t elements[8][8];
    for (int i = 0; i < 8; ++i) {
      const int pointing = static_cast<int>(tile) * 8 + i;
      const Place place =
          resolve(warp, pointing, Space::kShared, at[static_cast<size_t>(pointing)], 16, Verb::kReads);
      for (int pair = 0; pair < 4; ++pair) {
        const int receiving = transposed ? 8 * pair + i / 2 : 4 * i + pair;
        LaneAccess access = lane_access(place, 4, receiving);
        access.offset += static_cast<size_t>(4 * pair);
        check_read(warp, clock, access);
      }
      std::memcpy(elements[i], place.data, sizeof elements[i]);
    }
    uint32_t* d = row<uint32_t>(r, op.detail->rows[tile]);
    for (int l = 0; l < kLanes; ++l) {
      const Place2 where = pair_of_lane(l);
      const uint16_t low =
          transposed ? elements[where.minor][where.major] : elements[where.major][where.minor];
      const uint16_t high =
          transposed ? elements[where.minor + 1][where.major] : elements[where.major][where.minor + 1];
      d[l] = uint32_t{high} << 16 | low;
    }
  }
}

std::vector<uint32_t> rows_of(const Operand& vector, Rows& rows, size_t count, Type type, bool writes) {
  if (vector.kind != Operand::Kind::kVector || vector.parts.size() != count) {
    throw UnsupportedInstruction("with an operand of another size");
  }
  std::vector<uint32_t> made;
  for (const Operand& part : vector.parts) {
    made.push_back(writes ? rows.destination(part, type) : rows.source(part, type));
  }
  return made;
}

bool decode_mma(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  only_modifiers(s, {"sync", "aligned", "m16n8k16", "m16n8k8", "row", "col"});
  const std::vector<Type> types = s.types();
  const bool deep = s.has("m16n8k16");
  if ((!deep && !s.has("m16n8k8")) || types.size() != 4 || !s.has("row") || !s.has("col")) {
    throw UnsupportedInstruction("of that shape");
  }
  const bool brain = types[1] == Type::kBf16;
  const bool half_sums = types[0] == Type::kF16;
  const bool known = (brain || types[1] == Type::kF16) && types[2] == types[1] && types[3] == types[0] &&
                     (types[0] == Type::kF32 || (half_sums && !brain));
  if (!known) throw UnsupportedInstruction("of those types");
  Detail& detail = kernel.details.emplace_back();
  const size_t sums = half_sums ? 2 : 4;
  const Type sum_type = half_sums ? Type::kB32 : Type::kF32;
  detail.rows = rows_of(operand(s, 0), rows, sums, sum_type, true);
  detail.a_rows = rows_of(operand(s, 1), rows, deep ? 4 : 2, Type::kB32, false);
  const Operand& b = operand(s, 2);
  if (deep || b.kind == Operand::Kind::kVector) {
    detail.b_rows = rows_of(b, rows, deep ? 2 : 1, Type::kB32, false);
  } else {
    detail.b_rows = {rows.source(b, Type::kB32)};
  }
  detail.c_rows = rows_of(operand(s, 3), rows, sums, sum_type, false);
  op.detail = &detail;
  op.small = deep ? 16 : 8;
  op.collective = brain ? run_mma<brain_to_float> : run_mma<half_to_float>;
  return true;
}

bool decode_ldmatrix(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  only_modifiers(s, {"sync", "aligned", "m8n8", "x1", "x2", "x4", "trans", "shared", "shared::cta"});
  const size_t tiles = s.has("x4") ? 4 : s.has("x2") ? 2 : 1;
  Detail& detail = kernel.details.emplace_back();
  const Operand& to = operand(s, 0);
  detail.rows = to.kind == Operand::Kind::kVector ? rows_of(to, rows, tiles, Type::kB32, true)
                                                  : std::vector<uint32_t>{rows.destination(to, Type::kB32)};
  if (detail.rows.size() != tiles) throw UnsupportedInstruction("of that many registers");
  const Rows::Address address = rows.address(operand(s, 1));
  op.a = address.base;
  op.offset = address.offset;
  op.access.narrow_address = address.narrow;
  op.small = s.has("trans");
  op.detail = &detail;
  op.collective = run_ldmatrix;
  return true;
}

}  // namespace

bool decode_matrix(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  op.kind = OpKind::kCollective;
  if (s.opcode == "mma") return decode_mma(s, rows, kernel, op);
  if (s.opcode == "ldmatrix") return decode_ldmatrix(s, rows, kernel, op);
  return false;
}

}  // namespace kiln::emulator
