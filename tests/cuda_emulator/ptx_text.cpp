#include "tests/cuda_emulator/ptx_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <cstdlib>
#include <utility>

#include "tests/cuda_emulator/ptx_operand.h"

namespace kiln::emulator {

namespace {

constexpr std::array<std::pair<std::string_view, Type>, 20> kTypeNames{{
    {"pred", Type::kPred}, {"b8", Type::kB8},       {"s8", Type::kS8},         {"u8", Type::kU8},
    {"b16", Type::kB16},   {"s16", Type::kS16},     {"u16", Type::kU16},       {"f16", Type::kF16},
    {"bf16", Type::kBf16}, {"b32", Type::kB32},     {"s32", Type::kS32},       {"u32", Type::kU32},
    {"f32", Type::kF32},   {"f16x2", Type::kF16x2}, {"bf16x2", Type::kBf16x2}, {"tf32", Type::kTf32},
    {"b64", Type::kB64},   {"s64", Type::kS64},     {"u64", Type::kU64},       {"f64", Type::kF64},
}};

bool starts_with(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

// Comments become blanks, so that lines keep their numbers.
void blank_comments(std::string& text) {
  bool quoted = false;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (quoted || text[i] != '/') continue;
    size_t end = i;
    if (text[i + 1] == '/') end = std::min(text.find('\n', i), text.size());
    if (text[i + 1] == '*') end = std::min(text.find("*/", i + 2), text.size() - 2) + 2;
    for (; i < end; ++i) {
      if (text[i] != '\n') text[i] = ' ';
    }
  }
}

int newlines(std::string_view text) {
  return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
}

// ".shared .align 16 .b8 name[128] = {1, 2}" without what stands before the space.
Variable parse_variable(std::string_view declaration, Variable::Space space) {
  Variable variable;
  variable.space = space;
  std::string_view head = declaration, initial;
  if (const size_t equals = declaration.find('='); equals != std::string_view::npos) {
    head = declaration.substr(0, equals);
    initial = trim(declaration.substr(equals + 1));
  }
  Type type = Type::kNone;
  std::vector<std::string_view> words = split_words(head);
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == ".align" && i + 1 < words.size()) {
      variable.alignment = parse_integer(words[++i]);
    } else if (words[i][0] == '.') {
      if (const Type named = type_named(words[i].substr(1)); named != Type::kNone) type = named;
    } else {
      variable.name = words[i];
    }
  }
  uint64_t count = 1;
  if (const size_t bracket = head.find('['); bracket != std::string_view::npos) {
    variable.name = variable.name.substr(0, variable.name.find('['));
    const std::string_view number = trim(head.substr(bracket + 1, head.find(']', bracket) - bracket - 1));
    count = number.empty() ? 0 : parse_integer(number);
  }
  const uint64_t element = static_cast<uint64_t>(bytes_of(type));
  variable.bytes = count * element;
  variable.alignment = std::max(variable.alignment, element);
  if (initial.empty()) return variable;
  if (initial.front() == '{') initial = initial.substr(1, initial.size() - 2);
  for (const std::string_view value : split_list(initial)) {
    const Operand number = parse_immediate(value);
    for (uint64_t byte = 0; byte < element; ++byte) {
      variable.content.push_back(static_cast<uint8_t>(number.bits >> (8 * byte)));
    }
  }
  return variable;
}

// Reads the body of one function, from '{' to '}'.
class FunctionParser {
 public:
  FunctionParser(FunctionText& function, std::string_view body, int line)
      : function_(function), rest_(body), line_(line) {}

  void parse() {
    while (skip_blanks(), !rest_.empty()) {
      if (rest_.front() == '{') {
        take(1);
        scopes_.emplace_back();
      } else if (rest_.front() == '}') {
        take(1);
        if (scopes_.size() > 1) scopes_.pop_back();
      } else if (starts_with(rest_, ".loc\t") || starts_with(rest_, ".loc ")) {
        location(take(std::min(rest_.find('\n'), rest_.size())));
      } else if (!label()) {
        const size_t end = rest_.find(';');
        if (end == std::string_view::npos) throw PtxError("a statement without ;");
        const int at = line_;
        statement(trim(rest_.substr(0, end)), at);
        take(end + 1);
      }
    }
  }

 private:
  struct Range {
    std::string_view prefix;
    uint64_t count;
    Type type;
    std::map<uint64_t, int> indices;
  };
  struct Scope {
    std::map<std::string_view, int> names;
    std::vector<Range> ranges;
  };

  std::string_view take(size_t count) {
    const std::string_view taken = rest_.substr(0, count);
    line_ += newlines(taken);
    rest_.remove_prefix(count);
    return taken;
  }

