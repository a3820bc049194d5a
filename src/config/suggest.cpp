#include "src/config/suggest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "src/config/schema.h"
#include "src/config/text.h"

namespace kiln::config {
namespace {

bool has_alias(const Key& key, std::string_view name) {
  const std::string padded = " " + key.aliases + " ";
  return padded.find(fmt::format(" {} ", name)) != std::string::npos;
}

// Keys with this leaf or alias; those of the section alone if it has any.
std::vector<std::string> same_name(std::string_view section, std::string_view name) {
  std::vector<std::string> inside, leaves, aliases;
  for (const Key& key : schema()) {
    const bool is_leaf = key.leaf() == name, is_alias = !is_leaf && has_alias(key, name);
    if ((is_leaf || is_alias) && key.section() == section) inside.push_back(key.name);
    if (is_leaf) leaves.push_back(key.name);
    if (is_alias) aliases.push_back(key.name);
  }
  if (!inside.empty()) return inside;
  return leaves.empty() ? aliases : leaves;
}

std::string question(std::vector<std::string> names) {
  for (std::string& name : names) name = in_quotes(name);
  return fmt::format("did you mean {}?", either(names));
}

}  // namespace

std::string did_you_mean(std::string_view section, std::string_view name, bool is_section) {
  const std::string plain = folded(name);
  const bool is_top = section.empty();
  const std::string like_section = is_top ? nearest(plain, sections()) : std::string();
  if (is_section && !like_section.empty()) return question({like_section});
  if (is_top && find_key(plain)) {
    const Key& key = *find_key(plain);
    if (plain != name) return question({plain});
    return fmt::format("a key stands inside its section: \"{}\": {{ \"{}\": ... }}", key.section(),
                       key.leaf());
  }
  if (const size_t dot = plain.find('.'); is_top && dot != std::string::npos) {
    const std::string other = nearest(plain.substr(0, dot), sections());
    const std::string key = fmt::format("{}.{}", other, plain.substr(dot + 1));
    if (find_key(key)) return question({key});
    if (!other.empty()) return did_you_mean(other, plain.substr(dot + 1), false);
  }
  if (plain == "extends") return "\"extends\" stands in a file, at its top level";
  if (const auto same = same_name(section, plain); !same.empty()) return question(same);

  std::vector<std::string> leaves, all_leaves, all_names;
  for (const Key* key : keys_of(section)) leaves.emplace_back(key->leaf());
  for (const Key& key : schema()) {
    all_leaves.emplace_back(key.leaf());
    all_names.push_back(key.name);
  }
  const std::string in_section = fmt::format("{}.{}", section, plain);
  std::string best = nearest(plain, leaves);
  if (!best.empty()) return question({fmt::format("{}.{}", section, best)});
  best = is_top ? std::string() : nearest(in_section, all_names);
  if (!best.empty()) return question({best});
  best = nearest(plain, all_leaves);
  if (!best.empty()) return question(same_name("", best));
  if (is_top) {
    if (!like_section.empty()) return question({like_section});
    return fmt::format("the sections are {}", fmt::join(sections(), ", "));
  }
  return fmt::format("the keys of \"{}\" are {}", section, fmt::join(leaves, ", "));
}

}  // namespace kiln::config
