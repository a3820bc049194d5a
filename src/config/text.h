// Small helpers for messages: quoting what a user wrote, finding what he meant.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kiln::config {

// The length in bytes of the UTF-8 sequence that `text` starts with; 0: none, or an ill-formed one.
size_t utf8_length(std::string_view text);
bool is_utf8(std::string_view text);

// In double quotes, control characters escaped, bytes that are not UTF-8 replaced, cut after 40 characters.
std::string in_quotes(std::string_view text);

// "a, b or c"
std::string either(const std::vector<std::string>& names);

// "a b c" -> "a, b, c"
std::string commas(std::string words);

// The least number of inserted, deleted, replaced or swapped neighbouring characters that turns a into b (the
// restricted Damerau-Levenshtein distance), letter case and '-' for '_' aside.
size_t edit_distance(std::string_view a, std::string_view b);

// Lower case, '-' as '_'.
std::string folded(std::string_view name);

// The candidate that `name` most likely stands for: it begins with at least three letters of the name, or
// lies within an edit distance of a third of the name's length (at least 1). Empty: none. The first of equals
// wins.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace kiln::config
