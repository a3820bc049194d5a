#include "data/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

#include "data/pretokenizer.h"
#include "src/core/error.h"

namespace kiln::data {
namespace {

using Json = nlohmann::json;

constexpr const char* kDamaged = "the file is damaged: copy it again";
constexpr const char* kOtherKind =
    "Kiln reads byte-level BPE with GPT-2's pre-tokenisation; train such a tokenizer on your text with "
    "`kiln data train-tokenizer`";

[[noreturn]] void fail(const std::string& source, const std::string& what, const char* hint = kDamaged) {
  throw Error(ExitCode::data, fmt::format("{}: {}", source, what), hint);
}

// ---- GPT-2's letters: every byte is written as one printable character ----

// The code point that stands for each byte: printable bytes stand for themselves, the others follow from
// U+0100.
std::array<int, 256> letters() {
  const auto order = gpt2_byte_order();
  std::array<int, 256> letter{};
  size_t printable = 0;
  while (printable + 1 < order.size() && order[printable] < order[printable + 1]) printable++;
  for (size_t i = 0; i < order.size(); i++) {
    letter[order[i]] = i <= printable ? order[i] : 256 + static_cast<int>(i - printable) - 1;
  }
  return letter;
}

std::string to_letters(std::string_view bytes) {
  static const auto letter = letters();
  std::string out;
  for (const char c : bytes) {
    const int code = letter[static_cast<unsigned char>(c)];
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else {
      out += static_cast<char>(0xC0 | code >> 6);
      out += static_cast<char>(0x80 | (code & 0x3F));
    }
  }
  return out;
}

// False when a character is none of the letters.
bool from_letters(std::string_view text, std::string& bytes) {
  static const auto byte_of = [] {
    std::array<int, 0x144> table{};
    table.fill(-1);
    const auto letter = letters();
    for (size_t byte = 0; byte < 256; byte++)
      table[static_cast<size_t>(letter[byte])] = static_cast<int>(byte);
    return table;
  }();
  bytes.clear();
  for (size_t i = 0; i < text.size(); i++) {
    auto code = static_cast<unsigned>(static_cast<unsigned char>(text[i]));
    if (code >= 0xC0 && code < 0xE0 && i + 1 < text.size()) {
      code = (code & 0x1F) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3F);
    }
    if (code >= byte_of.size() || byte_of[code] < 0) return false;
    bytes += static_cast<char>(byte_of[code]);
  }
  return true;
}

// ---- Vocabulary and merges, common to the JSON formats ----

std::string in_quotes(std::string_view text) {
  constexpr size_t kMost = 40;
  return Json(text.substr(0, kMost)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

class Reader {
 public:
  explicit Reader(std::string source) : source_(std::move(source)) {}

  void add_special(std::string_view name, int64_t id) {
    place(name, id);
    rules_.tokens[static_cast<size_t>(id)] = name;
    if (std::find(rules_.special.begin(), rules_.special.end(), id) == rules_.special.end()) {
      rules_.special.push_back(static_cast<int32_t>(id));
    }
    if (name == kEndOfTextName) rules_.end_of_text = static_cast<int32_t>(id);
  }

  // Special tokens come first; they are not written in letters.
  void add_vocabulary(const Json& vocab) {
    if (!vocab.is_object()) fail(source_, "the vocabulary is no object of token: id");
    std::string bytes;
    for (const auto& [token, id] : vocab.items()) {
      if (!id.is_number_integer())
        fail(source_, fmt::format("the id of token {} is no integer", in_quotes(token)));
      const auto number = id.get<int64_t>();
      if (is_special(token, number)) continue;
      if (token == kEndOfTextName) {
        add_special(token, number);
        continue;
      }
      if (!from_letters(token, bytes) || bytes.empty()) {
        fail(source_, fmt::format("token {} is not written in GPT-2's byte letters", in_quotes(token)),
             kOtherKind);
      }
      place(token, number);
      rules_.tokens[static_cast<size_t>(number)] = bytes;
      ids_.emplace(token, static_cast<int32_t>(number));
    }
  }

  // Tokens in letters.
  void add_merge(std::string_view left, std::string_view right) {
    const auto rank = static_cast<int32_t>(rules_.merges.size());
    const auto id = [&](std::string_view token) {
      const auto found = ids_.find(std::string(token));
      if (found == ids_.end()) {
        fail(source_,
             fmt::format("merge {} needs token {}, which the vocabulary lacks", rank, in_quotes(token)));
      }
      return found->second;
    };
    rules_.merges.push_back({id(left), id(right), id(std::string(left).append(right)), rank});
  }

  void add_merge_line(std::string_view line, const std::string& where) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos) {
      fail(where, fmt::format("{} instead of two tokens with a space between them", in_quotes(line)));
    }
    add_merge(line.substr(0, space), line.substr(space + 1));
  }

  BpeRules take() { return std::move(rules_); }
  BpeRules& rules() { return rules_; }

 private:
  bool is_special(const std::string& token, int64_t id) const {
    return std::find(rules_.special.begin(), rules_.special.end(), id) != rules_.special.end() &&
           rules_.tokens[static_cast<size_t>(id)] == token;
  }

  void place(std::string_view token, int64_t id) {
    if (id < 0 || id >= kMaxVocab) {
      fail(source_, fmt::format("token {} has the id {}, which is not in 0 ... {}", in_quotes(token), id,
                                kMaxVocab - 1));
    }
    const auto index = static_cast<size_t>(id);
    if (index >= rules_.tokens.size()) rules_.tokens.resize(index + 1);
    if (!rules_.tokens[index].empty()) fail(source_, fmt::format("two tokens have the id {}", id));
  }

  std::string source_;
  BpeRules rules_;
  std::unordered_map<std::string, int32_t> ids_;  // by letters
};

Json parse_object(std::string_view content, const std::string& source) {
  Json document = Json::parse(content, nullptr, false);
  if (document.is_discarded()) fail(source, "this is no JSON");
  if (!document.is_object())
    fail(source, fmt::format("a JSON {} instead of an object", document.type_name()));
  return document;
}

// The member, or null.
const Json& member(const Json& object, const char* key) {
  static const Json null;
  if (!object.is_object()) return null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

std::string text_member(const Json& object, const char* key, const std::string& otherwise) {
  const Json& value = member(object, key);
  return value.is_string() ? value.get<std::string>() : otherwise;
}

bool flag(const Json& object, const char* key, bool otherwise) {
  const Json& value = member(object, key);
  return value.is_boolean() ? value.get<bool>() : otherwise;
}

// ---- What a tokenizer.json may say besides vocabulary and merges ----

void check_model(const Json& model, const std::string& source) {
  if (!model.is_object()) fail(source, "it has no \"model\"", "this is not a tokenizer.json of Hugging Face");
  const std::string kind = text_member(model, "type", model.contains("merges") ? "BPE" : "");
  if (kind.empty()) fail(source, "it is no tokenizer: it has no model with a type", kOtherKind);
  if (kind != "BPE") fail(source, fmt::format("a tokenizer of the kind {}", in_quotes(kind)), kOtherKind);
  if (flag(model, "byte_fallback", false)) {
    fail(source, "a BPE of characters that falls back to bytes (byte_fallback)", kOtherKind);
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string mark = text_member(model, key, "");
    if (!mark.empty()) fail(source, fmt::format("a BPE with {} = {}", key, in_quotes(mark)), kOtherKind);
  }
  const Json& dropout = member(model, "dropout");
  if (dropout.is_number() && dropout.get<double>() != 0) fail(source, "a BPE with dropout", kOtherKind);
}

void check_pipeline(const Json& document, const std::string& source) {
  const Json& normalizer = member(document, "normalizer");
  if (!normalizer.is_null()) {
    fail(source,
         fmt::format("it changes the text before encoding it (normalizer {})",
                     in_quotes(text_member(normalizer, "type", "?"))),
         kOtherKind);
  }
  const Json& pre = member(document, "pre_tokenizer");
  const std::string kind = pre.is_null() ? "none" : text_member(pre, "type", "?");
  if (kind != "ByteLevel")
    fail(source, fmt::format("its pre-tokenizer is {}, not ByteLevel", kind), kOtherKind);
  if (flag(pre, "add_prefix_space", true)) {
    fail(source, "its pre-tokenizer puts a space in front of every text (add_prefix_space)", kOtherKind);
  }
  if (!flag(pre, "use_regex", true))
    fail(source, "its pre-tokenizer does not use GPT-2's pattern", kOtherKind);
}

// ---- tiktoken ----

constexpr size_t kMaxTokenBytes = 1024;  // far longer than any in use; all cuts of each are tried

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// False when it is no base64 with padding.
bool from_base64(std::string_view text, std::string& bytes) {
  bytes.clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); i++) {
    const int digit = i < text.size() - padding ? base64_digit(text[i]) : 0;
    if (digit < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if (i % 4 != 3) continue;
    for (const int shift : {16, 8, 0}) bytes += static_cast<char>(bits >> shift & 0xFF);
    bits = 0;
  }
  bytes.resize(bytes.size() - padding);
  return true;
}

// A token whose two parts are tokens can be made of them, at its own rank.
void derive_merges(BpeRules& rules) {
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < rules.tokens.size(); id++) {
    if (!rules.tokens[id].empty()) ids.emplace(rules.tokens[id], static_cast<int32_t>(id));
  }
  for (size_t id = 0; id < rules.tokens.size(); id++) {
    const std::string_view token = rules.tokens[id];
    for (size_t cut = 1; cut < token.size(); cut++) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left == ids.end() || right == ids.end()) continue;
      rules.merges.push_back(
          {left->second, right->second, static_cast<int32_t>(id), static_cast<int32_t>(id)});
    }
  }
}

