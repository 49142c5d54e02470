#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace onnxferry {

/// The element types that graph inputs and outputs of text models have. Values are those of
/// onnx::TensorProto::DataType and of ONNX Runtime's enum, which agree.
enum class ElementType : std::int32_t {
  kFloat = 1,
  kInt32 = 6,
  kInt64 = 7,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
};

std::size_t item_bytes(ElementType type);
/// As ONNX spells it; a number for a type outside the enum.
std::string element_name(std::int32_t type);

/// A dense, row-major value fed to or taken from a session.
struct Tensor {
  std::string name;
  ElementType type = ElementType::kFloat;
  std::vector<std::int64_t> dims;
  std::vector<std::byte> data;
};

std::int64_t count_elements(std::span<const std::int64_t> dims);
/// A tensor with all elements zero.
Tensor zeros(std::string name, ElementType type, std::vector<std::int64_t> dims);
/// `values` converted to `type` (int32, int64, float, float16 with exact values, double).
Tensor from_integers(std::string name,
                     ElementType type,
                     std::vector<std::int64_t> dims,
                     std::span<const std::int64_t> values);
/// The integers of an int64 or int32 tensor.
std::vector<std::int64_t> to_integers(const Tensor& tensor);
/// One element of any type as double.
double element(const Tensor& tensor, std::size_t index);
void set_element(Tensor& tensor, std::size_t index, double value);

/// Elements [begin, end) of one axis.
Tensor slice(const Tensor& tensor, std::size_t axis, std::int64_t begin, std::int64_t end);
/// `first` followed by `second` along an axis; every other dim agrees.
Tensor concat(const Tensor& first, const Tensor& second, std::size_t axis);
/// "[2, 3, 17]"
std::string dims_text(std::span<const std::int64_t> dims);

}  // namespace onnxferry
