#include "pipeline/verify/compare.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

std::vector<std::int64_t> index_of(const Tensor& tensor,
                                   std::size_t flat,
                                   const std::vector<std::int64_t>& origin) {
  std::vector<std::int64_t> index(tensor.dims.size());
  auto rest = static_cast<std::int64_t>(flat);
  for (std::size_t i = index.size(); i-- > 0;) {
    index[i] = rest % tensor.dims[i];
    rest /= tensor.dims[i];
  }
  for (std::size_t i = 0; i < std::min(origin.size(), index.size()); ++i) {
    index[i] += origin[i];
  }
  return index;
}

// Figures over one pair of tensors, element by element.
class Difference {
 public:
  Difference(Tolerance tolerance, std::size_t row_length)
      : tolerance_(tolerance), row_length_(row_length) {}

  void add(std::size_t index, double expected, double actual) {
    const double diff = std::abs(actual - expected);
    const double excess = diff - (tolerance_.atol + tolerance_.rtol * std::abs(expected));
    // Negated, so that a NaN counts as a difference.
    if (!(excess <= worst_excess_)) {
      worst_excess_ = std::isnan(excess) ? HUGE_VAL : excess;
      worst_index_ = index;
      worst_diff_ = diff;
    }
    max_diff_ = std::isnan(diff) ? HUGE_VAL : std::max(max_diff_, diff);
    dot_ += expected * actual;
    expected_norm_ += expected * expected;
    actual_norm_ += actual * actual;
    add_to_row(index, expected, actual);
  }

  [[nodiscard]] bool passes() const { return worst_excess_ <= 0; }
  [[nodiscard]] std::size_t worst_index() const { return worst_index_; }
  [[nodiscard]] double worst_diff() const { return worst_diff_; }
  [[nodiscard]] double max_diff() const { return max_diff_; }
  [[nodiscard]] double cosine() const {
    const double norm = std::sqrt(expected_norm_) * std::sqrt(actual_norm_);
    return norm > 0 ? dot_ / norm : (expected_norm_ == actual_norm_ ? 1.0 : 0.0);
  }
  [[nodiscard]] double argmax_agreement() const {
    return rows_ == 0 ? 1.0 : static_cast<double>(agreeing_rows_) / static_cast<double>(rows_);
  }

 private:
  void add_to_row(std::size_t index, double expected, double actual) {
    const std::size_t column = index % row_length_;
    if (column == 0 || expected > row_expected_) {
      row_expected_ = expected;
      expected_argmax_ = column;
    }
    if (column == 0 || actual > row_actual_) {
      row_actual_ = actual;
      actual_argmax_ = column;
    }
    if (column + 1 == row_length_) {
      ++rows_;
      agreeing_rows_ += expected_argmax_ == actual_argmax_ ? 1 : 0;
    }
  }

  Tolerance tolerance_;
  std::size_t row_length_;
  double worst_excess_ = -HUGE_VAL;
  std::size_t worst_index_ = 0;
  double worst_diff_ = 0;
  double max_diff_ = 0;
  double dot_ = 0;
  double expected_norm_ = 0;
  double actual_norm_ = 0;
  double row_expected_ = 0;
  double row_actual_ = 0;
  std::size_t expected_argmax_ = 0;
  std::size_t actual_argmax_ = 0;
  std::size_t rows_ = 0;
  std::size_t agreeing_rows_ = 0;
};

}  // namespace

OutputCheck& Ledger::check_of(const std::string& output) {
  const auto found = std::ranges::find(checks_, output, &OutputCheck::output);
  return found != checks_.end() ? *found : checks_.emplace_back(OutputCheck{.output = output});
}

void Ledger::compare(std::string_view what,
                     const Tensor& expected,
                     const Tensor& actual,
                     const std::vector<std::int64_t>& origin) {
  if (expected.dims != actual.dims) {
    throw Error(ErrorCode::kVerificationFailed,
                fmt::format("{}: {} have different shapes: {} and {}",
                            expected.name,
                            what,
                            dims_text(expected.dims),
                            dims_text(actual.dims)),
                file_);
  }
  const auto count = static_cast<std::size_t>(count_elements(expected.dims));
  const std::size_t row_length =
      expected.dims.empty()
          ? 1
          : static_cast<std::size_t>(std::max<std::int64_t>(1, expected.dims.back()));
  Difference difference(tolerance_, row_length);
  for (std::size_t i = 0; i < count; ++i) {
    difference.add(i, element(expected, i), element(actual, i));
  }
  OutputCheck& check = check_of(expected.name);
  check.max_abs_diff = std::max(check.max_abs_diff, difference.max_diff());
  check.cosine = std::min(check.cosine, difference.cosine());
  check.argmax_agreement = std::min(check.argmax_agreement, difference.argmax_agreement());
  if (difference.passes()) {
    return;
  }
  const std::size_t worst = difference.worst_index();
  throw Error(ErrorCode::kVerificationFailed,
              fmt::format("{}: {} differ by {:.2g} at {}, allowed {:.2g}",
                          expected.name,
                          what,
                          difference.worst_diff(),
                          dims_text(index_of(expected, worst, origin)),
                          tolerance_.atol + tolerance_.rtol * std::abs(element(expected, worst))),
              file_);
}

void check_finite(const std::string& file, const Tensor& tensor, std::string_view inputs) {
  const auto count = static_cast<std::size_t>(count_elements(tensor.dims));
  for (std::size_t i = 0; i < count; ++i) {
    const double value = element(tensor, i);
    if (!std::isfinite(value)) {
      throw Error(ErrorCode::kVerificationFailed,
                  fmt::format("{}: {} at {} for {}; every output must be finite",
                              tensor.name,
                              std::isnan(value) ? "nan" : "infinity",
                              dims_text(index_of(tensor, i, {})),
                              inputs),
                  file);
    }
  }
}

}  // namespace onnxferry