void check_pattern(const BpeRules& rules, const std::string& source) {
  const Pretokenizer pretokenizer;
  Pretokens pretokens(pretokenizer);
  std::string_view pretoken;
  for (const auto& token : rules.tokens) {
    if (token.empty() || valid_utf8_bytes(token) != token.size())
      continue;  // a part of a character fits anywhere
    pretokens.start(token);
    if (pretokens.next(pretoken) && pretoken.size() != token.size()) {
      fail(source,
           fmt::format(
               "it holds the token {}, which GPT-2's pattern always cuts: it was made for another pattern",
               in_quotes(token)),
           kOtherKind);
    }
  }
}

}  // namespace

BpeRules read_tokenizer_json(std::string_view content, const std::string& source) {
  const Json document = parse_object(content, source);
  const Json& model = member(document, "model");
  check_model(model, source);
  check_pipeline(document, source);
  Reader reader(source);
  const Json& added = member(document, "added_tokens");
  if (!added.is_null() && !added.is_array()) fail(source, "\"added_tokens\" is no array");
  for (const Json& token : added) {
    const Json &name = member(token, "content"), &id = member(token, "id");
    if (!name.is_string() || name.get_ref<const std::string&>().empty() || !id.is_number_integer()) {
      fail(source, "an entry of \"added_tokens\" has no content or no id");
    }
    reader.add_special(name.get_ref<const std::string&>(), id.get<int64_t>());
  }
  reader.add_vocabulary(member(model, "vocab"));
  const Json& merges = member(model, "merges");
  if (!merges.is_array()) fail(source, "\"merges\" is no array");
  for (const Json& merge : merges) {
    if (merge.is_string()) {
      reader.add_merge_line(merge.get_ref<const std::string&>(),
                            fmt::format("{}, merge {}", source, reader.rules().merges.size()));
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      reader.add_merge(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>());
    } else {
      fail(source, fmt::format("merge {} is not two tokens", reader.rules().merges.size()));
    }
  }
  reader.rules().whole_pretokens = flag(model, "ignore_merges", false);
  return reader.take();
}

