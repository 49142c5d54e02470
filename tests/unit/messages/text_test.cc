#include "messages/text.h"

#include <array>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "onnxferry/v1/export.pb.h"

namespace onnxferry::messages {
namespace {

constexpr std::array<std::string_view, 4> kWords = {"fp16", "fp32", "output_dir", "task"};

TEST(FindNearest, FindsTyposOnly) {
  EXPECT_EQ(find_nearest("output-dir", kWords), "output_dir");
  EXPECT_EQ(find_nearest("Output_Dir", kWords), "output_dir");
  EXPECT_EQ(find_nearest("tsak", kWords), "");  // two changes of four letters: a guess, not a typo
  EXPECT_EQ(find_nearest("taks_", kWords), "");
  EXPECT_EQ(find_nearest("fp33", kWords), "fp32");
  EXPECT_EQ(find_nearest("FP16", kWords), "fp16");
  constexpr std::array<std::string_view, 2> kShort = {"cpu", "O2"};
  EXPECT_EQ(find_nearest("gpu", kShort), "");
  EXPECT_EQ(find_nearest("o2", kShort), "O2");
  EXPECT_EQ(find_nearest("bananas", kWords), "");
  EXPECT_EQ(find_nearest(std::string(100'000, 'f'), kWords), "");
  EXPECT_EQ(did_you_mean("taskk", kWords), "; did you mean \"task\"?");
}

TEST(ToValidUtf8, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(to_valid_utf8("plain é 漢 😀"), "plain é 漢 😀");
  EXPECT_EQ(to_valid_utf8("a\xff"
                          "b"),
            "a\uFFFDb");
  EXPECT_EQ(to_valid_utf8("\xc3"), "\uFFFD");                                // cut off
  EXPECT_EQ(to_valid_utf8("\xc0\x80"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(to_valid_utf8("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");            // surrogate
  EXPECT_EQ(to_valid_utf8("\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // past U+10FFFF
}

RC_GTEST_PROP(ToValidUtf8, GivesTextThatProtobufTakes, (const std::string& bytes)) {
  v1::Warning warning;
  warning.set_text(bytes);
  make_utf8_valid(warning);
  RC_ASSERT(to_valid_utf8(warning.text()) == warning.text());
  v1::Warning copy;
  RC_ASSERT(copy.ParseFromString(warning.SerializeAsString()));
}

TEST(MakeUtf8Valid, ReachesEveryDepth) {
  v1::ExportReply reply;
  (*reply.mutable_labels())["k"] = "\xff";
  reply.mutable_result()->add_inputs()->add_dims("\xff");
  reply.mutable_result()->set_task("\xff");
  make_utf8_valid(reply);
  EXPECT_EQ(reply.labels().at("k"), "\uFFFD");
  EXPECT_EQ(reply.result().inputs(0).dims(0), "\uFFFD");
  EXPECT_EQ(reply.result().task(), "\uFFFD");
}

TEST(Utf8Prefix, CutsBetweenCharacters) {
  EXPECT_EQ(utf8_prefix("aé", 2), "a");
  EXPECT_EQ(utf8_prefix("aé", 3), "aé");
  EXPECT_EQ(utf8_prefix("😀", 3), "");
}

TEST(Quote, ShowsForeignTextSafely) {
  EXPECT_EQ(quote("a\x1b[0m\n"), "\"a\\x1b[0m\\x0a\"");
  EXPECT_EQ(quote(std::string(200, 'x'), 10), "\"xxxxxxxxxx…\"");
  EXPECT_EQ(quote("\xff"), "\"\uFFFD\"");
}

}  // namespace
}  // namespace onnxferry::messages
