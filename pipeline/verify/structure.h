#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace onnxferry {

/// A declared dimension: a number, or a symbol such as "batch_size" or
/// "past_sequence_length + sequence_length".
struct Dim {
  std::int64_t size = -1;  ///< -1: symbolic
  std::string symbol;
  [[nodiscard]] bool is_static() const { return size >= 0; }
};

/// A graph input or output as the file declares it. `type` is onnx::TensorProto::DataType.
struct ValueInfo {
  std::string name;
  std::int32_t type = 0;
  std::vector<Dim> dims;
};

struct Signature {
  std::vector<ValueInfo> inputs;  ///< without those that an initializer feeds
  std::vector<ValueInfo> outputs;
};

/// A weight of the main graph that lies in a file: external data, or inline in the .onnx itself and
/// moved by the weightless copy.
struct StoredTensor {
  std::string name;
  std::int32_t type = 0;
  std::vector<std::int64_t> dims;
  std::string file;  ///< relative to the model's directory
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// An .onnx file whose structure was found right.
struct CheckedModel {
  std::filesystem::path file;
  std::uint64_t file_bytes = 0;
  std::uint64_t inline_weight_bytes = 0;  ///< in tensors that `weightless` refers to
  std::string weightless;                 ///< see weightless.h
  Signature signature;
  std::vector<StoredTensor> stored_tensors;
  bool has_half_weights = false;   ///< an initializer is FLOAT16 or BFLOAT16
  std::vector<std::string> notes;  ///< checks that were left out, and why
};

/// Check one .onnx file without running it and without reading its weights: a well-formed
/// protobuf; every tensor's data there and as long as its shape says, external data inside its
/// file, and that file inside the directory; graph inputs and outputs typed; names unique; and what
/// the onnx checker asks for (topological order, no undefined values, operator schemas), unless the
/// model's opset or IR version is newer than this build's onnx library.
///
/// \throws Error{kVerificationFailed} naming file and finding
CheckedModel check_structure(const std::filesystem::path& directory, const std::string& onnx_file);

}  // namespace onnxferry
