#include "src/core/file.h"

#include <gtest/gtest.h>

#include <utility>

#include "tests/core/temporary_folder.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using testing::error_message;
using testing::TemporaryFolder;

TEST(File, WritesAtomicallyAndReadsBack) {
  const TemporaryFolder folder;
  const std::string content("with\0zero\xff", 10);
  write_file_atomically(folder / "a", "old");
  write_file_atomically(folder / "a", content);
  EXPECT_EQ(read_file(folder / "a"), content);
  EXPECT_EQ(testing::content_of(folder / "a"), content);
  write_file_atomically(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "empty"), "");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2)
      << "a temporary file was left behind";
}

TEST(File, ReadsMoreThanOneBuffer) {
  const TemporaryFolder folder;
  std::string content(1000003, ' ');
  for (size_t i = 0; i < content.size(); i++) content[i] = static_cast<char>(i * i % 251);
  write_file_atomically(folder / "a", content);
  EXPECT_EQ(read_file(folder / "a"), content);
}

TEST(File, AFailedWriteKeepsTheOldContent) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "old");
  fs::create_directory(folder / "a.tmp");  // so the temporary file cannot be made
  EXPECT_THROW(write_file_atomically(folder / "a", "new"), Error);
  EXPECT_EQ(read_file(folder / "a"), "old");
}

TEST(File, ErrorsNameThePathAndTheReason) {
  const TemporaryFolder folder;
  const std::string missing = (folder / "missing").string();
  const std::string reason = missing + ": No such file or directory";
  EXPECT_EQ(error_message(ExitCode::data, [&] { read_file(missing); }), "cannot open " + reason);
  EXPECT_EQ(error_message(ExitCode::data, [&] { MappedFile file(missing); }), "cannot open " + reason);
  EXPECT_EQ(error_message(ExitCode::data, [&] { sync_file(missing); }), "cannot open " + reason);
  EXPECT_EQ(error_message(ExitCode::data, [&] { write_file_atomically(missing + "/a", "x"); }),
            "cannot create " + missing + "/a.tmp: No such file or directory");
  EXPECT_EQ(error_message(ExitCode::data, [&] { MappedFile file(folder.path()); }),
            folder.path().string() + " is not a regular file");
}

TEST(File, MapsAWholeFile) {
  const TemporaryFolder folder;
  const std::string content("some\0bytes", 10);
  const MappedFile file(folder.write("a", content));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()), content);
  const MappedFile empty(folder.write("empty", ""));
  EXPECT_TRUE(empty.bytes().empty());
}

TEST(File, AMappingMovesAndOutlivesItsName) {
  const TemporaryFolder folder;
  MappedFile first(folder.write("a", "first"));
  MappedFile second(folder.write("b", "second"));
  fs::remove(folder / "a");
  fs::remove(folder / "b");
  MappedFile moved(std::move(first));
  EXPECT_EQ(static_cast<char>(moved.bytes()[0]), 'f');
  moved = std::move(second);
  ASSERT_EQ(moved.bytes().size(), 6u);
  EXPECT_EQ(static_cast<char>(moved.bytes()[0]), 's');
}

}  // namespace
}  // namespace kiln
