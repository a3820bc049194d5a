#include "src/config/load.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "src/config/assign.h"
#include "src/config/positions.h"
#include "src/config/relations.h"
#include "src/config/schema.h"
#include "src/config/suggest.h"
#include "src/config/text.h"
#include "src/core/error.h"
#include "src/core/file.h"

namespace kiln::config {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kLargestFile = 1 << 20;  // bytes; a config has some fifty keys

struct Document {
  fs::path name;
  json root;
  Node positions;

  std::string at(Position p) const { return fmt::format("{}:{}:{}", name.string(), p.line, p.column); }
};

void check_size(uintmax_t bytes, const fs::path& name) {
  if (bytes <= kLargestFile) return;
  refuse(name.string(), fmt::format("this file has {} bytes, a config at most {}", bytes, kLargestFile),
         "is it another file?");
}

Document read_document(const std::string& text, const fs::path& name) {
  Document document{name, {}, {}};
  check_size(text.size(), name);
  try {
    document.positions = scan(text);
  } catch (const SyntaxError& e) {
    refuse(document.at(e.at()), e.what(), e.hint());
  }
  document.root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  require(!document.root.is_discarded(), "a config passed the scanner but not the JSON parser");
  if (!document.root.is_object()) {
    refuse(document.at(document.positions.value),
           "expected an object: a config starts with { and ends with }",
           "sections are keys of that object: { \"model\": { ... }, \"train\": { ... } }");
  }
  return document;
}

std::string read_config_file(const fs::path& path) {
  std::error_code ignored;  // reading tells better what is wrong
  if (fs::is_directory(path, ignored)) {
    throw Error(ExitCode::usage, fmt::format("{} is a folder, not a config", path.string()),
                "name a .json file in it");
  }
  if (const auto size = fs::file_size(path, ignored); !ignored) check_size(size, path);
  std::string text;
  try {
    read_pieces(path, [&](std::string_view piece) {
      text += piece;
      if (text.size() <= kLargestFile) return;
      // A device or a pipe, which may have no end.
      refuse(path.string(),
             fmt::format("there is no end of it within the {} bytes of a config", kLargestFile),
             "is it another file?");
    });
  } catch (const Error& e) {
    throw Error(ExitCode::usage, e.what(), e.hint());
  }
  return text;
}

// The keys of an object in the order of the file, so that the first mistake is reported first.
std::vector<const std::pair<const std::string, Node>*> in_order(const Node& object) {
  std::vector<const std::pair<const std::string, Node>*> entries;
  for (const auto& entry : object.children) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.key.line, a->second.key.column) <
           std::pair(b->second.key.line, b->second.key.column);
  });
  return entries;
}

void check_notes(const Document& document, const json& notes, const Node& node) {
  if (notes.is_object() || notes.is_string()) return;
  refuse(document.at(node.value), "notes: expected text or an object",
         "notes are ignored; they are there for people");
}

void apply_section(Assignment& assignment, const Document& document, const std::string& section,
                   const Node& node) {
  const json& values = document.root.at(section);
  if (!values.is_object()) {
    std::string keys;
    for (const Key* key : keys_of(section))
      keys += fmt::format("{}{}", keys.empty() ? "" : ", ", key->leaf());
    refuse(document.at(node.value), fmt::format("{}: expected an object", section),
           fmt::format("\"{}\": {{ ... }} with keys of {}", section, keys));
  }
  for (const auto* entry : in_order(node)) {
    const auto& [leaf, place] = *entry;
    const Key* key = find_key(fmt::format("{}.{}", section, leaf));
    if (key) {
      assignment.assign(*key, values.at(leaf), document.at(place.value));
    } else if (leaf == "notes") {
      check_notes(document, values.at(leaf), place);
    } else {
      refuse(document.at(place.key), fmt::format("unknown key {} in \"{}\"", in_quotes(leaf), section),
             did_you_mean(section, leaf, values.at(leaf).is_object()));
    }
  }
}

void apply(Assignment& assignment, const Document& document) {
  for (const auto* entry : in_order(document.positions)) {
    const auto& [name, place] = *entry;
    if (name == "extends") continue;  // followed already
    if (name == "notes") {
      check_notes(document, document.root.at(name), place);
    } else if (std::find(sections().begin(), sections().end(), name) != sections().end()) {
      apply_section(assignment, document, name, place);
    } else {
      refuse(document.at(place.key), fmt::format("unknown key {}", in_quotes(name)),
             did_you_mean("", name, document.root.at(name).is_object()));
    }
  }
}

