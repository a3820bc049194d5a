// PTX text read into statements: what the text says, before anything is known of what an instruction means.
//
// The language is that of the "Parallel Thread Execution ISA" (PTX ISA 9.0), as far as nvcc and inline assembly write
// it. Names of registers are resolved here, with their scopes; names of variables and labels are left to the decoder.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace kiln::emulator {

// Text that is not PTX as this emulator knows it.
struct PtxError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Type : uint8_t {
  kNone,
  kPred,
  kB8,
  kS8,
  kU8,
  kB16,
  kS16,
  kU16,
  kF16,
  kBf16,
  kB32,
  kS32,
  kU32,
  kF32,
  kF16x2,
  kBf16x2,
  kTf32,
  kB64,
  kS64,
  kU64,
  kF64,
  kB128,
};

int bytes_of(Type type);  // 0 for kNone and kPred
bool is_signed(Type type);
Type type_named(std::string_view name);  // "f32" -> kF32; kNone for what is no type

// The line of a .cu file that an instruction comes from, and where that line was inlined (line 0: nowhere).
struct SourceLine {
  int file = 0, line = 0, column = 0;
};

struct Operand {
  enum class Kind : uint8_t {
    kNothing,    // _
    kRegister,   // %r1, !%p1
    kSpecial,    // %tid.x
    kImmediate,  // 42, 0f3F800000, 1.5
    kSymbol,     // a variable, parameter or label, with a displacement
    kAddress,    // [%rd1+8]: base register or symbol
    kVector,     // {%r1, %r2}
    kPair,       // %p1|%p2
  };
  enum class Literal : uint8_t { kInteger, kFloat32, kFloat64 };

  Kind kind = Kind::kNothing;
  Literal literal = Literal::kInteger;
  bool negated = false;
  int reg = -1;           // index into FunctionText::registers; -1 in an address: a symbol or a number
  uint64_t bits = 0;      // of an immediate, or of an address that is a number
  int64_t offset = 0;     // displacement of a symbol or an address
  std::string_view name;  // of a symbol or a special register
  std::vector<Operand> parts;
};

struct Statement {
  int guard = -1;  // predicate register, -1: none
  bool guard_negated = false;
  std::string_view opcode;                  // "ld"
  std::vector<std::string_view> modifiers;  // "global", "v4", "f32"
  std::vector<Operand> operands;
  std::string_view text;  // the whole statement
  int ptx_line = 0;
  SourceLine source;

  bool has(std::string_view modifier) const;
  std::vector<Type> types() const;    // the modifiers that are types, in order
  Type type(size_t index = 0) const;  // kNone where there are fewer
};

struct Variable {
  enum class Space : uint8_t { kGlobal, kConst, kShared, kLocal, kParam };
  Space space = Space::kGlobal;
  std::string_view name;
  uint64_t bytes = 0;  // 0: extern, its size comes with the launch
  uint64_t alignment = 1;
  std::vector<uint8_t> content;  // initial value, may be shorter than bytes
};

struct RegisterText {
  Type type = Type::kNone;
};

struct FunctionText {
  std::string_view name;
  uint32_t max_threads = 0;  // .maxntid, 0: not said
  std::vector<Variable> parameters;
  std::vector<Variable> variables;  // shared and local ones declared inside
  std::vector<RegisterText> registers;
  std::vector<Statement> statements;
  std::map<std::string_view, size_t> labels;  // label -> index of the next statement
  std::map<std::string_view, std::vector<std::string_view>> branch_targets;  // of brx.idx
  std::map<std::pair<int, int>, SourceLine> inlined_at;  // (file, line) -> the line of its call
};

// A whole module. Kernels are found now and parsed one by one when they are first launched.
class ModuleText {
 public:
  explicit ModuleText(std::string text);  // throws PtxError

  struct Entry {
    std::string_view header, body;
    int header_line = 0, body_line = 0;
  };

  FunctionText parse(const std::string& kernel) const;  // throws PtxError
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::vector<Variable>& variables() const { return variables_; }
  std::string file_name(int file) const;  // without folders

 private:
  std::string text_;  // comments replaced by blanks
  std::map<std::string, Entry> entries_;
  std::vector<Variable> variables_;
  std::map<int, std::string> files_;
};

}  // namespace kiln::emulator
