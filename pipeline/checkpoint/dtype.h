#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace onnxferry {

/// Element types of checkpoint tensors and of graph values.
enum class Dtype : std::uint8_t {
  kBool,
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kUint64,
  kInt64,
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64,
  kFloat8E4M3,
  kFloat8E5M2,
};

/// Bytes of one element.
std::size_t item_bytes(Dtype dtype);
bool is_float(Dtype dtype);
/// As ONNX spells it: "float", "float16", "int64", …
std::string_view onnx_name(Dtype dtype);
/// As safetensors spells it: "F32", "BF16", …; unknown or sub-byte types give nullopt.
std::optional<Dtype> find_safetensors_dtype(std::string_view name);
std::string_view safetensors_name(Dtype dtype);
/// onnx::TensorProto::DataType value.
int onnx_data_type(Dtype dtype);

}  // namespace onnxferry