  void skip_blanks() { take(std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size())); }

  // .loc file line column [, function_name ..., inlined_at file line column]
  void location(std::string_view text) {
    const std::vector<std::string_view> words = split_words(text);
    if (words.size() < 4) return;
    const auto read = [&](size_t at) {
      return SourceLine{static_cast<int>(parse_integer(words[at])),
                        static_cast<int>(parse_integer(words[at + 1])),
                        static_cast<int>(parse_integer(words[at + 2]))};
    };
    source_ = read(1);
    for (size_t i = 4; i + 3 < words.size(); ++i) {
      if (words[i] == "inlined_at") function_.inlined_at[{source_.file, source_.line}] = read(i + 1);
    }
  }

  bool label() {
    const size_t end =
        rest_.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$%");
    if (end == 0 || end == std::string_view::npos || rest_[end] != ':' ||
        starts_with(rest_.substr(end), "::")) {
      return false;
    }
    const std::string_view name = take(end);
    take(1);
    skip_blanks();
    if (starts_with(rest_, ".branchtargets")) {
      const size_t stop = rest_.find(';');
      function_.branch_targets[name] = split_list(rest_.substr(14, stop - 14));
      take(stop + 1);
    } else {
      function_.labels[name] = function_.statements.size();
    }
    return true;
  }

  void declare_registers(std::string_view text) {
    const std::vector<std::string_view> words = split_words(text);
    const Type type = words.size() < 2 ? Type::kNone : type_named(words[0].substr(1));
    if (type == Type::kNone) throw PtxError(fmt::format("registers of an unknown type: .reg {}", text));
    const size_t names = text.find(words[1]);
    for (std::string_view name : split_list(text.substr(names))) {
      if (const size_t bracket = name.find('<'); bracket != std::string_view::npos) {
        const std::string_view count = name.substr(bracket + 1, name.find('>') - bracket - 1);
        scopes_.back().ranges.push_back({name.substr(0, bracket), parse_integer(count), type, {}});
      } else {
        scopes_.back().names[name] = add_register(type);
      }
    }
  }

  int add_register(Type type) {
    function_.registers.push_back({type});
    return static_cast<int>(function_.registers.size()) - 1;
  }

  // The register of that name in the innermost scope that has one, or -1.
  int find_register(std::string_view name) {
    const size_t digits = name.find_last_not_of("0123456789") + 1;
    for (size_t depth = scopes_.size(); depth-- > 0;) {
      Scope& scope = scopes_[depth];
      if (const auto found = scope.names.find(name); found != scope.names.end()) return found->second;
      if (digits == name.size()) continue;
      for (Range& range : scope.ranges) {
        if (range.prefix != name.substr(0, digits)) continue;
        const uint64_t number = parse_integer(name.substr(digits));
        if (number >= range.count) continue;
        const auto [entry, is_new] = range.indices.try_emplace(number, -1);
        if (is_new) entry->second = add_register(range.type);
        return entry->second;
      }
    }
    return -1;
  }

  void statement(std::string_view text, int line) {
    if (text.empty()) return;
    if (starts_with(text, ".reg")) return declare_registers(trim(text.substr(4)));
    if (starts_with(text, ".shared")) {
      function_.variables.push_back(parse_variable(text.substr(7), Variable::Space::kShared));
      return;
    }
    if (starts_with(text, ".local")) {
      function_.variables.push_back(parse_variable(text.substr(6), Variable::Space::kLocal));
      return;
    }
    if (text.front() == '.') return;  // .pragma, and .param of a call, which stops when it is executed
    Statement made;
    made.text = text;
    made.ptx_line = line;
    made.source = source_;
    const auto resolve = [this](std::string_view name) { return find_register(name); };
    if (text.front() == '@') {
      const size_t end = text.find_first_of(" \t\n");
      std::string_view guard = text.substr(1, end - 1);
      made.guard_negated = guard.front() == '!';
      if (made.guard_negated) guard.remove_prefix(1);
      made.guard = find_register(guard);
      if (made.guard < 0)
        throw PtxError(fmt::format("line {}: the guard of '{}' is no register", line, text));
      text = trim(text.substr(end));
    }
    const size_t end = std::min(text.find_first_of(" \t\n"), text.size());
    std::string_view word = text.substr(0, end);
    made.opcode = word.substr(0, word.find('.'));
    for (size_t at = made.opcode.size(); at < word.size();) {
      const size_t next = std::min(word.find('.', at + 1), word.size());
      made.modifiers.push_back(word.substr(at + 1, next - at - 1));
      at = next;
    }
    if (made.opcode != "call") {  // stops when it is executed
      for (const std::string_view operand : split_list(text.substr(end))) {
        made.operands.push_back(parse_operand(operand, resolve));
      }
    }
    function_.statements.push_back(std::move(made));
  }

  FunctionText& function_;
  std::string_view rest_;
  int line_;
  SourceLine source_;
  std::vector<Scope> scopes_{1};
};

// The index after the brace that closes the one at `open`.
size_t closing_brace(std::string_view text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '{') ++depth;
    if (text[i] == '}' && --depth == 0) return i + 1;
  }
  throw PtxError("a { without its }");
}

}  // namespace

int bytes_of(Type type) {
  if (type <= Type::kPred) return 0;
  if (type <= Type::kU8) return 1;
  if (type <= Type::kBf16) return 2;
  if (type <= Type::kTf32) return 4;
  return type == Type::kB128 ? 16 : 8;
}

bool is_signed(Type type) {
  return type == Type::kS8 || type == Type::kS16 || type == Type::kS32 || type == Type::kS64;
}

