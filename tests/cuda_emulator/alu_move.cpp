// mov in all its forms, and cvta, PTX ISA 9.7.9.
#include "tests/cuda_emulator/decode.h"
#include "tests/cuda_emulator/memory.h"
#include "tests/cuda_emulator/rows.h"

namespace kiln::emulator {

namespace {

// mov.b64 {%r1, %r2}, %rd1: rows of E from one row of W, the lowest bits first.
template <class W, class E>
void run_unpack(Registers r, const Op& op, uint32_t mask) {
  W whole[kLanes];
  __builtin_memcpy(whole, row<const W>(r, op.a), sizeof whole);
  for (size_t part = 0; part < op.detail->rows.size(); ++part) {
    if (op.detail->rows[part] == kNoRow) continue;
    E* d = row<E>(r, op.detail->rows[part]);
    const uint32_t shift = static_cast<uint32_t>(8 * sizeof(E) * part);
#pragma GCC ivdep
    for (int l = 0; l < kLanes; ++l) d[l] = mask >> l & 1 ? static_cast<E>(whole[l] >> shift) : d[l];
  }
}

// mov.b32 %r1, {%rs1, %rs2}
template <class W, class E>
void run_pack(Registers r, const Op& op, uint32_t) {
  W whole[kLanes] = {};
  for (size_t part = 0; part < op.detail->rows.size(); ++part) {
    const E* a = row<const E>(r, op.detail->rows[part]);
    const uint32_t shift = static_cast<uint32_t>(8 * sizeof(E) * part);
    for (int l = 0; l < kLanes; ++l) whole[l] |= static_cast<W>(static_cast<W>(a[l]) << shift);
  }
  __builtin_memcpy(row<W>(r, op.d), whole, sizeof whole);
}

template <class W>
AluFunction pack_or_unpack(bool unpacks, int part_bytes) {
  if (part_bytes == 2) return unpacks ? run_unpack<W, uint16_t> : run_pack<W, uint16_t>;
  if (part_bytes == 4) return unpacks ? run_unpack<W, uint32_t> : run_pack<W, uint32_t>;
  return nullptr;
}

void decode_vector_move(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  const bool unpacks = operand(s, 0).kind == Operand::Kind::kVector;
  const Operand& vector = operand(s, unpacks ? 0 : 1);
  const Type type = s.type();
  const int whole = bytes_of(type), part = whole / static_cast<int>(vector.parts.size());
  if (part != 2 && part != 4) throw UnsupportedInstruction("of parts of that size");
  const Type part_type = part == 2 ? Type::kB16 : Type::kB32;
  Detail& detail = kernel.details.emplace_back();
  for (const Operand& each : vector.parts) {
    const bool nothing = each.kind == Operand::Kind::kNothing;
    detail.rows.push_back(nothing   ? kNoRow
                          : unpacks ? rows.destination(each, part_type)
                                    : rows.source(each, part_type));
  }
  op.detail = &detail;
  op.kind = unpacks ? OpKind::kMasked : OpKind::kRow;
  op.width = static_cast<uint8_t>(whole);
  op.run = whole == 4   ? pack_or_unpack<uint32_t>(unpacks, part)
           : whole == 8 ? pack_or_unpack<uint64_t>(unpacks, part)
                        : nullptr;
  if (op.run == nullptr) throw UnsupportedInstruction("of that type");
  if (unpacks) op.a = rows.source(operand(s, 1), type);
  if (!unpacks) op.d = rows.destination(operand(s, 0), type);
}

AluFunction copy(int width) {
  switch (width) {
    case 2:
      return unary<uint16_t, uint16_t>([](uint16_t a) { return a; });
    case 4:
      return unary<uint32_t, uint32_t>([](uint32_t a) { return a; });
    case 8:
      return unary<uint64_t, uint64_t>([](uint64_t a) { return a; });
    default:
      return nullptr;
  }
}

// cvta.shared.u64: an offset in the block's shared memory to a generic address; cvta.to.shared.u64 back. What
// cvta.to yields for an address of another space is undefined; here it becomes one that no access can use.
bool decode_generic_address(const Statement& s, Rows& rows, Op& op) {
  only_modifiers(s, {"to", "global", "shared", "shared::cta", "local", "param", "const"});
  const Type type = s.type();
  op.kind = OpKind::kRow;
  op.width = static_cast<uint8_t>(bytes_of(type));
  op.d = rows.destination(operand(s, 0), type);
  op.a = rows.source(operand(s, 1), type);
  op.run = copy(bytes_of(type));
  const bool shared = s.has("shared") || s.has("shared::cta");
  if (!shared && !s.has("local") && !s.has("param")) return true;
  if (bytes_of(type) != 8) throw UnsupportedInstruction("of 32-bit addresses");
  const uint64_t base = window_base(shared ? Space::kShared : s.has("local") ? Space::kLocal : Space::kParam);
  op.b = rows.constant(s.has("to") ? ~base + 1 : base, 8);
  op.run = binary<uint64_t, uint64_t, uint64_t>([](uint64_t a, uint64_t b) { return a + b; });
  return true;
}

// isspacep.shared p, a
void run_is_space(Registers r, const Op& op, uint32_t mask) {
  const uint64_t* a = row<const uint64_t>(r, op.a);
  uint32_t result = 0;
  for (int l = 0; l < kLanes; ++l) {
    result |= (space_of(a[l]) == static_cast<Space>(op.small) ? 1u : 0u) << l;
  }
  uint32_t& d = mask_row(r, op.d);
  d = (d & ~mask) | (result & mask);
}

}  // namespace

bool decode_move(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  if (s.opcode == "cvta") return decode_generic_address(s, rows, op);
  if (s.opcode == "isspacep") {
    op.kind = OpKind::kMasked;
    op.run = run_is_space;
    const Space space = s.has("global")  ? Space::kGlobal
                        : s.has("local") ? Space::kLocal
                        : s.has("param") ? Space::kParam
                                         : Space::kShared;
    op.small = static_cast<uint8_t>(space);
    op.d = rows.predicate(operand(s, 0));
    op.a = rows.source(operand(s, 1), Type::kU64);
    return true;
  }
  if (s.opcode != "mov" || s.type() == Type::kPred) return false;
  only_modifiers(s, {});
  if (operand(s, 0).kind == Operand::Kind::kVector || operand(s, 1).kind == Operand::Kind::kVector) {
    decode_vector_move(s, rows, kernel, op);
    return true;
  }
  const Type type = s.type();
  op.kind = OpKind::kRow;
  op.width = static_cast<uint8_t>(bytes_of(type));
  op.run = copy(bytes_of(type));
  if (op.run == nullptr) throw UnsupportedInstruction("of that type");
  op.d = rows.destination(operand(s, 0), type);
  op.a = rows.source(operand(s, 1), type);
  return true;
}

}  // namespace kiln::emulator
