#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "messages/codec.h"
#include "messages/json_scan.h"
#include "tests/unit/messages/fill.h"

namespace onnxferry::messages {
namespace {

using testing::HasSubstr;

std::string problems_of(std::string_view json) {
  v1::ExportRequest request;
  return to_text(parse_request_json(json, request));
}

TEST(JsonRequest, ReportsAllProblemsAtOnceWithTheirPaths) {
  EXPECT_EQ(problems_of(R"({
      "modle_id": "x", "keep_weights": "yes", "opset": 17.5, "variants": "q8", "verify": {"atol": "small", "levl": "run"},
      "split": {"seq_len": [16, "a"]}, "quantize": [], "labels": {"team": 5}, "expires_at": "tomorrow"})"),
            "expires_at: expected an RFC 3339 time such as \"2026-12-01T00:00:00Z\", found the "
            "string \"tomorrow\"\n"
            "keep_weights: expected true or false, found the string \"yes\"\n"
            "labels.team: expected a string, found the number 5\n"
            "modle_id: unknown field; did you mean \"model_id\"?\n"
            "opset: expected a 32-bit integer, found the number 17.5\n"
            "quantize: expected an object, found an array\n"
            "split.seq_len[1]: expected a 32-bit integer, found the string \"a\"\n"
            "variants: expected an array, found the string \"q8\"\n"
            "verify.atol: expected a number, found the string \"small\"\n"
            "verify.levl: unknown field; did you mean \"level\"?\n");
}

TEST(JsonRequest, RefusesDuplicateKeysAtEveryDepth) {
  EXPECT_EQ(
      problems_of(
          R"({"dtype":"fp32","dtype":"fp16","verify":{"level":"run","level":"run"},"labels":{"a":"1","a":"2"}})"),
      "dtype: given twice; give each field once\n"
      "verify.level: given twice; give each field once\n"
      "labels.a: given twice; give each field once\n");
  EXPECT_EQ(problems_of(R"({"output_dir":"a","outputDir":"b"})"),
            "outputDir: given twice, also as \"output_dir\"; give each field once\n");
}

TEST(JsonRequest, BoundsNesting) {
  const auto nested = [](std::size_t depth) {
    return R"({"variants":)" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_THAT(problems_of(nested(kMaxJsonDepth)), HasSubstr("expected a string, found an array"));
  EXPECT_THAT(problems_of(nested(kMaxJsonDepth + 1)), HasSubstr("nested deeper than 32 levels"));
  EXPECT_THAT(problems_of(std::string(500'000, '[')), HasSubstr("nested deeper than 32 levels"));
  EXPECT_THAT(problems_of(nested(100'000)), HasSubstr("nested deeper than 32 levels"));
}

TEST(JsonRequest, RefusesWhatIsNotJson) {
  for (const std::string_view text : {R"({"opset":NaN})",
                                      R"({"opset":1e999})",
                                      R"({"model_id":"\ud800"})",
                                      R"({"model_id":"\udc00x"})",
                                      "{\"model_id\":\"\xff\"}",
                                      "{\"model_id\":\"\xed\xa0\x80\"}",
                                      R"({"a":1,})",
                                      R"({/* no */})",
                                      "{",
                                      "{}x",
                                      R"({"model_id":"a)",
                                      "{\"model_id\":\"a\nb\"}",
                                      R"({"opset":01})",
                                      R"({"opset":0x11})",
                                      ""}) {
    EXPECT_THAT(problems_of(text), HasSubstr("not valid JSON")) << text;
  }
  EXPECT_EQ(problems_of("[]"), ": expected an object, found an array\n");
  EXPECT_EQ(problems_of("null"), ": expected an object, found null\n");
}

TEST(JsonRequest, SaysWhereTheSyntaxIsWrong) {
  EXPECT_EQ(problems_of(R"({"verify": {"level": run}})"),
            "verify.level: not valid JSON at byte 22: syntax error while parsing value - invalid "
            "literal; last "
            "read: '\"level\": r'\n");
}

TEST(JsonRequest, ReadsNumbersAsTheMappingSays) {
  v1::ExportRequest request;
  EXPECT_EQ(
      to_text(parse_request_json(R"({"opset":"18","verify":{"atol":1e-4,"rtol":"0.5"}})", request)),
      "");
  EXPECT_EQ(request.opset(), 18);
  EXPECT_EQ(request.verify().atol(), 1e-4);
  EXPECT_EQ(request.verify().rtol(), 0.5);
  EXPECT_EQ(to_text(parse_request_json(R"({"opset":17.0})", request)), "");
  EXPECT_EQ(request.opset(), 17);
  for (const std::string_view opset : {"2147483648",
                                       "-2147483649",
                                       "1e18",
                                       "18446744073709551616",
                                       "\"18 \"",
                                       "\"\"",
                                       "true",
                                       "[17]"}) {
    EXPECT_THAT(problems_of("{\"opset\":" + std::string(opset) + "}"),
                HasSubstr("opset: expected a 32-bit integer"))
        << opset;
  }
  for (const std::string_view atol : {"\"NaN\"", "\"Infinity\"", "\"1e999\"", "\"\"", "{}"}) {
    EXPECT_THAT(problems_of("{\"verify\":{\"atol\":" + std::string(atol) + "}}"),
                HasSubstr("verify.atol: expected a number"))
        << atol;
  }
}

TEST(JsonRequest, TakesNullForAbsent) {
  v1::ExportRequest request;
  EXPECT_EQ(
      to_text(parse_request_json(R"({"keep_weights":null,"verify":null,"dtype":null})", request)),
      "");
  EXPECT_FALSE(request.has_keep_weights());
  EXPECT_FALSE(request.has_verify());
  EXPECT_THAT(problems_of(R"({"variants":[null]})"),
              HasSubstr("variants[0]: expected a string, found null"));
}

TEST(JsonRequest, TellsFalseFromAbsent) {
  v1::ExportRequest request;
  EXPECT_EQ(to_text(parse_request_json(R"({"keep_weights":false})", request)), "");
  EXPECT_TRUE(request.has_keep_weights());
  EXPECT_FALSE(request.keep_weights());
}

TEST(JsonRequest, BoundsItsReport) {
  std::string json = "{";
  for (int i = 0; i < 5'000; ++i) {
    json += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":1";
  }
  v1::ExportRequest request;
  EXPECT_EQ(parse_request_json(json + "}", request).size(), kMaxProblems);
  EXPECT_LT(
      problems_of("{\"" + std::string(100'000, 'k') + "\":\"" + std::string(100'000, 'v') + "\"}")
          .size(),
      300U);
}

TEST(JsonRequest, ShowsControlCharactersEscaped) {
  EXPECT_EQ(problems_of(R"({"a\u0000b\u001b[31m":1})"), "a\\x00b\\x1b[31m: unknown field\n");
}

RC_GTEST_PROP(JsonRequest, SurvivesAnyText, (const std::string& text)) {
  v1::ExportRequest request;
  RC_ASSERT(!parse_request_json("{\"" + text, request).empty());
}

}  // namespace
}  // namespace onnxferry::messages
