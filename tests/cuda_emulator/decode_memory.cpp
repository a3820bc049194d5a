// ld, st, atom, red, cp.async, discard, fences and prefetches.
#include <fmt/format.h>

#include "tests/cuda_emulator/async_copies.h"
#include "tests/cuda_emulator/decode.h"

namespace kiln::emulator {

namespace {

void only_access_modifiers(const Statement& s) {
  only_modifiers(s, {"global",
                     "shared",
                     "shared::cta",
                     "local",
                     "param",
                     "const",
                     "v2",
                     "v4",
                     "nc",
                     "ca",
                     "cg",
                     "cs",
                     "lu",
                     "cv",
                     "wb",
                     "wt",
                     "volatile",
                     "relaxed",
                     "acquire",
                     "release",
                     "weak",
                     "cta",
                     "gpu",
                     "sys",
                     "L1::no_allocate",
                     "L1::evict_last",
                     "L1::evict_first",
                     "L1::evict_normal",
                     "L1::evict_unchanged",
                     "L2::64B",
                     "L2::128B",
                     "L2::256B"});
}

Space space_of_statement(const Statement& s) {
  if (s.has("shared") || s.has("shared::cta")) return Space::kShared;
  if (s.has("local")) return Space::kLocal;
  if (s.has("param")) return Space::kParam;
  return s.has("global") || s.has("const") ? Space::kGlobal : Space::kGeneric;
}

Access access_of(const Statement& s, Type type) {
  Access access;
  access.space = space_of_statement(s);
  access.element = static_cast<uint8_t>(bytes_of(type));
  access.count = s.has("v4") ? 4 : s.has("v2") ? 2 : 1;
  access.sign_extends = is_signed(type);
  access.read_only = s.has("nc");
  access.block_scope = s.has("cta");
  // Not volatile: to the ISA that is strong too, to CUDA C++ it is a race like any other.
  access.strong = s.has("relaxed") || s.has("acquire") || s.has("release");
  return access;
}

void set_address(const Operand& operand, Rows& rows, Op& op) {
  const Rows::Address address = rows.address(operand);
  op.a = address.base;
  op.offset = address.offset;
  op.access.narrow_address = address.narrow;
}

// The registers of a load or store, all of one width, no narrower than the element.
void set_values(const Operand& value, Rows& rows, Kernel& kernel, Op& op, bool loads) {
  const std::vector<Operand> single{value};
  const bool is_vector = value.kind == Operand::Kind::kVector;
  const std::vector<Operand>& parts = is_vector ? value.parts : single;
  if (parts.size() != op.access.count) throw UnsupportedInstruction("of that many operands");
  Detail& detail = kernel.details.emplace_back();
  int width = 0;
  for (const Operand& part : parts) {
    if (part.kind == Operand::Kind::kRegister) width = rows.width_of(part);
  }
  if (width == 0) width = op.access.element;
  if (width < op.access.element) throw UnsupportedInstruction("of registers narrower than the type");
  for (const Operand& part : parts) {
    const bool nothing = loads && part.kind == Operand::Kind::kNothing;
    if (part.kind == Operand::Kind::kRegister && rows.width_of(part) != width) {
      throw UnsupportedInstruction("of registers of different widths");
    }
    detail.rows.push_back(nothing ? kNoRow
                          : loads ? rows.any_width_destination(part)
                                  : rows.any_width_source(part, width));
  }
  op.access.width = static_cast<uint8_t>(width);
  op.d = detail.rows[0];
  op.detail = &detail;
}

bool decode_atomic(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  constexpr std::pair<std::string_view, AtomicKind> kKinds[] = {
      {"add", AtomicKind::kAdd},       {"min", AtomicKind::kMin},         {"max", AtomicKind::kMax},
      {"and", AtomicKind::kAnd},       {"or", AtomicKind::kOr},           {"xor", AtomicKind::kXor},
      {"exch", AtomicKind::kExchange}, {"cas", AtomicKind::kCompareSwap}, {"inc", AtomicKind::kIncrement},
      {"dec", AtomicKind::kDecrement}};
  only_modifiers(s, {"global", "shared", "shared::cta", "relaxed", "acquire", "release", "acq_rel",
                     "cta",    "gpu",    "sys",         "noftz",   "add",     "min",     "max",
                     "and",    "or",     "xor",         "exch",    "cas",     "inc",     "dec"});
  const bool returns = s.opcode == "atom";
  const Type type = s.type();
  bool found = false;
  for (const auto& [name, kind] : kKinds) {
    if (!s.has(name)) continue;
    op.small = static_cast<uint8_t>(kind);
    found = true;
  }
  const bool is_float = type == Type::kF32 || type == Type::kF64 || type == Type::kF16 ||
                        type == Type::kBf16 || type == Type::kF16x2 || type == Type::kBf16x2;
  if (!found || type == Type::kNone || (is_float && !s.has("add")))
    throw UnsupportedInstruction("of that form");
  op.access = access_of(s, type);
  set_address(operand(s, returns ? 1 : 0), rows, op);
  const size_t first = returns ? 2 : 1;
  op.b = rows.source(operand(s, first), type);
  if (s.has("cas")) op.c = rows.source(operand(s, first + 1), type);
  if (returns && operand(s, 0).kind != Operand::Kind::kNothing) op.d = rows.destination(operand(s, 0), type);
  op.access.width = op.access.element;
  Detail& detail = kernel.details.emplace_back();
  detail.type = type;
  op.detail = &detail;
  op.collective = run_atomic;
  return true;
}

bool decode_copy_async(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  if (!s.has("async") || s.has("bulk") || s.has("mbarrier")) throw UnsupportedInstruction("of that form");
  if (s.has("commit_group")) {
    op.collective = run_commit_copies;
    return true;
  }
  if (s.has("wait_group") || s.has("wait_all")) {
    op.collective = run_wait_copies;
    op.offset = s.has("wait_all") ? -1 : static_cast<int64_t>(operand(s, 0).bits);
    return true;
  }
  only_modifiers(s,
                 {"async", "ca", "cg", "shared", "shared::cta", "global", "L2::64B", "L2::128B", "L2::256B"});
  op.access.element = static_cast<uint8_t>(operand(s, 2).bits);
  const bool small = (op.access.element == 4 || op.access.element == 8) && s.has("ca");
  if (!small && op.access.element != 16) {
    throw UnsupportedInstruction("of that size");
  }
  set_address(operand(s, 0), rows, op);
  const Rows::Address from = rows.address(operand(s, 1));
  if (from.narrow) throw UnsupportedInstruction("of a 32-bit source address");
  op.b = from.base;
  if (s.operands.size() > 3) op.c = rows.source(operand(s, 3), Type::kU32);
  Detail& detail = kernel.details.emplace_back();
  detail.from_offset = from.offset;
  op.detail = &detail;
  op.collective = run_copy_async;
  return true;
}

bool decode_discard(const Statement& s, Rows& rows, Op& op) {
  if (operand(s, 1).bits != kDiscardedBytes) throw UnsupportedInstruction("of that size");
  op.kind = OpKind::kMemory;
  op.access.space = space_of_statement(s);
  set_address(operand(s, 0), rows, op);
  op.collective = run_discard;
  return true;
}

}  // namespace

bool decode_memory(const Statement& s, Rows& rows, Kernel& kernel, Op& op) {
  // Fences order what the emulator executes in order anyway; between blocks they create no order that it knows of.
  if (s.opcode == "membar" || s.opcode == "fence" || s.opcode == "prefetch" || s.opcode == "nanosleep" ||
      s.opcode == "prefetchu") {
    op.kind = OpKind::kNothing;
    return true;
  }
  if (s.opcode == "discard") return decode_discard(s, rows, op);
  const bool loads = s.opcode == "ld" || s.opcode == "ldu";
  op.kind = OpKind::kMemory;
  if (s.opcode == "atom" || s.opcode == "red") return decode_atomic(s, rows, kernel, op);
  if (s.opcode == "cp") return decode_copy_async(s, rows, kernel, op);
  if (!loads && s.opcode != "st") return false;
  only_access_modifiers(s);
  const bool needs_scope = s.has("relaxed") || s.has("acquire") || s.has("release");
  if (needs_scope != (s.has("cta") || s.has("gpu") || s.has("sys")))
    throw UnsupportedInstruction(needs_scope ? "without a scope" : "with a scope, but of no order");
  const Type type = s.type();
  if (bytes_of(type) == 0 || bytes_of(type) > 8) throw UnsupportedInstruction("of that type");
  op.access = access_of(s, type);
  set_address(operand(s, loads ? 1 : 0), rows, op);
  set_values(operand(s, loads ? 0 : 1), rows, kernel, op, loads);
  op.collective = !loads ? run_store : op.access.space == Space::kParam ? run_load_parameter : run_load;
  return true;
}

}  // namespace kiln::emulator
