#include "pipeline/verify/compare.h"

#include <cmath>

#include "pipeline/verify/symbols.h"
#include "pipeline/verify/tensor.h"
#include "tests/unit/verify/test_graphs.h"

namespace onnxferry {
namespace {

using ::testing::ElementsAre;

Tensor floats(std::vector<std::int64_t> dims, const std::vector<double>& values) {
  Tensor tensor = zeros("logits", ElementType::kFloat, std::move(dims));
  for (std::size_t i = 0; i < values.size(); ++i) {
    set_element(tensor, i, values[i]);
  }
  return tensor;
}

TEST(Ledger, NamesTheWorstElementAndWhatIsAllowed) {
  Ledger ledger("model.onnx", {.atol = 0.125, .rtol = 0.25});
  const Tensor expected = floats({1, 2, 2}, {1, 2, 3, 4});
  const Tensor actual = floats({1, 2, 2}, {1, 2.5, 3, 6});
  const Error error =
      test::error_of([&] { ledger.compare("prefill and decoding", expected, actual, {0, 10}); });
  EXPECT_EQ(error.code(), ErrorCode::kVerificationFailed);
  EXPECT_EQ(error.message(), "logits: prefill and decoding differ by 2 at [0, 11, 1], allowed 1.1");
}

TEST(Ledger, ToleranceIsAbsolutePlusRelative) {
  Ledger ledger("model.onnx", {.atol = 0.125, .rtol = 0.25});
  EXPECT_NO_THROW(ledger.compare("a and b", floats({2}, {0, 4}), floats({2}, {0.125, 5.125})));
  EXPECT_THROW(ledger.compare("a and b", floats({1}, {0}), floats({1}, {0.126})), Error);
  EXPECT_THROW(ledger.compare("a and b", floats({1}, {4}), floats({1}, {5.126})), Error);
}

TEST(Ledger, KeepsTheWorstFiguresOfEachOutput) {
  Ledger ledger("model.onnx", {.atol = 10, .rtol = 0});
  ledger.compare("a and b", floats({2, 2}, {1, 0, 0, 1}), floats({2, 2}, {1, 0, 0, 1}));
  EXPECT_EQ(ledger.checks().at(0).max_abs_diff, 0);
  EXPECT_EQ(ledger.checks().at(0).argmax_agreement, 1);
  ledger.compare("a and b", floats({2, 2}, {1, 0, 0, 1}), floats({2, 2}, {1, 0, 1, 0}));
  ledger.compare("a and b", floats({2, 2}, {1, 0, 0, 1}), floats({2, 2}, {1, 0, 0, 1}));
  ASSERT_EQ(ledger.checks().size(), 1U);
  EXPECT_EQ(ledger.checks()[0].output, "logits");
  EXPECT_EQ(ledger.checks()[0].max_abs_diff, 1);
  EXPECT_DOUBLE_EQ(ledger.checks()[0].cosine, 0.5);
  EXPECT_EQ(ledger.checks()[0].argmax_agreement, 0.5);
}

TEST(Ledger, NotANumberIsADifference) {
  Ledger ledger("model.onnx", {.atol = 10, .rtol = 0});
  const Tensor nan = floats({2}, {0, std::nan("")});
  EXPECT_THROW(ledger.compare("a and b", floats({2}, {0, 0}), nan), Error);
  EXPECT_THROW(ledger.compare("a and b", nan, floats({2}, {0, 0})), Error);
}

TEST(Ledger, ShapesMustAgree) {
  Ledger ledger("model.onnx", {.atol = 10, .rtol = 0});
  const Error error = test::error_of(
      [&] { ledger.compare("a and b", floats({2, 1}, {0, 0}), floats({1, 2}, {0, 0})); });
  EXPECT_EQ(error.message(), "logits: a and b have different shapes: [2, 1] and [1, 2]");
}

TEST(Symbols, EvaluatesSumsAndKeepsFirstValues) {
  Symbols symbols;
  EXPECT_EQ(symbols.bind("sequence_length", 7), 7);
  EXPECT_EQ(symbols.bind("sequence_length", 8), 7);
  EXPECT_EQ(symbols.find("past_sequence_length + sequence_length"), std::nullopt);
  symbols.bind("past_sequence_length", 3);
  EXPECT_EQ(symbols.find("past_sequence_length + sequence_length"), 10);
  EXPECT_EQ(symbols.find("sequence_length + 1"), 8);
  EXPECT_EQ(symbols.bind("a + b", 5), 5);  // unknown parts: one symbol
  EXPECT_EQ(symbols.bind("a + b", 6), 5);
  EXPECT_EQ(symbols.bind("", 5), 5);  // no name, no promise
  EXPECT_EQ(symbols.bind("", 6), 6);
}

TEST(Tensor, SlicesAndJoinsAnyAxis) {
  const Tensor all = floats({2, 3}, {1, 2, 3, 4, 5, 6});
  const Tensor middle = slice(all, 1, 1, 2);
  EXPECT_THAT(middle.dims, ElementsAre(2, 1));
  EXPECT_EQ(element(middle, 0), 2);
  EXPECT_EQ(element(middle, 1), 5);
  EXPECT_EQ(concat(slice(all, 1, 0, 1), slice(all, 1, 1, 3), 1).data, all.data);
  EXPECT_EQ(concat(slice(all, 0, 0, 1), slice(all, 0, 1, 2), 0).data, all.data);
  EXPECT_EQ(concat(slice(all, 1, 0, 0), all, 1).data, all.data);
}

TEST(Tensor, HalfPrecisionKeepsExactValues) {
  for (const double value : {0.0, 1.0, -1.0, 0.015625, -0.984375, 2.5, 65504.0}) {
    Tensor tensor = zeros("x", ElementType::kFloat16, {1});
    set_element(tensor, 0, value);
    EXPECT_EQ(element(tensor, 0), value);
  }
  Tensor special = zeros("x", ElementType::kFloat16, {3});
  special.data = {std::byte{0x00},
                  std::byte{0x7C},
                  std::byte{0x00},
                  std::byte{0x7E},
                  std::byte{0x01},
                  std::byte{0x00}};
  EXPECT_TRUE(std::isinf(element(special, 0)));
  EXPECT_TRUE(std::isnan(element(special, 1)));
  EXPECT_EQ(element(special, 2), std::ldexp(1.0, -24));
}

}  // namespace
}  // namespace onnxferry
