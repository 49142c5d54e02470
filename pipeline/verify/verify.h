#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/options.h"
#include "pipeline/report.h"
#include "pipeline/stage.h"

namespace onnxferry {

/// What a check needs to know of the model beyond its files.
struct VerifyRequest {
  std::filesystem::path directory;      ///< the written output directory
  std::vector<std::string> onnx_files;  ///< relative
  VerifyLevel level = VerifyLevel::kLoad;
  Device device = Device::kCpu;
  /// Of the numeric checks. Absent: 1e-4, or 5e-2 for a file with weights in half precision, which
  /// keep about three digits.
  std::optional<double> atol, rtol;
  std::int64_t vocab_size = 0;       ///< generated token ids are below it
  std::int64_t max_positions = 0;    ///< generated sequences are no longer; 0: no limit
  std::int64_t type_vocab_size = 2;  ///< generated token_type_ids are below it
  /// MarkupLM's xpaths: as many units for each token, and what generated ids are below.
  struct Xpath {
    std::int64_t max_depth = 50, tags = 256, subscripts = 1024;
  } xpath;
  /// Fills padded positions and stands nowhere else. Absent: outputs without a sequence dimension
  /// are not compared under padding (the model may look for the padding by its id).
  std::optional<std::int64_t> pad_token_id;
  /// A position's output depends on nothing after it (text generation). Graphs without past cannot
  /// tell, and are then checked for it.
  bool causal = false;
  /// Padded tokens change their neighbours' outputs by design: not compared under padding.
  bool sees_padding = false;
};

/// ONNX Runtime, loaded at run time. Never unloaded once loaded.
/// Search order: `library` if not empty, $ONNXFERRY_ONNXRUNTIME via the caller, beside the
/// executable, the system's.
class OnnxRuntime {
 public:
  /// \throws Error{kUnsupportedOption} when no usable library is found (naming what was tried) or
  /// it is too old
  static std::shared_ptr<OnnxRuntime> load(const std::string& library);
  virtual ~OnnxRuntime() = default;
  [[nodiscard]] virtual std::string version() const = 0;
  [[nodiscard]] virtual std::vector<std::string> providers() const = 0;
};

/// Check an export. `runtime` may be null for levels none and structure.
/// \throws Error{kVerificationFailed} naming output, difference and tolerance;
///         Error{kUnsupportedOption} when the level or device needs a runtime or provider that is
///         not there
VerificationReport verify(const VerifyRequest& request, OnnxRuntime* runtime, StageScope& scope);

}  // namespace onnxferry
