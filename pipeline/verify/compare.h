#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/report.h"
#include "pipeline/verify/tensor.h"

namespace onnxferry {

struct Tolerance {
  double atol = 0;
  double rtol = 0;
};

/// Compares results that must be equal and keeps the worst figures of every output.
class Ledger {
 public:
  Ledger(std::string file, Tolerance tolerance) : file_(std::move(file)), tolerance_(tolerance) {}

  /// Compare two results of one output: |actual - expected| <= atol + rtol * |expected|.
  ///
  /// \param what    names both, e.g. "prefill and step-by-step"
  /// \param origin  added to indices in the message, where the tensors are pieces; may be shorter
  /// than the rank
  /// \throws Error{kVerificationFailed} "logits: <what> differ by 3.1e-2 at [0, 3, 17], allowed
  /// 1e-3"
  void compare(std::string_view what,
               const Tensor& expected,
               const Tensor& actual,
               const std::vector<std::int64_t>& origin = {});

  [[nodiscard]] const std::vector<OutputCheck>& checks() const { return checks_; }

 private:
  OutputCheck& check_of(const std::string& output);

  std::string file_;
  Tolerance tolerance_;
  std::vector<OutputCheck> checks_;
};

/// \throws Error{kVerificationFailed} naming the first element that is not finite, and `inputs`
void check_finite(const std::string& file, const Tensor& tensor, std::string_view inputs);

}  // namespace onnxferry
