#include "pipeline/checkpoint/safetensors.h"

#include <array>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/checkpoint/checkpoint_files.h"

namespace onnxferry {
namespace {

using testing::ElementsAre;
using enum ErrorCode;

std::vector<TensorInfo> parse(std::string_view json, std::uint64_t data_bytes) {
  return parse_safetensors_header(json, 8 + json.size() + data_bytes, "model.safetensors");
}

TEST(SafetensorsHeader, ListsTensorsByOffsetFromTheStartOfTheFile) {
  const std::string json =
      R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
      R"("a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"__metadata__":{"format":"pt"}})";
  const auto tensors = parse(json, 28);
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, Dtype::kBFloat16);
  EXPECT_THAT(tensors[0].shape, ElementsAre(2));
  EXPECT_EQ(tensors[0].offset, 8 + json.size());
  EXPECT_EQ(tensors[0].bytes, 4U);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_THAT(tensors[1].shape, ElementsAre(2, 3));
  EXPECT_EQ(tensors[1].offset, 8 + json.size() + 4);
  EXPECT_EQ(tensors[1].bytes, 24U);
}

struct GoodHeader {
  const char* name;
  std::string json;
  std::uint64_t data_bytes;
  std::size_t tensors;
};

class AcceptedHeader : public testing::TestWithParam<GoodHeader> {};

TEST_P(AcceptedHeader, IsRead) {
  const GoodHeader& header = GetParam();
  EXPECT_EQ(parse(header.json, header.data_bytes).size(), header.tensors);
}

INSTANTIATE_TEST_SUITE_P(
    SafetensorsHeader,
    AcceptedHeader,
    testing::Values(
        GoodHeader{"NoTensors", "{}", 0, 0},
        GoodHeader{"Scalar", R"({"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]}})", 8, 1},
        GoodHeader{
            "WhiteSpaceAfter", R"({"s":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   )", 1, 1},
        // Writers may pad in front to align the data to pages.
        GoodHeader{"WhiteSpaceBefore",
                   " \n\t"
                   R"({"s":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                   1,
                   1},
        GoodHeader{"EmptyTensorSharesItsOffset",
                   R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                   R"("e":{"dtype":"F32","shape":[0,7],"data_offsets":[2,2]},)"
                   R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                   3,
                   3},
        GoodHeader{
            "OnlyEmptyTensors", R"({"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", 0, 1},
        GoodHeader{"MetadataWithoutFormat", R"({"__metadata__":{"step":"3"}})", 0, 0},
        GoodHeader{"FormatMlx", R"({"__metadata__":{"format":"mlx"}})", 0, 0},
        GoodHeader{"RankEight",
                   R"({"r":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
                   1,
                   1},
        GoodHeader{
            "NameInUtf8", R"({"größe":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, 1}),
    case_name<GoodHeader>);

TEST(SafetensorsHeader, ReadsEveryDtypeWithItsSize) {
  const std::array<std::pair<const char*, std::uint64_t>, 15> sizes = {{{"BOOL", 1},
                                                                        {"U8", 1},
                                                                        {"I8", 1},
                                                                        {"F8_E4M3", 1},
                                                                        {"F8_E5M2", 1},
                                                                        {"U16", 2},
                                                                        {"I16", 2},
                                                                        {"F16", 2},
                                                                        {"BF16", 2},
                                                                        {"U32", 4},
                                                                        {"I32", 4},
                                                                        {"F32", 4},
                                                                        {"U64", 8},
                                                                        {"I64", 8},
                                                                        {"F64", 8}}};
  for (const auto& [dtype, bytes] : sizes) {
    const std::string json = R"({"t":{"dtype":")" + std::string(dtype) +
                             R"(","shape":[3],"data_offsets":[0,)" + std::to_string(3 * bytes) +
                             "]}}";
    const auto tensors = parse(json, 3 * bytes);
    ASSERT_EQ(tensors.size(), 1U) << dtype;
    EXPECT_EQ(safetensors_name(tensors[0].dtype), dtype);
    EXPECT_EQ(item_bytes(tensors[0].dtype), bytes) << dtype;
  }
}

struct HostileHeader {
  const char* name;
  std::string json;
  std::uint64_t data_bytes;
  ErrorCode code;
  const char* message_part;
};

class RefusedHeader : public testing::TestWithParam<HostileHeader> {};

