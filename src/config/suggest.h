// "Did you mean": what a key that is not in the schema may have meant.
#pragma once

#include <string>
#include <string_view>

namespace kiln::config {

// A hint about the unknown key `name` of `section` (empty: the top level): the keys that it may stand for, by
// misspelling, by standing in the wrong section or by the name that another program gives them; else what
// there is. At the top level the name may be dotted ("optim.lr").
// `is_section`: it holds an object, so it looks like a section.
std::string did_you_mean(std::string_view section, std::string_view name, bool is_section);

}  // namespace kiln::config
