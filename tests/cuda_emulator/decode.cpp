#include "tests/cuda_emulator/decode.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cfenv>
#include <cstdlib>
#include <utility>

#include "tests/cuda_emulator/forms.h"
#include "tests/cuda_emulator/shadow.h"

namespace kiln::emulator {

namespace {

constexpr uint32_t kSharedGap = 64;  // bytes between two shared variables, which belong to neither
constexpr uint32_t kParameterGap = 64;

constexpr std::pair<std::string_view, Special> kSpecials[] = {
    {"%tid.x", Special::kTidX},
    {"%tid.y", Special::kTidY},
    {"%tid.z", Special::kTidZ},
    {"%ntid.x", Special::kNtidX},
    {"%ntid.y", Special::kNtidY},
    {"%ntid.z", Special::kNtidZ},
    {"%ctaid.x", Special::kCtaidX},
    {"%ctaid.y", Special::kCtaidY},
    {"%ctaid.z", Special::kCtaidZ},
    {"%nctaid.x", Special::kNctaidX},
    {"%nctaid.y", Special::kNctaidY},
    {"%nctaid.z", Special::kNctaidZ},
    {"%laneid", Special::kLaneId},
    {"%lanemask_eq", Special::kMaskEq},
    {"%lanemask_lt", Special::kMaskLt},
    {"%lanemask_le", Special::kMaskLe},
    {"%lanemask_gt", Special::kMaskGt},
    {"%lanemask_ge", Special::kMaskGe},
    {"%dynamic_smem_size", Special::kDynamicShared},
    {"%total_smem_size", Special::kTotalShared},
};

// An immediate as the bits of an element of that type.
uint64_t immediate_bits(const Operand& operand, Type type) {
  const bool is_float = type == Type::kF32 || type == Type::kF64;
  if (operand.literal == Operand::Literal::kInteger) {
    if (!is_float) return operand.bits;
    throw UnsupportedInstruction("an integer where a float belongs");
  }
  if (operand.literal == Operand::Literal::kFloat32) return operand.bits;
  if (type == Type::kF32) {
    return std::bit_cast<uint32_t>(static_cast<float>(std::bit_cast<double>(operand.bits)));
  }
  return operand.bits;
}

std::string demangled(const std::string& name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string shown = status == 0 ? text : name;
  std::free(text);
  return shown;
}

// Whether the name stands in the text, not only as a part of another.
bool names(std::string_view text, std::string_view name) {
  const auto is_part = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || c == '%';
  };
  for (size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    if ((at == 0 || !is_part(text[at - 1])) && (end == text.size() || !is_part(text[end]))) return true;
  }
  return false;
}

bool is_dynamic(const Variable& variable) {
  return variable.space == Variable::Space::kShared && variable.bytes == 0;
}

bool decode_control(const Statement& s, const FunctionText& function, Rows& rows, Kernel& kernel, Op& op) {
  const auto find_label = [&](std::string_view name) {
    const auto found = function.labels.find(name);
    if (found == function.labels.end()) throw PtxError(fmt::format("no label {}", name));
    return static_cast<uint32_t>(found->second);
  };
  if (s.opcode == "bra") {
    op.kind = OpKind::kBranch;
    op.target = find_label(operand(s, 0).name);
    return true;
  }
  if (s.opcode == "brx") {
    op.kind = OpKind::kBranchIndexed;
    op.a = rows.source(operand(s, 0), Type::kU32);
    Detail& detail = kernel.details.emplace_back();
    const auto found = function.branch_targets.find(operand(s, 1).name);
    if (found == function.branch_targets.end()) throw PtxError("brx.idx without its .branchtargets");
    for (const std::string_view label : found->second) detail.targets.push_back(find_label(label));
    op.detail = &detail;
    return true;
  }
  if (s.opcode == "ret" || s.opcode == "exit") {
    op.kind = OpKind::kExit;
    return true;
  }
  if (s.opcode == "trap" || s.opcode == "brkpt" ||
      (s.opcode == "call" && s.text.find("__assertfail") != std::string_view::npos)) {
    op.kind = OpKind::kTrap;
    return true;
  }
  return false;
}

void decode_statement(const Statement& s, const FunctionText& function, Rows& rows, Kernel& kernel, Op& op) {
  if (s.guard >= 0) {
    op.guard = rows.of_register(s.guard);
    op.guard_negated = s.guard_negated;
  }
  const Op guarded = op;
  const auto is_decoded = [&] {
    if (decode_control(s, function, rows, kernel, op)) return true;
    for (const auto decode :
         {decode_move, decode_memory, decode_integer, decode_float, decode_half, decode_compare,
          decode_convert, decode_bits, decode_collective, decode_matrix}) {
      if (decode(s, rows, kernel, op)) return true;
    }
    return false;
  };
  try {
    if (!is_decoded()) throw UnsupportedInstruction("");
    if (!known_forms().contains(form_of(s))) throw UnsupportedInstruction("of that form");
  } catch (const UnsupportedInstruction& why) {
    op = guarded;
    op.kind = OpKind::kUnsupported;
    Detail& detail = kernel.details.emplace_back();
    detail.message = why.what();
    op.detail = &detail;
  }
}

void run_with_rounding(Registers registers, const Op& op, uint32_t mask) {
  constexpr int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
  std::fesetround(kModes[static_cast<size_t>(op.detail->rounding)]);
  op.detail->inner(registers, op, mask);
  std::fesetround(FE_TONEAREST);
}

}  // namespace