TEST_P(RefusedHeader, NamesWhatIsWrong) {
  const HostileHeader& header = GetParam();
  const Error error = error_of([&] { parse(header.json, header.data_bytes); });
  expect_error(error, header.code, header.message_part);
  EXPECT_TRUE(error.message().starts_with("model.safetensors: ")) << error.message();
  EXPECT_LT(error.message().size(), 600U) << "messages about hostile input stay short";
}

std::string tensor(const std::string& fields) {
  return R"({"t":{)" + fields + "}}";
}

const std::string kGood = R"("dtype":"U8","shape":[4],"data_offsets":[0,4])";

INSTANTIATE_TEST_SUITE_P(
    Structure,
    RefusedHeader,
    testing::Values(
        HostileHeader{"Empty", "", 0, kCorruptCheckpoint, "does not hold a JSON object"},
        HostileHeader{"OnlySpace", "    ", 0, kCorruptCheckpoint, "does not hold a JSON object"},
        HostileHeader{"Array", "[]", 0, kCorruptCheckpoint, "does not hold a JSON object"},
        HostileHeader{"ByteOrderMark",
                      "\xEF\xBB\xBF{}",
                      0,
                      kCorruptCheckpoint,
                      "does not hold a JSON object"},
        HostileHeader{"Unclosed", R"({"t":)", 0, kCorruptCheckpoint, "is not valid JSON at byte"},
        HostileHeader{"SecondObject", "{}{}", 0, kCorruptCheckpoint, "is not valid JSON at byte"},
        HostileHeader{"TextAfter", "{} x", 0, kCorruptCheckpoint, "is not valid JSON at byte"},
        HostileHeader{"NulThenText",
                      std::string("{}\0{\"hidden\":1}", 14),
                      0,
                      kCorruptCheckpoint,
                      "a NUL byte"},
        HostileHeader{"Comment", "{/* */}", 0, kCorruptCheckpoint, "is not valid JSON at byte"},
        HostileHeader{"InvalidUtf8",
                      "{\"\xC3\x28\":{" + kGood + "}}",
                      4,
                      kCorruptCheckpoint,
                      "is not valid JSON at byte"},
        HostileHeader{"LoneSurrogate",
                      R"({"\ud800":{)" + kGood + "}}",
                      4,
                      kCorruptCheckpoint,
                      "is not valid JSON at byte"},
        HostileHeader{"TensorIsNumber",
                      R"({"t":1})",
                      0,
                      kCorruptCheckpoint,
                      "has a number under \"t\"; expected an object"},
        HostileHeader{
            "TensorIsArray", R"({"t":[]})", 0, kCorruptCheckpoint, "has an array under \"t\""},
        HostileHeader{
            "TensorIsNull", R"({"t":null})", 0, kCorruptCheckpoint, "has null under \"t\""},
        HostileHeader{
            "TooDeep", tensor(R"("shape":[[4]])"), 4, kCorruptCheckpoint, "has an array in shape"},
        HostileHeader{"DeepBomb",
                      R"({"t":{"shape":)" + std::string(100000, '[') + "}}",
                      4,
                      kCorruptCheckpoint,
                      "has an array in shape"},
        HostileHeader{"DuplicateTensor",
                      R"({"t":{)" + kGood + R"(},"t":{)" + kGood + "}}",
                      4,
                      kCorruptCheckpoint,
                      "names tensor \"t\" twice"},
        HostileHeader{"DuplicateTensorByEscape",
                      R"({"t":{)" + kGood + R"(},"\u0074":{)" + kGood + "}}",
                      4,
                      kCorruptCheckpoint,
                      "names tensor \"t\" twice"},
        HostileHeader{"DuplicateDtype",
                      tensor(R"("dtype":"U8",)" + kGood),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has dtype twice"},
        HostileHeader{"DuplicateShape",
                      tensor(R"("shape":[4],)" + kGood),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has shape twice"},
        HostileHeader{"DuplicateOffsets",
                      tensor(kGood + R"(,"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has data_offsets twice"},
        HostileHeader{"UnknownKey",
                      tensor(kGood + R"(,"strides":[1])"),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has the unknown key \"strides\""},
        HostileHeader{"EmptyName",
                      R"({"":{)" + kGood + "}}",
                      4,
                      kCorruptCheckpoint,
                      "tensor name of 0 bytes"},
        HostileHeader{"LongName",
                      "{\"" + std::string(1025, 'n') + "\":{" + kGood + "}}",
                      4,
                      kCorruptCheckpoint,
                      "tensor name of 1025 bytes"},
        HostileHeader{"ControlInName",
                      R"({"a\nb":{)" + kGood + "}}",
                      4,
                      kCorruptCheckpoint,
                      R"(control characters: "a\nb")"},
        HostileHeader{"NulInName",
                      R"({"a\u0000b":{)" + kGood + "}}",
                      4,
                      kCorruptCheckpoint,
                      "control characters"}),
    case_name<HostileHeader>);

INSTANTIATE_TEST_SUITE_P(
    Metadata,
    RefusedHeader,
    testing::Values(HostileHeader{"Twice",
                                  R"({"__metadata__":{},"__metadata__":{}})",
                                  0,
                                  kCorruptCheckpoint,
                                  "has __metadata__ twice"},
                    HostileHeader{"KeyTwice",
                                  R"({"__metadata__":{"format":"tf","format":"pt"}})",
                                  0,
                                  kCorruptCheckpoint,
                                  "has the key \"format\" twice"},
                    HostileHeader{"ValueIsNumber",
                                  R"({"__metadata__":{"step":3}})",
                                  0,
                                  kCorruptCheckpoint,
                                  "has a number as \"step\" of __metadata__; expected a string"},
                    HostileHeader{"ValueIsObject",
                                  R"({"__metadata__":{"step":{}}})",
                                  0,
                                  kCorruptCheckpoint,
                                  "has an object as \"step\" of __metadata__"},
                    HostileHeader{"ValueIsNull",
                                  R"({"__metadata__":{"step":null}})",
                                  0,
                                  kCorruptCheckpoint,
                                  "has null as \"step\""},
                    HostileHeader{"IsArray",
                                  R"({"__metadata__":[]})",
                                  0,
                                  kCorruptCheckpoint,
                                  "has an array under \"__metadata__\""},
                    HostileHeader{"FormatTf",
                                  R"({"__metadata__":{"format":"tf"}})",
                                  0,
                                  kUnsupportedModel,
                                  "names format \"tf\", expected \"pt\""},
                    HostileHeader{"FormatFlax",
                                  R"({"__metadata__":{"format":"flax"}})",
                                  0,
                                  kUnsupportedModel,
                                  "names format \"flax\""},
                    HostileHeader{"FormatNumpy",
                                  R"({"__metadata__":{"format":"np"}})",
                                  0,
                                  kUnsupportedModel,
                                  "names format \"np\""}),
    case_name<HostileHeader>);

INSTANTIATE_TEST_SUITE_P(
    TensorFields,
    RefusedHeader,
    testing::Values(
        HostileHeader{"NoDtype",
                      tensor(R"("shape":[4],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has no dtype"},
        HostileHeader{"NoShape",
                      tensor(R"("dtype":"U8","data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has no shape"},
        HostileHeader{"NoOffsets",
                      tensor(R"("dtype":"U8","shape":[4])"),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has no data_offsets"},
        HostileHeader{"UnknownDtype",
                      tensor(R"("dtype":"F99","shape":[4],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has the unknown dtype \"F99\""},
        HostileHeader{"LowerCaseDtype",
                      tensor(R"("dtype":"f32","shape":[1],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "unknown dtype \"f32\""},
        HostileHeader{"DtypeIsNumber",
                      tensor(R"("dtype":8,"shape":[4],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "tensor \"t\" has a number as dtype; expected a string"},
        HostileHeader{"Float4",
                      tensor(R"("dtype":"F4","shape":[8],"data_offsets":[0,4])"),
                      4,
                      kUnsupportedModel,
                      "tensor \"t\" has dtype F4, which is not read"},
        HostileHeader{"Float6",
                      tensor(R"("dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3])"),
                      3,
                      kUnsupportedModel,
                      "has dtype F6_E2M3"},
        HostileHeader{"Float8Scale",
                      tensor(R"("dtype":"F8_E8M0","shape":[4],"data_offsets":[0,4])"),
                      4,
                      kUnsupportedModel,
                      "has dtype F8_E8M0"},
        HostileHeader{"Complex",
                      tensor(R"("dtype":"C64","shape":[1],"data_offsets":[0,8])"),
                      8,
                      kUnsupportedModel,
                      "has dtype C64"},
        HostileHeader{"ShapeIsString",
                      tensor(R"("dtype":"U8","shape":"4","data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "has a string as shape; expected an array"},
        HostileHeader{"NegativeDim",
                      tensor(R"("dtype":"U8","shape":[-4],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "has a negative number in shape"},
        HostileHeader{"FractionalDim",
                      tensor(R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "no 64-bit integer in shape"},
        HostileHeader{"HugeDim",
                      tensor(R"("dtype":"U8","shape":[9223372036854775808],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "a number past 2^63 in shape"},
        HostileHeader{"DimPast64Bits",
                      tensor(R"("dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "no 64-bit integer in shape"},
        HostileHeader{"RankNine",
                      tensor(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,4],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "more than 8 dimensions"},
        // 2^32 * 2^32 wraps to 0 and would pass an unchecked product.
        HostileHeader{
            "ShapeOverflows",
            tensor(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0])"),
            0,
            kCorruptCheckpoint,
            "more bytes than 64 bits count"},
        HostileHeader{"BytesOverflow",
                      tensor(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])"),
                      0,
                      kCorruptCheckpoint,
                      "more bytes than 64 bits count"},
        HostileHeader{"OneOffset",
                      tensor(R"("dtype":"U8","shape":[4],"data_offsets":[4])"),
                      4,
                      kCorruptCheckpoint,
                      "has 1 numbers in data_offsets"},
        HostileHeader{"ThreeOffsets",
                      tensor(R"("dtype":"U8","shape":[4],"data_offsets":[0,4,8])"),
                      4,
                      kCorruptCheckpoint,
                      "more than two numbers in data_offsets"},
        HostileHeader{"OffsetIsString",
                      tensor(R"("dtype":"U8","shape":[4],"data_offsets":["0",4])"),
                      4,
                      kCorruptCheckpoint,
                      "has a string in data_offsets"},
        HostileHeader{"NegativeOffset",
                      tensor(R"("dtype":"U8","shape":[4],"data_offsets":[-4,0])"),
                      4,
                      kCorruptCheckpoint,
                      "has a negative number in data_offsets"},
        HostileHeader{"EndBeforeBegin",
                      tensor(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])"),
                      4,
                      kCorruptCheckpoint,
                      "ends at byte 0 before its begin 4"},
        HostileHeader{"SizeDiffersFromShape",
                      tensor(R"("dtype":"F32","shape":[4],"data_offsets":[0,4])"),
                      4,
                      kCorruptCheckpoint,
                      "has 4 bytes of data, but F32 [4] takes 16"},
        HostileHeader{"ScalarOfNoBytes",
                      tensor(R"("dtype":"F32","shape":[],"data_offsets":[0,0])"),
                      0,
                      kCorruptCheckpoint,
                      "has 0 bytes of data, but F32 [] takes 4"}),
    case_name<HostileHeader>);

std::string two(const char* first, const char* second) {
  return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + first +
         R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
}

INSTANTIATE_TEST_SUITE_P(
    Layout,
    RefusedHeader,
    testing::Values(
        HostileHeader{"HoleAtStart",
                      tensor(R"("dtype":"U8","shape":[4],"data_offsets":[1,5])"),
                      5,
                      kCorruptCheckpoint,
                      "tensor \"t\" begins at byte 1, which leaves a hole"},
        HostileHeader{"Hole",
                      two("[0,4]", "[5,9]"),
                      9,
                      kCorruptCheckpoint,
                      "tensor \"b\" begins at byte 5, which leaves a hole after"},
        HostileHeader{"Overlap",
                      two("[0,4]", "[2,6]"),
                      6,
                      kCorruptCheckpoint,
                      "tensor \"b\" begins at byte 2, which overlaps"},
        HostileHeader{"SameBytesTwice",
                      two("[0,4]", "[0,4]"),
                      4,
                      kCorruptCheckpoint,
                      "begins at byte 0, which overlaps"},
        HostileHeader{
            "EmptyTensorInsideAnother",
            R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"e":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
            4,
            kCorruptCheckpoint,
            "tensor \"e\" begins at byte 2, which overlaps"},
        HostileHeader{"PastTheFile",
                      two("[0,4]", "[4,8]"),
                      7,
                      kCorruptCheckpoint,
                      "tensor \"b\" ends at byte 8 past the file's 7 bytes of data"},
        HostileHeader{
            "FarPastTheFile",
            tensor(
                R"("dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807])"),
            4,
            kCorruptCheckpoint,
            "past the file's 4 bytes"},
        HostileHeader{"BytesAfterTheLast",
                      two("[0,4]", "[4,8]"),
                      9,
                      kCorruptCheckpoint,
                      "the tensors end at byte 8, but the file has 9 bytes of data"},
        HostileHeader{"DataWithoutTensors",
                      "{}",
                      1,
                      kCorruptCheckpoint,
                      "the tensors end at byte 0, but the file has 1 bytes"}),
    case_name<HostileHeader>);

TEST(SafetensorsHeader, RefusesMoreTensorsThanTheLimit) {
  std::string json = "{";
  for (int i = 0; i < 4; ++i) {
    json += (i == 0 ? "\"" : ",\"") + std::to_string(i) +
            R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  json += "}";
  EXPECT_EQ(parse_safetensors_header(json, 8 + json.size(), "f", 4).size(), 4U);
  expect_error(error_of([&] { parse_safetensors_header(json, 8 + json.size(), "f", 3); }),
               kCorruptCheckpoint,
               "more than 3 tensors");
}

TEST(SafetensorsHeader, MessagesEscapeAndBoundHostileNames) {
  const std::string json =
      "{\"" + std::string(900, 'n') + "\":{\"dtype\":\"Q\",\"shape\":[],\"data_offsets\":[0,0]}}";
  const Error error = error_of([&] { parse(json, 0); });
  EXPECT_LT(error.message().size(), 400U) << error.message();
}

TEST(SafetensorsLength, ReadsLittleEndian) {
  EXPECT_EQ(safetensors_header_bytes(std::string_view("\x02\x01\0\0\0\0\0\0", 8), 10000, "f"),
            258U);
}

TEST(SafetensorsLength, RefusesWhatTheFileCannotHold) {
  const auto error = [](std::string_view prefix, std::uint64_t file_bytes) {
    return error_of([&] { safetensors_header_bytes(prefix, file_bytes, "model.safetensors"); });
  };
  expect_error(error("\x01", 1), kCorruptCheckpoint, "1 bytes are too few for a safetensors file");
  expect_error(error({"\x09\0\0\0\0\0\0\0", 8}, 16),
               kCorruptCheckpoint,
               "header of 9 bytes, but the file has only 16");
  expect_error(error({"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 8}, 16),
               kCorruptCheckpoint,
               "expected at most 100000000");
  expect_error(error({"\x01\xE1\xF5\x05\0\0\0\0", 8}, 1ULL << 40),
               kCorruptCheckpoint,
               "header of 100000001 bytes");
  expect_error(error("version ", 130), kCorruptCheckpoint, "Git LFS pointer");
}

TEST(Dtype, TablesAgreeWithEachOther) {
  for (int i = 0; i <= static_cast<int>(Dtype::kFloat8E5M2); ++i) {
    const auto dtype = static_cast<Dtype>(i);
    EXPECT_EQ(find_safetensors_dtype(safetensors_name(dtype)), dtype);
  }
  EXPECT_EQ(find_safetensors_dtype("F4"), std::nullopt);
  EXPECT_EQ(onnx_name(Dtype::kFloat32), "float");
  EXPECT_EQ(onnx_data_type(Dtype::kFloat16), 10);
  EXPECT_EQ(onnx_data_type(Dtype::kBFloat16), 16);
  EXPECT_TRUE(is_float(Dtype::kFloat8E5M2));
  EXPECT_FALSE(is_float(Dtype::kInt64));
}

TEST(ElementCount, MultipliesAndRefusesOverflow) {
  EXPECT_EQ(element_count(Shape{}), 1U);
  EXPECT_EQ(element_count(Shape{2, 3, 4}), 24U);
  EXPECT_EQ(element_count(Shape{7, 0}), 0U);
  const Shape huge{1LL << 40, 1LL << 40};
  expect_error(error_of([&] { element_count(huge); }), kCorruptCheckpoint, "no countable number");
  const Shape negative{-1};
  expect_error(error_of([&] { element_count(negative); }), kCorruptCheckpoint, "shape [-1]");
}

}  // namespace
}  // namespace onnxferry
