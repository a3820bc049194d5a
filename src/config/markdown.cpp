#include <fmt/format.h>

#include <string>
#include <string_view>

#include "src/config/load.h"
#include "src/config/schema.h"

namespace kiln::config {
namespace {

constexpr const char* kHead = R"(# Every key of a config

Made from the schema (`src/config/schema.cpp`) by `kiln config --markdown > docs/config.md`: change the schema and make it
anew, a test compares the two. `kiln config --explain [PREFIX]` prints the same on a terminal.

A config is a JSON object of sections, each an object of keys:

```json
{
  "extends": "base.json",
  "notes": "What this run is for.",
  "optimizer": { "name": "muon", "lr": 0.01, "notes": { "lr": "The best of three that were tried." } },
  "train": { "steps": 500 }
}
```

- `"extends"` names another config, relative to the file it stands in. Every key that this file does not set comes from that
  one, which may extend a third. Each file of the chain must be sound by itself.
- `"notes"`, text or an object, is for people; it may stand at the top and in every section.
- `--set KEY=VALUE` overrides one key after all files are read. It may be repeated, and the last one wins:
  `kiln train configs/gpt2-mini/adamw.json --set optimizer.lr=0.002 --set train.steps=500`. Text needs no quotes.
- `kiln config CONFIG.json` checks a config and prints it with every key resolved; a run keeps that as `config.json`.
- A mistake - an unknown key, a wrong type, a number out of range, two keys that do not go together - ends with exit code 2
  and a message that names file, line and column.
)";

// Signs that mean something to Markdown inside a table.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '*' || c == '|' || c == '<') out += '\\';
    out += c;
  }
  return out;
}

std::string_view type_of(const Key& key) {
  if (!key.choices.empty()) return "choice";
  if (key.is_text()) return key.unit == kPathUnit ? "path" : "text";
  return key.is_integer() ? "integer" : "number";
}

// What a number is counted in; text needs no unit beside its type.
std::string_view unit_of(const Key& key) {
  return key.is_text() ? std::string_view("-") : std::string_view(key.unit);
}

std::string choices_of(const Key& key) {
  std::string out;
  for (const std::string& choice : key.choices) out += fmt::format("{}`{}`", out.empty() ? "" : ", ", choice);
  return out;
}

std::string range_of(const Key& key) {
  if (!key.choices.empty()) return choices_of(key);
  if (key.is_text()) return key.must_not_be_empty() ? "not empty" : "any";
  return fmt::format("`{}`", range_text(key, key.leaf()));
}

std::string default_of(const Key& key) {
  if (key.is_required()) return "**required**";
  const std::string text = default_text(key);
  return text == "(empty)" ? "empty" : fmt::format("`{}`", text);
}

}  // namespace

std::string markdown() {
  std::string out = kHead;
  for (const std::string& section : sections()) {
    out += fmt::format(
        "\n## {}\n\n| key | type | default | unit | range | meaning |\n|---|---|---|---|---|---|\n", section);
    for (const Key* key : keys_of(section)) {
      out += fmt::format("| `{}` | {} | {} | {} | {} | {} |\n", key->name, type_of(*key), default_of(*key),
                         unit_of(*key), range_of(*key), escaped(key->sentence));
    }
  }
  return out;
}

}  // namespace kiln::config
