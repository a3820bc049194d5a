#include "src/core/safetensors.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <fstream>

#include "src/core/error.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class Safetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              (std::string("safetensors_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    path_ = folder_ / "x.safetensors";
  }
  void TearDown() override { fs::remove_all(folder_); }

  // A file of the given header text and `data_bytes` zeros; `claimed`: another length than the header's own.
  void write_raw(const std::string& header, size_t data_bytes, int64_t claimed = -1) {
    std::ofstream file(path_, std::ios::binary | std::ios::trunc);
    const uint64_t length = claimed >= 0 ? static_cast<uint64_t>(claimed) : header.size();
    file.write(reinterpret_cast<const char*>(&length), 8);
    file << header << std::string(data_bytes, '\0');
  }

  void expect_refused(const std::string& part) {
    try {
      SafetensorsFile file(path_);
      FAIL() << "accepted; expected: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::data);
      EXPECT_EQ(std::string(e.what()).rfind(path_.string() + ": ", 0), 0u) << e.what();
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what() << "\nexpected: " << part;
      EXPECT_FALSE(e.hint().empty());
    }
  }

  fs::path folder_, path_;
};

template <class T>
std::vector<T> values(const TensorView& view) {
  std::vector<T> v(view.bytes.size() / sizeof(T));
  if (!v.empty()) std::memcpy(v.data(), view.bytes.data(), view.bytes.size());
  return v;
}

std::string entry(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& offsets) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, type, shape, offsets);
}

TEST_F(Safetensors, RoundTrip) {
  const std::vector<float> a = {1.5f, -2, 3, 4, 5, 6};
  const std::vector<int64_t> b = {-7};
  const std::vector<uint8_t> c = {1, 2, 3};
  const std::vector<double> d = {0.1, 0.2};
  const std::vector<TensorSource> tensors = {{"z.weight", TensorType::f32, {2, 3}, a.data()},
                                             {"scalar", TensorType::i64, {}, b.data()},
                                             {"empty", TensorType::bf16, {0, 5}, nullptr},
                                             {"c", TensorType::u8, {3, 1}, c.data()},
                                             {"quote \" and \xc3\xa9", TensorType::f64, {2}, d.data()}};
  write_safetensors(path_, tensors, {.metadata = {{"format", "pt"}, {"note", "a \"b\"\n"}}, .sync = true});

  const SafetensorsFile file(path_);
  EXPECT_EQ(file.names(),
            (std::vector<std::string>{"z.weight", "scalar", "empty", "c", "quote \" and \xc3\xa9"}));
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "a \"b\"\n"}}));
  EXPECT_EQ(file.tensor("z.weight").shape, (Shape{2, 3}));
  EXPECT_EQ(file.tensor("z.weight").type, TensorType::f32);
  EXPECT_EQ(values<float>(file.tensor("z.weight")), a);
  EXPECT_EQ(values<int64_t>(file.tensor("scalar")), b);
  EXPECT_EQ(file.tensor("scalar").shape, Shape{});
  EXPECT_EQ(file.tensor("empty").bytes.size(), 0u);
  EXPECT_EQ(values<uint8_t>(file.tensor("c")), c);
  EXPECT_EQ(values<double>(file.tensor("quote \" and \xc3\xa9")), d);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(file.tensor("z.weight").bytes.data()) % 8, 0u)
      << "the header is padded";
  EXPECT_FALSE(file.contains("nothing"));
  EXPECT_THROW(file.tensor("nothing"), Error);
}

TEST_F(Safetensors, EveryTypeKeepsItsNameAndSize) {
  const std::vector<std::pair<std::string, size_t>> expected = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
      {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},     {"U64", 8},     {"I64", 8}, {"F64", 8}};
  const std::vector<char> data(8 * 3, 'x');
  std::vector<TensorSource> tensors;
  for (size_t i = 0; i < expected.size(); i++) {
    tensors.push_back({expected[i].first, static_cast<TensorType>(i), {3}, data.data()});
  }
  write_safetensors(path_, tensors);
  const SafetensorsFile file(path_);
  for (size_t i = 0; i < expected.size(); i++) {
    const TensorView& view = file.tensor(expected[i].first);
    EXPECT_EQ(name_of(view.type), expected[i].first);
    EXPECT_EQ(view.bytes.size(), 3 * expected[i].second) << expected[i].first;
  }
}

TEST_F(Safetensors, NoTensors) {
  write_safetensors(path_, std::span<const TensorSource>());
  EXPECT_TRUE(SafetensorsFile(path_).names().empty());
  EXPECT_EQ(fs::file_size(path_) % 8, 0u);
}