const Operand& operand(const Statement& s, size_t index) {
  if (index >= s.operands.size()) throw UnsupportedInstruction("too few operands");
  return s.operands[index];
}

void only_modifiers(const Statement& s, std::initializer_list<std::string_view> known) {
  for (const std::string_view modifier : s.modifiers) {
    if (type_named(modifier) != Type::kNone) continue;
    if (std::find(known.begin(), known.end(), modifier) == known.end()) {
      throw UnsupportedInstruction(fmt::format("with .{}", modifier));
    }
  }
}

std::optional<Rounding> rounding_of(const Statement& s) {
  if (s.has("rn")) return Rounding::kNearest;
  if (s.has("rz")) return Rounding::kZero;
  if (s.has("rm")) return Rounding::kDown;
  if (s.has("rp")) return Rounding::kUp;
  return std::nullopt;
}

void run_rounded(Kernel& kernel, Op& op, AluFunction inner, Rounding rounding) {
  op.run = inner;
  if (rounding == Rounding::kNearest) return;
  Detail& detail = kernel.details.emplace_back();
  detail.inner = inner;
  detail.rounding = rounding;
  op.detail = &detail;
  op.run = run_with_rounding;
}

Rows::Rows(Kernel& kernel, const FunctionText& function, const std::map<std::string, uint64_t>& variables)
    : kernel_(kernel), function_(function), variables_(variables) {
  kernel_.register_bytes = 256;  // the row that partly masked instructions compute into
  for (const RegisterText& reg : function.registers) rows_.push_back(allocate(bytes_of(reg.type)));
  for (const Variable& parameter : function.parameters) {
    const uint32_t gap = kernel_.parameters.empty() ? 0 : kParameterGap;
    const uint32_t offset =
        align_up(kernel_.parameter_bytes + gap, static_cast<uint32_t>(parameter.alignment));
    symbols_[parameter.name] = offset;
    kernel_.parameters.push_back({offset, static_cast<uint32_t>(parameter.bytes)});
    kernel_.parameter_bytes = offset + static_cast<uint32_t>(parameter.bytes);
  }
  for (const Variable& variable : function.variables) {
    if (variable.space == Variable::Space::kShared) {
      declare_shared(variable);
    } else {
      const uint32_t offset = align_up(kernel_.local_bytes, static_cast<uint32_t>(variable.alignment));
      symbols_[variable.name] = offset;
      kernel_.local_bytes = align_up(offset + static_cast<uint32_t>(variable.bytes), 16u);
    }
  }
  // Shared variables of the module that this kernel names; those of unknown size are the dynamic shared memory.
  const auto used = [&](std::string_view name) {
    return std::any_of(function.statements.begin(), function.statements.end(),
                       [&](const Statement& s) { return names(s.text, name); });
  };
  for (const Variable& variable : kernel.module->variables()) {
    if (variable.space == Variable::Space::kShared && variable.bytes > 0 && used(variable.name)) {
      declare_shared(variable);
    }
  }
  const uint32_t used_end =
      kernel.shared.empty() ? 0 : kernel.shared.back().offset + kernel.shared.back().bytes + kSharedGap;
  uint32_t alignment = 1;  // all of them begin at one place, which is good for those that the kernel names
  for (const Variable& variable : kernel.module->variables()) {
    if (is_dynamic(variable) && used(variable.name))
      alignment = std::max(alignment, static_cast<uint32_t>(variable.alignment));
  }
  kernel_.dynamic_shared_offset = align_no_better(used_end, alignment);
  for (const Variable& variable : kernel.module->variables()) {
    if (is_dynamic(variable)) symbols_[variable.name] = kernel_.dynamic_shared_offset;
  }
}