Type type_named(std::string_view name) {
  const auto found =
      std::find_if(kTypeNames.begin(), kTypeNames.end(), [&](const auto& t) { return t.first == name; });
  if (found != kTypeNames.end()) return found->second;
  return name == "b128" ? Type::kB128 : Type::kNone;
}

bool Statement::has(std::string_view modifier) const {
  return std::find(modifiers.begin(), modifiers.end(), modifier) != modifiers.end();
}

std::vector<Type> Statement::types() const {
  std::vector<Type> found;
  for (const std::string_view modifier : modifiers) {
    if (const Type named = type_named(modifier); named != Type::kNone) found.push_back(named);
  }
  return found;
}

Type Statement::type(size_t index) const {
  for (const std::string_view modifier : modifiers) {
    const Type named = type_named(modifier);
    if (named != Type::kNone && index-- == 0) return named;
  }
  return Type::kNone;
}

ModuleText::ModuleText(std::string text) : text_(std::move(text)) {
  blank_comments(text_);
  const std::string_view all = text_;
  size_t at = 0;
  int line = 1;
  const auto advance = [&](size_t to) {
    line += newlines(all.substr(at, to - at));
    at = to;
  };
  while (at < all.size()) {
    const size_t start = all.find_first_not_of(" \t\r\n;}", at);
    if (start == std::string_view::npos) return;
    advance(start);
    // Directives of one line; .file tells the names of the sources.
    const std::string_view this_line = all.substr(at, std::min(all.find('\n', at), all.size()) - at);
    if (starts_with(this_line, ".version") || starts_with(this_line, ".target") ||
        starts_with(this_line, ".address_size") || starts_with(this_line, ".file")) {
      if (starts_with(this_line, ".file")) {
        const size_t quote = this_line.find('"');
        const std::string_view name = this_line.substr(quote + 1, this_line.find('"', quote + 1) - quote - 1);
        files_[static_cast<int>(parse_integer(trim(this_line.substr(5, quote - 5))))] =
            name.substr(name.find_last_of('/') + 1);
      }
      advance(at + this_line.size());
      continue;
    }
    size_t stop = all.find_first_of(";{", at);
    if (stop == std::string_view::npos) return;
    const std::string_view header = all.substr(at, stop - at);
    const size_t entry = header.find(".entry");
    if (entry != std::string_view::npos || header.find(".func") != std::string_view::npos) {
      if (all[stop] == ';') {  // declared only
        advance(stop + 1);
        continue;
      }
      const size_t end = closing_brace(all, stop);
      if (entry != std::string_view::npos) {
        const std::string_view signature = trim(header.substr(entry + 6));
        const std::string_view name = trim(signature.substr(0, signature.find_first_of("( \t\n")));
        entries_[std::string(name)] = {header.substr(entry + 6), all.substr(stop + 1, end - stop - 2), line,
                                       line + newlines(header)};
      }
      advance(end);
      continue;
    }
    if (starts_with(header, ".section")) {  // debug information
      advance(closing_brace(all, stop));
      continue;
    }
    if (all[stop] == '{') stop = all.find(';', closing_brace(all, stop));
    const std::string_view declaration = all.substr(at, stop - at);
    for (const auto& [word, space] :
         {std::pair(".global", Variable::Space::kGlobal), std::pair(".const", Variable::Space::kConst),
          std::pair(".shared", Variable::Space::kShared)}) {
      const size_t found = declaration.substr(0, declaration.find('=')).find(word);
      if (found == std::string_view::npos) continue;
      variables_.push_back(parse_variable(declaration.substr(found + std::string_view(word).size()), space));
      break;
    }
    advance(stop + 1);
  }
}

FunctionText ModuleText::parse(const std::string& kernel) const {
  const auto found = entries_.find(kernel);
  if (found == entries_.end()) throw PtxError(fmt::format("no kernel {} in the module", kernel));
  const Entry& entry = found->second;
  FunctionText function;
  function.name = found->first;
  std::string_view after = entry.header;
  if (const size_t open = after.find('('); open != std::string_view::npos) {
    const size_t close = after.find(')', open);
    for (const std::string_view parameter : split_list(after.substr(open + 1, close - open - 1))) {
      function.parameters.push_back(parse_variable(trim(parameter).substr(6), Variable::Space::kParam));
    }
    after = after.substr(close + 1);
  }
  for (const char* directive : {".maxntid", ".reqntid"}) {
    const size_t at = after.find(directive);
    if (at == std::string_view::npos) continue;
    const std::string_view numbers = after.substr(at + 8, after.find('.', at + 8) - at - 8);
    function.max_threads = 1;
    for (const std::string_view number : split_list(numbers)) {
      function.max_threads *= static_cast<uint32_t>(parse_integer(split_words(number)[0]));
    }
  }
  FunctionParser(function, entry.body, entry.body_line).parse();
  return function;
}

std::string ModuleText::file_name(int file) const {
  const auto found = files_.find(file);
  return found == files_.end() ? "unknown source" : found->second;
}

}  // namespace kiln::emulator