TEST_F(Safetensors, ReadsFilesOfOtherWriters) {
  // No padding, whitespace, keys in any order, unknown keys, data in another order than the header.
  write_raw("{\"b\": {\"shape\":[1], \"later\":{\"x\":[1]}, \"data_offsets\":[4,8], \"dtype\":\"F32\"},\n" +
                entry("a", "I32", "[1]", "[0,4]") + "}   ",
            8);
  const SafetensorsFile file(path_);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b"}));
}

TEST_F(Safetensors, ManySmallTensorsUnderOneHeader) {
  constexpr size_t kCount = 2000;  // a header of 200 kB, past every buffer
  std::vector<float> data(kCount);
  for (size_t i = 0; i < kCount; i++) data[i] = static_cast<float>(i);
  write_safetensors(path_, kCount, [&](size_t i) {
    return TensorSource{fmt::format("layer.{}.weight", i), TensorType::f32, {1, 1}, &data[i]};
  });
  const SafetensorsFile file(path_);
  ASSERT_EQ(file.names().size(), kCount);
  for (size_t i = 0; i < kCount; i++) {
    EXPECT_EQ(values<float>(file.tensor(fmt::format("layer.{}.weight", i)))[0], static_cast<float>(i));
  }
}

TEST_F(Safetensors, RefusesBrokenFiles) {
  const std::string good = entry("a", "F32", "[2]", "[0,8]");

  std::ofstream(path_, std::ios::trunc) << "";
  expect_refused("the file has 0 bytes");
  std::ofstream(path_, std::ios::trunc) << "1234567";
  expect_refused("the file has 7 bytes");
  write_raw("{}", 0, 3);
  expect_refused("the header claims 3 bytes, but only 2 follow");
  write_raw("{}", 0, 100'000'001);
  expect_refused("more than the 100000000 that are allowed");
  write_raw("{}", 0, INT64_MAX);
  expect_refused("more than the 100000000 that are allowed");
  write_raw("", 0);
  expect_refused("the header is not valid JSON");
  write_raw("{" + good, 8);
  expect_refused("the header is not valid JSON");
  write_raw("{\"a\xff\":1}", 0);
  expect_refused("the header is not valid JSON");
  write_raw("{\"a\":1e999}", 0);
  expect_refused("a number out of range");
  write_raw("[1]", 0);
  expect_refused("the header is not a JSON object");
  write_raw(std::string(100'000, '['), 0);
  expect_refused("nested deeper than 8");
  write_raw("{" + good + "," + entry("a", "F32", "[1]", "[8,12]") + "}", 12);
  expect_refused("has the key \"a\" twice");
  write_raw(R"({"a":{"dtype":"F32","dtype":"I32","shape":[],"data_offsets":[0,4]}})", 4);
  expect_refused("has the key \"dtype\" twice");
  write_raw(R"({"a":7})", 0);
  expect_refused("tensor \"a\" is not described by a JSON object");
  write_raw(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8);
  expect_refused("tensor \"a\" has no \"dtype\"");
  write_raw(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", 8);
  expect_refused("tensor \"a\" has no \"shape\"");
  write_raw(R"({"a":{"dtype":"F32","shape":[2]}})", 8);
  expect_refused("tensor \"a\" has no \"data_offsets\"");
  write_raw(R"({"a":{"dtype":5,"shape":[2],"data_offsets":[0,8]}})", 8);
  expect_refused("a dtype that is not a string");
  write_raw("{" + entry("a", "F31", "[2]", "[0,8]") + "}", 8);
  expect_refused("the unknown dtype \"F31\"");
  write_raw("{" + entry("a", "F32", "2", "[0,8]") + "}", 8);
  expect_refused("a shape that is not an array");
  write_raw("{" + entry("a", "F32", "[-2]", "[0,8]") + "}", 8);
  expect_refused("a shape with an element that is not a whole number");
  write_raw("{" + entry("a", "F32", "[2.0]", "[0,8]") + "}", 8);
  expect_refused("a shape with an element that is not a whole number");
  write_raw("{" + entry("a", "F32", "[4294967296,4294967296]", "[0,8]") + "}", 8);
  expect_refused("a shape whose size overflows");
  write_raw("{" + entry("a", "F32", "[9223372036854775808]", "[0,8]") + "}", 8);
  expect_refused("a shape with an element that is not a whole number");
  write_raw("{" + entry("a", "F32", "[2]", "[0]") + "}", 8);
  expect_refused("data_offsets that are not two whole numbers");
  write_raw("{" + entry("a", "F32", "[2]", "[-8,0]") + "}", 8);
  expect_refused("data_offsets that are not two whole numbers");
  write_raw("{" + entry("a", "F32", "[2]", "[8,0]") + "}", 8);
  expect_refused("ends (offset 0) before it begins (offset 8)");
  write_raw("{" + good + "}", 7);
  expect_refused("ends at offset 8, behind the end of the data (7 bytes)");
  write_raw("{" + entry("a", "F32", "[3]", "[0,8]") + "}", 8);
  expect_refused("occupies 8 bytes, but F32 of shape [3] needs 12");
  write_raw("{" + entry("a", "F32", "[2]", "[4,12]") + "}", 12);
  expect_refused("the data have a gap");
  write_raw("{" + good + "," + entry("b", "F32", "[1]", "[12,16]") + "}", 16);
  expect_refused("tensor \"b\" begins at offset 12, but the one before it ends at 8: the data have a gap");
  write_raw("{" + good + "," + entry("b", "F32", "[2]", "[4,12]") + "}", 12);
  expect_refused("tensor \"b\" begins at offset 4, but the one before it ends at 8: the data overlap");
  write_raw("{" + good + "," + entry("b", "F32", "[2]", "[0,8]") + "}", 8);
  expect_refused("the data overlap");
  write_raw("{" + good + "}", 9);
  expect_refused("1 bytes follow the last tensor");
  write_raw(R"({"__metadata__":[]})", 0);
  expect_refused("__metadata__ is not a JSON object");
  write_raw(R"({"__metadata__":{"k":1}})", 0);
  expect_refused("the metadata entry \"k\" is not a string");
}

TEST_F(Safetensors, AnyPrefixOfAFileIsRefused) {
  const std::vector<float> a(5, 1.0f);
  write_safetensors(path_, std::vector<TensorSource>{{"a", TensorType::f32, {5}, a.data()}},
                    {.metadata = {{"k", "v"}}});
  const std::string whole = read_file(path_);
  for (size_t n = whole.size(); n-- > 0;) {
    fs::resize_file(path_, n);
    EXPECT_THROW(SafetensorsFile{path_}, Error) << n << " bytes";
  }
}

TEST_F(Safetensors, AFileWithOneByteChangedNeverCrashes) {
  const std::vector<float> a(5, 1.0f);
  write_safetensors(path_, std::vector<TensorSource>{{"a", TensorType::f32, {5}, a.data()},
                                                     {"b", TensorType::u8, {}, "x"}});
  const std::string whole = read_file(path_);
  const size_t header = whole.size() - 21;
  std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](size_t at, char c) {
    file.seekp(static_cast<std::streamoff>(at));
    file.put(c);
    file.flush();
  };
  for (size_t at = 0; at < header; at++) {
    for (const char c : {'\0', '9', '"', '{', ']', '\xff'}) {
      put(at, c);
      try {
        for (const SafetensorsFile changed(path_); const std::string& name : changed.names()) {
          EXPECT_LE(changed.tensor(name).bytes.size(), whole.size());
        }
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ExitCode::data);
      }
    }
    put(at, whole[at]);
  }
  EXPECT_EQ(SafetensorsFile(path_).names().size(), 2u);
}

TEST_F(Safetensors, WriteErrorsNameThePathTheReasonAndTheRemedy) {
  const std::vector<float> a(100'000, 1.0f);
  const std::vector<TensorSource> tensors = {{"a", TensorType::f32, {100'000}, a.data()}};
  try {
    write_safetensors("/dev/full", tensors);  // the kernel's disk that has no room
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::data);
    EXPECT_STREQ(e.what(), "/dev/full: cannot write the file: No space left on device");
    EXPECT_NE(e.hint().find("free some space"), std::string::npos);
  }
  try {
    write_safetensors(folder_ / "none" / "x", tensors);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("none/x: cannot create the file: No such file"), std::string::npos)
        << e.what();
  }
}

TEST_F(Safetensors, TheWriterRefusesImpossibleTensors) {
  const float a = 1;
  using Tensors = std::vector<TensorSource>;
  EXPECT_THROW(
      write_safetensors(path_, Tensors{{"a", TensorType::f32, {}, &a}, {"a", TensorType::f32, {}, &a}}),
      Error);
  EXPECT_THROW(write_safetensors(path_, Tensors{{"__metadata__", TensorType::f32, {}, &a}}), Error);
  EXPECT_THROW(write_safetensors(path_, Tensors{{"\xff", TensorType::f32, {}, &a}}), Error);
  EXPECT_THROW(write_safetensors(path_, Tensors{{"a", TensorType::f32, {-1}, &a}}), Error);
}

}  // namespace
}  // namespace kiln