void Rows::declare_shared(const Variable& variable) {
  std::vector<SharedVariable>& shared = kernel_.shared;
  const uint32_t alignment = static_cast<uint32_t>(variable.alignment);
  const uint32_t bytes = static_cast<uint32_t>(variable.bytes);
  const uint32_t end = shared.empty() ? 0 : shared.back().offset + shared.back().bytes + kSharedGap;
  shared.push_back({align_no_better(end, alignment), bytes});
  symbols_[variable.name] = shared.back().offset;
  const uint32_t counted = align_up(kernel_.static_shared_bytes, static_cast<uint32_t>(variable.alignment));
  kernel_.static_shared_bytes = counted + bytes;
}

uint32_t Rows::allocate(int width) {
  uint32_t& end = kernel_.register_bytes;
  if (width == 0) {
    if (next_predicate_ == predicates_end_) {
      next_predicate_ = end;
      predicates_end_ = end += 64;
    }
    return std::exchange(next_predicate_, next_predicate_ + 4);
  }
  const uint32_t row = end;
  end += align_up(static_cast<uint32_t>(kLanes * width), 64u);
  return row;
}

uint32_t Rows::scratch(int width) {
  return allocate(width);
}

uint32_t Rows::constant(uint64_t bits, int width) {
  if (width < 8) bits &= (uint64_t{1} << (width == 0 ? 32 : 8 * width)) - 1;
  const auto [entry, is_new] = constants_.try_emplace({bits, width}, 0);
  if (is_new) {
    entry->second = allocate(width);
    kernel_.constants.push_back({entry->second, static_cast<uint8_t>(width), bits});
  }
  return entry->second;
}

uint32_t Rows::special(Special which) {
  const auto [entry, is_new] = specials_.try_emplace(which, 0);
  if (is_new) {
    entry->second = allocate(4);
    kernel_.specials.push_back({entry->second, which});
  }
  return entry->second;
}

uint64_t Rows::symbol(std::string_view name) {
  if (const auto found = symbols_.find(name); found != symbols_.end()) return found->second;
  if (const auto found = variables_.find(std::string(name)); found != variables_.end()) return found->second;
  // What nvcc calls the arguments and results of calls; their declarations stand in the scope of the call.
  if (name.starts_with("param") || name.starts_with("retval")) {
    throw UnsupportedInstruction(
        fmt::format("call, whose argument {} is (of a device function that is not inlined, or of printf)", name));
  }
  throw UnsupportedInstruction(fmt::format("a symbol that is declared nowhere, {}", name));
}

int Rows::width_of(const Operand& operand) const {
  if (operand.kind != Operand::Kind::kRegister)
    throw UnsupportedInstruction("an operand that must be a register");
  return bytes_of(function_.registers[static_cast<size_t>(operand.reg)].type);
}

uint32_t Rows::any_width_source(const Operand& operand, int width) {
  if (operand.kind == Operand::Kind::kRegister) {
    if (operand.negated) throw UnsupportedInstruction("a negated operand");
    return rows_[static_cast<size_t>(operand.reg)];
  }
  if (operand.kind == Operand::Kind::kImmediate) return constant(operand.bits, width);
  if (operand.kind == Operand::Kind::kSymbol) {
    return constant(symbol(operand.name) + static_cast<uint64_t>(operand.offset), width);
  }
  if (operand.kind == Operand::Kind::kSpecial) {
    if (operand.name == "%warpid" || operand.name == "%nwarpid")
      throw UnsupportedInstruction(fmt::format("{}, whose value may change at any time", operand.name));
    for (const auto& [name, which] : kSpecials) {
      if (name == operand.name && width == 4) return special(which);
    }
    throw UnsupportedInstruction(fmt::format("special register {} of {} bytes", operand.name, width));
  }
  throw UnsupportedInstruction("an operand of an unexpected kind");
}