// The file that `document` extends; empty: none.
fs::path base_of(const Document& document) {
  const Node* place = document.positions.find("/extends");
  if (!place) return {};
  const json& value = document.root.at("extends");
  const std::string where = document.at(place->value),
                    hint = "\"extends\" is a path, relative to the file it stands in";
  if (!value.is_string()) refuse(where, "extends: expected text", hint);
  const auto& path = value.get_ref<const std::string&>();
  if (path.empty()) refuse(where, "extends: is empty", hint);
  if (std::any_of(path.begin(), path.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
    refuse(where, "extends: a path may not hold control characters", hint);
  }
  return (document.name.parent_path() / path).lexically_normal();
}

// The same for every way to write one path, where the file system can tell.
std::string identity(const fs::path& path) {
  std::error_code failed;
  const fs::path canonical = fs::weakly_canonical(path, failed);
  return (failed ? path.lexically_normal() : canonical).string();
}

// `last` and all that it extends, the most basic first.
std::vector<Document> read_chain(Document last, const Files& files) {
  std::vector<Document> chain;
  std::vector<std::string> names, identities;
  for (Document next = std::move(last);;) {
    names.push_back(next.name.string());
    identities.push_back(files.identity(next.name));
    const fs::path base = base_of(next);
    chain.push_back(std::move(next));
    if (base.empty()) break;
    const Document& from = chain.back();
    const std::string where = from.at(from.positions.find("/extends")->value);
    if (std::find(identities.begin(), identities.end(), files.identity(base)) != identities.end()) {
      names.push_back(base.string());
      refuse(where, fmt::format("extends: a circle: {}", fmt::join(names, " -> ")),
             "a chain of files must end at one without \"extends\"");
    }
    std::string text;
    try {
      text = files.read(base);
    } catch (const Error& e) {
      refuse(where, fmt::format("extends: {}", e.what()),
             "\"extends\" is a path, relative to the file it stands in");
    }
    next = read_document(text, base);
  }
  std::reverse(chain.begin(), chain.end());
  return chain;
}

// The value of an override of `key`; `where` names the override.
json override_value(const Key& key, const std::string& text, const std::string& where) {
  const bool is_quoted = text.starts_with('"');
  if (key.is_text() && !is_quoted) {
    if (!is_utf8(text)) refuse(where, fmt::format("{}: the value is not UTF-8", key.name), key.sentence);
    return text;
  }
  try {
    scan(text);
  } catch (const SyntaxError& e) {
    const char first = text.empty() ? ' ' : text.front();
    if (first != '"' && first != '-' && (first < '0' || first > '9')) return text;  // meant as text
    refuse(where, fmt::format("{}: {}", key.name, e.what()),
           is_quoted ? "text may stand without quotes" : "numbers look like -12, 0.5 or 6e-4");
  }
  return json::parse(text);
}

void apply_override(Assignment& assignment, const std::string& text) {
  const auto is_plain = [](char c) { return static_cast<unsigned char>(c) > 0x20 && c != 0x7f; };
  const bool shows = text.size() <= 80 && is_utf8(text) && std::all_of(text.begin(), text.end(), is_plain);
  const std::string where = "--set " + (shows ? text : in_quotes(text));
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    refuse(where, "expected KEY=VALUE", "for example --set optimizer.lr=0.002");
  }
  const std::string name = text.substr(0, equals);
  if (const Key* key = find_key(name)) {
    assignment.assign(*key, override_value(*key, text.substr(equals + 1), where), where);
    return;
  }
  if (const auto keys = keys_of(name); !keys.empty()) {
    std::vector<std::string> names;
    for (const Key* key : keys) names.push_back(key->name);
    refuse(where, fmt::format("{} is a section", in_quotes(name)),
           fmt::format("set one of its keys: {}", either(names)));
  }
  refuse(where, fmt::format("unknown key {}", in_quotes(name)), did_you_mean("", name, false));
}

}  // namespace

Files files_on_disk() {
  return {.read = read_config_file, .identity = identity};
}

Files no_files() {
  return {.read = [](const fs::path& path) -> std::string {
            throw Error(ExitCode::usage,
                        fmt::format("{} is not read: this config must be whole by itself", path.string()),
                        "was it changed since it was written?");
          },
          .identity = [](const fs::path& path) { return path.lexically_normal().string(); }};
}

Config parse(const std::string& text, const fs::path& name, const std::vector<std::string>& overrides,
             const Files& files) {
  Assignment assignment;
  for (const Document& document : read_chain(read_document(text, name), files)) {
    assignment.begin_source();
    apply(assignment, document);
  }
  assignment.begin_source();
  for (const std::string& text_of_override : overrides) apply_override(assignment, text_of_override);
  resolve(assignment, name.string());
  return assignment.config;
}

Optimizer load_optimizer(const fs::path& path, const std::vector<std::string>& overrides) {
  return parse_optimizer(read_config_file(path), path, overrides);
}

Optimizer parse_optimizer(const std::string& text, const fs::path& name,
                          const std::vector<std::string>& overrides) {
  const Document document = read_document(text, name);
  Assignment assignment;
  for (const auto* entry : in_order(document.positions)) {
    const auto& [leaf, place] = *entry;
    if (leaf == "notes") continue;
    const Key* key = find_key(fmt::format("optimizer.{}", leaf));
    if (!key && (leaf == "extends" || leaf == "optimizer")) {
      refuse(document.at(place.key), "this is a whole config",
             "wanted is what stands under \"optimizer\" in one, as a file of its own: { \"name\": \"muon\", "
             "... }");
    }
    if (!key) {
      refuse(document.at(place.key), fmt::format("unknown key {}", in_quotes(leaf)),
             did_you_mean("optimizer", leaf, document.root.at(leaf).is_object()));
    }
    assignment.assign(*key, document.root.at(leaf), document.at(place.value));
  }
  assignment.begin_source();
  for (const std::string& text_of_override : overrides) apply_override(assignment, text_of_override);
  resolve_optimizer(assignment, name.string());
  return assignment.config.optimizer;
}

Config load(const fs::path& path, const std::vector<std::string>& overrides) {
  return parse(read_config_file(path), path, overrides);
}

std::string to_json(const Config& config) {
  Config copy = config;
  nlohmann::ordered_json out;
  for (const Key& key : schema()) {
    std::visit([&](const auto* value) { out[std::string(key.section())][std::string(key.leaf())] = *value; },
               key.slot(copy));
  }
  // Text that did not come from load() may not be UTF-8; it is better shown damaged than not at all.
  return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace kiln::config
