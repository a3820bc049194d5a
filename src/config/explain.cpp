#include <fmt/format.h>

#include <algorithm>

#include "src/config/load.h"
#include "src/config/schema.h"
#include "src/config/suggest.h"
#include "src/config/text.h"
#include "src/core/error.h"

namespace kiln::config {
namespace {

constexpr size_t kColumns = 110;
constexpr const char* kIndent = "    ";

// Breaks a sentence between words.
std::string wrapped(const std::string& sentence) {
  std::string out, line = kIndent;
  size_t begin = 0;
  while (begin < sentence.size()) {
    const size_t end = std::min(sentence.find(' ', begin), sentence.size());
    const std::string word = sentence.substr(begin, end - begin);
    if (line.size() + 1 + word.size() > kColumns) {
      out += line + "\n";
      line = kIndent;
    }
    if (line != kIndent) line += ' ';
    line += word;
    begin = end + 1;
  }
  return out + line + "\n";
}

}  // namespace

std::string explain(const std::string& prefix) {
  std::vector<const Key*> keys;
  size_t name_width = 0, default_width = 0, unit_width = 0;
  for (const Key& key : schema()) {
    if (!key.name.starts_with(prefix)) continue;
    keys.push_back(&key);
    name_width = std::max(name_width, key.name.size());
    default_width = std::max(default_width, default_text(key).size());
    unit_width = std::max(unit_width, key.unit.size());
  }
  if (keys.empty()) {
    throw Error(ExitCode::usage, fmt::format("no key starts with {}", in_quotes(prefix)),
                did_you_mean("", prefix, false));
  }
  default_width = std::max(default_width, std::string_view("default").size());
  unit_width = std::max(unit_width, std::string_view("unit").size());
  std::string out = fmt::format("{:<{}}  {:<{}}  {:<{}}  {}\n", "key", name_width, "default", default_width,
                                "unit", unit_width, "range");
  for (const Key* key : keys) {
    out += fmt::format("{:<{}}  {:<{}}  {:<{}}  {}\n", key->name, name_width, default_text(*key),
                       default_width, key->unit, unit_width, range_text(*key, key->leaf()));
    out += wrapped(key->sentence);
  }
  if (prefix.empty()) {
    out += "\nBeside the sections a config may hold\n";
    out += wrapped(
        "\"extends\": \"base.json\" - takes every key that it does not set from that file (a path relative "
        "to its own).");
    out += wrapped("\"notes\": text, or an object of texts, for the reader; at the top or inside a section.");
    out += "On the command line\n";
    out += wrapped(
        "--set optimizer.lr=0.002 - overrides one key of the file, and may be repeated; the last one wins.");
  }
  return out;
}

}  // namespace kiln::config