BpeRules read_vocab_and_merges(std::string_view vocab, const std::string& vocab_source,
                               std::string_view merges, const std::string& merges_source) {
  Reader reader(vocab_source);
  reader.add_vocabulary(parse_object(vocab, vocab_source));
  int64_t number = 0;
  while (!merges.empty()) {
    const size_t end = std::min(merges.find('\n'), merges.size());
    std::string_view line = merges.substr(0, end);
    merges.remove_prefix(std::min(end + 1, merges.size()));
    number++;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    reader.add_merge_line(line, fmt::format("{}, line {}", merges_source, number));
  }
  return reader.take();
}

BpeRules read_tiktoken(std::string_view content, const std::string& source) {
  BpeRules rules;
  std::string bytes;
  std::unordered_map<std::string, int64_t> lines;
  for (int64_t number = 1; !content.empty(); number++) {
    const size_t end = std::min(content.find('\n'), content.size());
    std::string_view line = content.substr(0, end);
    content.remove_prefix(std::min(end + 1, content.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty()) continue;
    const std::string where = fmt::format("{}, line {}", source, number);
    const size_t space = std::min(line.find(' '), line.size());
    const std::string_view rank_text = line.substr(std::min(space + 1, line.size()));
    uint32_t rank = 0;
    const auto parsed = std::from_chars(rank_text.data(), rank_text.data() + rank_text.size(), rank);
    if (!from_base64(line.substr(0, space), bytes) || parsed.ec != std::errc() ||
        parsed.ptr != rank_text.data() + rank_text.size()) {
      fail(where, fmt::format("{} instead of base64(token), a space and its rank", in_quotes(line)),
           "give a tiktoken rank file, such as r50k_base.tiktoken");
    }
    if (rank >= kMaxVocab - 1) fail(where, fmt::format("rank {} is not in 0 ... {}", rank, kMaxVocab - 2));
    if (rank >= rules.tokens.size()) rules.tokens.resize(rank + 1);
    if (!rules.tokens[rank].empty()) fail(where, fmt::format("rank {} a second time", rank));
    if (bytes.size() > kMaxTokenBytes) {
      fail(where, fmt::format("a token of {} bytes, more than {}", bytes.size(), kMaxTokenBytes));
    }
    const auto [earlier, is_new] = lines.emplace(bytes, number);
    if (!is_new) fail(where, fmt::format("the token of line {} again", earlier->second));
    rules.tokens[rank] = bytes;
  }
  derive_merges(rules);
  check_pattern(rules, source);
  rules.whole_pretokens = true;
  const auto hole = std::find(rules.tokens.begin(), rules.tokens.end(), "");
  rules.end_of_text = static_cast<int32_t>(hole - rules.tokens.begin());
  rules.special = {rules.end_of_text};
  if (hole == rules.tokens.end()) rules.tokens.emplace_back();
  rules.tokens[static_cast<size_t>(rules.end_of_text)] = kEndOfTextName;
  return rules;
}

std::string tokenizer_json(const BpeRules& rules) {
  using Ordered = nlohmann::ordered_json;
  const auto text_of = [&](int32_t id) { return to_letters(rules.tokens[static_cast<size_t>(id)]); };
  Ordered added = Ordered::array();
  std::string entries;  // by hand: one line each, in the order of ids
  for (size_t id = 0; id < rules.tokens.size(); id++) {
    const auto number = static_cast<int32_t>(id);
    const bool special = std::find(rules.special.begin(), rules.special.end(), number) != rules.special.end();
    if (special) {
      added.push_back({{"id", number},
                       {"content", rules.tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
    }
    if (rules.tokens[id].empty()) continue;
    if (!entries.empty()) entries += ",\n";
    entries += fmt::format("      {}: {}", Json(special ? rules.tokens[id] : text_of(number)).dump(), number);
  }
  std::string pairs;
  for (const Merge& merge : rules.merges) {
    if (!pairs.empty()) pairs += ",\n";
    pairs +=
        fmt::format("      {}", Json(fmt::format("{} {}", text_of(merge.left), text_of(merge.right))).dump());
  }
  const Ordered byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return fmt::format(R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": {},
  "normalizer": null,
  "pre_tokenizer": {},
  "post_processor": null,
  "decoder": {},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": {},
    "vocab": {{
{}
    }},
    "merges": [
{}
    ]
  }}
}}
)",
                     added.dump(), byte_level.dump(), byte_level.dump(), rules.whole_pretokens, entries,
                     pairs);
}

}  // namespace kiln::data
