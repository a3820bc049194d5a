// docs/config.md is what the program says of its keys.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "src/config/load.h"
#include "src/config/schema.h"
#include "src/core/file.h"
#include "tests/paths.h"

namespace kiln::config {
namespace {

TEST(Markdown, TheCommittedManualIsWhatTheProgramPrints) {
  EXPECT_TRUE(read_file(paths::source() + "/docs/config.md") == markdown())
      << "docs/config.md is not what this program prints. Refresh it: kiln config --markdown > "
         "docs/config.md";
}

TEST(Markdown, EveryKeyIsARowOfSixCells) {
  const std::string page = markdown();
  for (const Key& key : schema()) {
    const size_t begin = page.find("\n| `" + key.name + "` |");
    ASSERT_NE(begin, std::string::npos) << key.name;
    const std::string row = page.substr(begin + 1, page.find('\n', begin + 1) - begin - 1);
    int bars = 0;
    for (size_t i = 0; i < row.size(); i++) bars += row[i] == '|' && (i == 0 || row[i - 1] != '\\');
    EXPECT_EQ(bars, 7) << row;
    if (!key.is_required() && default_text(key) != "(empty)") {
      EXPECT_NE(row.find("`" + default_text(key) + "`"), std::string::npos) << row;
    }
    if (!key.is_text()) {
      EXPECT_NE(row.find(range_text(key, key.leaf())), std::string::npos) << row;
      EXPECT_NE(row.find(key.unit), std::string::npos) << row;
    }
    for (const std::string& choice : key.choices)
      EXPECT_NE(row.find("`" + choice + "`"), std::string::npos) << row;
  }
}

}  // namespace
}  // namespace kiln::config