uint32_t Rows::source(const Operand& operand, Type type) {
  const int width = bytes_of(type);
  if (operand.kind == Operand::Kind::kRegister && width_of(operand) != width) {
    throw UnsupportedInstruction("a register of another width than the operation's type");
  }
  if (operand.kind == Operand::Kind::kImmediate) {
    const bool is_half = type == Type::kF16 || type == Type::kBf16;
    if (is_half && operand.literal != Operand::Literal::kInteger) {
      throw UnsupportedInstruction("a floating-point literal of a 16-bit type");
    }
    const bool is_float = type == Type::kF32 || type == Type::kF64;
    if (!is_float && operand.literal == Operand::Literal::kFloat64 && width == 4) {
      return constant(immediate_bits(operand, Type::kF32), width);  // mov.b32 of 1.5
    }
    return constant(immediate_bits(operand, type), width);
  }
  return any_width_source(operand, width);
}

uint32_t Rows::destination(const Operand& operand, Type type) {
  if (operand.kind == Operand::Kind::kNothing) return scratch(bytes_of(type));
  if (width_of(operand) != bytes_of(type)) {
    throw UnsupportedInstruction("a destination of another width than the operation's type");
  }
  return rows_[static_cast<size_t>(operand.reg)];
}

uint32_t Rows::any_width_destination(const Operand& operand) {
  if (width_of(operand) == 0) throw UnsupportedInstruction("a predicate as a destination");
  return rows_[static_cast<size_t>(operand.reg)];
}

uint32_t Rows::predicate(const Operand& operand) {
  if (operand.kind == Operand::Kind::kImmediate) return constant(operand.bits ? kAllLanes : 0, 0);
  if (width_of(operand) != 0 || operand.negated)
    throw UnsupportedInstruction("an operand that must be a predicate");
  return rows_[static_cast<size_t>(operand.reg)];
}

uint32_t Rows::optional_predicate(const Operand& operand) {
  return operand.kind == Operand::Kind::kNothing ? kNoRow : predicate(operand);
}

Rows::Address Rows::address(const Operand& operand) {
  if (operand.kind != Operand::Kind::kAddress)
    throw UnsupportedInstruction("an operand that must be an address");
  Address made;
  made.offset = operand.offset;
  if (operand.reg >= 0) {
    made.base = rows_[static_cast<size_t>(operand.reg)];
    made.narrow = bytes_of(function_.registers[static_cast<size_t>(operand.reg)].type) == 4;
  } else {
    made.offset += static_cast<int64_t>(operand.name.empty() ? operand.bits : symbol(operand.name));
  }
  return made;
}

std::unique_ptr<Kernel> decode_kernel(const ModuleText& module, const std::string& name,
                                      const std::map<std::string, uint64_t>& variables) {
  const FunctionText function = module.parse(name);
  auto kernel = std::make_unique<Kernel>();
  kernel->name = name;
  kernel->shown_name = demangled(name);
  kernel->module = &module;
  kernel->inlined_at = function.inlined_at;
  if (function.max_threads > 0) kernel->max_threads = function.max_threads;
  Rows rows(*kernel, function, variables);
  for (const Statement& statement : function.statements) {
    Op op;
    decode_statement(statement, function, rows, *kernel, op);
    kernel->code.push_back(op);
    kernel->lines.push_back(statement.source);
    kernel->ptx_lines.push_back(statement.ptx_line);
    kernel->texts.emplace_back(statement.text);
  }
  if (kernel->code.size() > record::kPcMask)
    throw PtxError(fmt::format("a kernel of {} instructions; the emulator numbers {}", kernel->code.size(),
                               record::kPcMask));
  Op end;
  end.kind = OpKind::kExit;
  kernel->code.push_back(end);
  kernel->lines.push_back({});
  kernel->ptx_lines.push_back(0);
  kernel->texts.emplace_back("end of kernel");
  return kernel;
}

std::string Kernel::where(uint32_t pc) const {
  SourceLine at = lines[pc];
  if (at.line == 0) return fmt::format("PTX line {}: {}", ptx_lines[pc], texts[pc]);
  std::string text = fmt::format("{}:{}", module->file_name(at.file), at.line);
  for (int depth = 0; depth < 8; ++depth) {
    const auto call = inlined_at.find({at.file, at.line});
    if (call == inlined_at.end()) break;
    at = call->second;
    text += fmt::format(", inlined at {}:{}", module->file_name(at.file), at.line);
  }
  return fmt::format("{} (PTX line {}: {})", text, ptx_lines[pc], texts[pc]);
}

}  // namespace kiln::emulator
