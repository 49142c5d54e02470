#include "pipeline/checkpoint/dtype.h"

#include <algorithm>
#include <array>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

struct DtypeRow {
  Dtype dtype;
  std::size_t bytes;
  bool is_float;
  std::string_view onnx;
  std::string_view safetensors;
  int onnx_data_type;  // onnx.proto3, enum TensorProto.DataType
};

// In enum order. Names and sizes: safetensors `Dtype` (safetensors/src/tensor.rs); ONNX spells
// types as its operator documents do.
constexpr std::array<DtypeRow, 15> kDtypes = {{
    {Dtype::kBool, 1, false, "bool", "BOOL", 9},
    {Dtype::kUint8, 1, false, "uint8", "U8", 2},
    {Dtype::kInt8, 1, false, "int8", "I8", 3},
    {Dtype::kUint16, 2, false, "uint16", "U16", 4},
    {Dtype::kInt16, 2, false, "int16", "I16", 5},
    {Dtype::kUint32, 4, false, "uint32", "U32", 12},
    {Dtype::kInt32, 4, false, "int32", "I32", 6},
    {Dtype::kUint64, 8, false, "uint64", "U64", 13},
    {Dtype::kInt64, 8, false, "int64", "I64", 7},
    {Dtype::kFloat16, 2, true, "float16", "F16", 10},
    {Dtype::kBFloat16, 2, true, "bfloat16", "BF16", 16},
    {Dtype::kFloat32, 4, true, "float", "F32", 1},
    {Dtype::kFloat64, 8, true, "double", "F64", 11},
    {Dtype::kFloat8E4M3, 1, true, "float8e4m3fn", "F8_E4M3", 17},
    {Dtype::kFloat8E5M2, 1, true, "float8e5m2", "F8_E5M2", 19},
}};

constexpr bool is_in_enum_order() {
  for (std::size_t i = 0; i < kDtypes.size(); ++i) {
    if (static_cast<std::size_t>(kDtypes[i].dtype) != i) {
      return false;
    }
  }
  return true;
}
static_assert(is_in_enum_order());

const DtypeRow& row(Dtype dtype) {
  const auto index = static_cast<std::size_t>(dtype);
  EXPORT_CHECK(index < kDtypes.size(), "dtype outside its enum");
  return kDtypes[index];
}

}  // namespace

std::size_t item_bytes(Dtype dtype) {
  return row(dtype).bytes;
}

bool is_float(Dtype dtype) {
  return row(dtype).is_float;
}

std::string_view onnx_name(Dtype dtype) {
  return row(dtype).onnx;
}

std::optional<Dtype> find_safetensors_dtype(std::string_view name) {
  const auto* found = std::ranges::find(kDtypes, name, &DtypeRow::safetensors);
  if (found == kDtypes.end()) {
    return std::nullopt;
  }
  return found->dtype;
}

std::string_view safetensors_name(Dtype dtype) {
  return row(dtype).safetensors;
}

int onnx_data_type(Dtype dtype) {
  return row(dtype).onnx_data_type;
}

}  // namespace onnxferry
