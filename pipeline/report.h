#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/stage.h"

namespace onnxferry {

/// One file of the output directory. `kind`: "onnx", "external_data", "config", "tokenizer",
/// "sidecar", "metadata", "checksums" or "manifest".
struct FileReport {
  std::string name;  ///< relative to the output prefix, '/' separated
  std::uint64_t bytes = 0;
  std::string sha256;  ///< 64 lower-case hex digits
  std::string kind;
};

/// One graph input or output. A dim is a number or a symbolic name.
struct ValueReport {
  std::string file;  ///< the .onnx file it belongs to
  std::string name;
  std::string dtype;  ///< as ONNX spells it: float, float16, int64, bool
  std::vector<std::string> dims;
};

struct OutputCheck {
  std::string output;
  double max_abs_diff = 0;
  double cosine = 1;
  double argmax_agreement = 1;
};

struct VerificationReport {
  std::string level = "none";  ///< the level that was really reached
  std::vector<OutputCheck> outputs;
  std::vector<std::string> notes;  ///< checks that were left out, and why
};

struct Warning {
  std::string code;  ///< UPPER_SNAKE, stable
  std::string text;
};

/// What a successful export made; the reply's `result` and the manifest's.
struct ExportReport {
  std::string output_uri;
  std::string manifest_uri;
  std::string manifest_sha256;
  std::vector<FileReport> files;
  std::string model_type;
  std::string task;
  int opset = 0;
  std::uint64_t parameters = 0;  ///< elements of all checkpoint tensors that the graph uses
  std::vector<ValueReport> inputs;
  std::vector<ValueReport> outputs;
  VerificationReport verification;
  std::vector<Warning> warnings;
  std::vector<StageTiming> stages;
  bool answered_from_manifest =
      false;  ///< a finished export was found at the destination; nothing was written
};

}  // namespace onnxferry
