// Turns the statements of a kernel into Ops.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tests/cuda_emulator/program.h"

namespace kiln::emulator {

// `variables` gives the device addresses of the module's global and constant variables by name.
std::unique_ptr<Kernel> decode_kernel(const ModuleText& module, const std::string& name,
                                      const std::map<std::string, uint64_t>& variables);

// An instruction, or a form of one, that the emulator does not know. It is kept in the program and stops the kernel
// where it is executed.
struct UnsupportedInstruction : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Where the decoders of the families ask for rows.
class Rows {
 public:
  Rows(Kernel& kernel, const FunctionText& function, const std::map<std::string, uint64_t>& variables);

  uint32_t source(const Operand& operand, Type type);  // a row of bytes_of(type) an element
  uint32_t any_width_source(const Operand& operand,
                            int width);  // registers as they are; immediates of that width
  uint32_t destination(const Operand& operand, Type type);
  uint32_t any_width_destination(const Operand& operand);
  uint32_t predicate(const Operand& operand);           // of a register, not negated
  uint32_t optional_predicate(const Operand& operand);  // kNoRow for _
  uint32_t constant(uint64_t bits, int width);          // width 0: a predicate
  int width_of(const Operand& operand) const;           // bytes of a register's elements, 0: predicate
  uint32_t special(Special which);
  uint32_t scratch(int width);  // a row of its own
  uint32_t of_register(int index) const { return rows_[static_cast<size_t>(index)]; }

  // Base row (kNoRow: none), displacement and the space that a symbol lies in.
  struct Address {
    uint32_t base = kNoRow;
    int64_t offset = 0;
    bool narrow = false;
  };
  Address address(const Operand& operand);
  // The value of a symbol: an offset in shared, local or parameter space, an address of global memory.
  uint64_t symbol(std::string_view name);

 private:
  uint32_t allocate(int width);
  void declare_shared(const Variable& variable);

  Kernel& kernel_;
  const FunctionText& function_;
  const std::map<std::string, uint64_t>& variables_;
  std::vector<uint32_t> rows_;
  std::map<std::pair<uint64_t, int>, uint32_t> constants_;
  std::map<Special, uint32_t> specials_;
  std::map<std::string_view, uint64_t> symbols_;
  uint32_t next_predicate_ = 0, predicates_end_ = 0;
};

// Each fills in what it knows and says whether the instruction was one of its family.
bool decode_integer(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_bits(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_float(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_half(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_compare(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_convert(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_move(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_memory(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_collective(const Statement& s, Rows& rows, Kernel& kernel, Op& op);
bool decode_matrix(const Statement& s, Rows& rows, Kernel& kernel, Op& op);

// The operand at `index`; UnsupportedInstruction if there is none.
const Operand& operand(const Statement& s, size_t index);
// Every modifier of `s` must be a type or one of `known`.
void only_modifiers(const Statement& s, std::initializer_list<std::string_view> known);
// .rn .rz .rm .rp; none where none is said.
std::optional<Rounding> rounding_of(const Statement& s);
// Makes `op` run `inner` with the processor's rounding mode set (nearest: just runs it).
void run_rounded(Kernel& kernel, Op& op, AluFunction inner, Rounding rounding);

}  // namespace kiln::emulator
