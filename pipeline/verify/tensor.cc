#include "pipeline/verify/tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

double half_to_double(std::uint16_t bits) {
  const double sign = (bits & 0x8000U) != 0 ? -1.0 : 1.0;
  const int exponent = (bits >> 10U) & 0x1F;
  const int mantissa = bits & 0x3FF;
  if (exponent == 0x1F) {
    return mantissa == 0 ? sign * HUGE_VAL : std::nan("");
  }
  if (exponent == 0) {
    return sign * std::ldexp(mantissa, -24);
  }
  return sign * std::ldexp(mantissa + 1024, exponent - 25);
}

// Exact for the values that this folder generates (few significant bits, normal range); anything
// finer is truncated.
std::uint16_t double_to_half(double value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  const std::uint32_t sign = (bits >> 16U) & 0x8000U;
  const int exponent = static_cast<int>((bits >> 23U) & 0xFFU) - 127 + 15;
  if (exponent <= 0) {
    return static_cast<std::uint16_t>(sign);
  }
  if (exponent >= 0x1F) {
    return static_cast<std::uint16_t>(sign | 0x7C00U);
  }
  const std::uint32_t mantissa = (bits >> 13U) & 0x3FFU;
  return static_cast<std::uint16_t>(sign | (static_cast<std::uint32_t>(exponent) << 10U) |
                                    mantissa);
}

template <typename T>
T load(const Tensor& tensor, std::size_t index) {
  T value{};
  std::memcpy(&value, tensor.data.data() + index * sizeof(T), sizeof(T));
  return value;
}

template <typename T>
void store(Tensor& tensor, std::size_t index, T value) {
  std::memcpy(tensor.data.data() + index * sizeof(T), &value, sizeof(T));
}

// A tensor seen as [outer, axis, inner] with `inner` in bytes.
struct AxisView {
  std::size_t outer;
  std::size_t length;
  std::size_t inner_bytes;
};

AxisView view_axis(const Tensor& tensor, std::size_t axis) {
  EXPORT_CHECK(axis < tensor.dims.size(), "axis out of range");
  const std::span<const std::int64_t> dims = tensor.dims;
  return {
      static_cast<std::size_t>(count_elements(dims.first(axis))),
      static_cast<std::size_t>(dims[axis]),
      static_cast<std::size_t>(count_elements(dims.subspan(axis + 1))) * item_bytes(tensor.type)};
}

}  // namespace

std::size_t item_bytes(ElementType type) {
  switch (type) {
    case ElementType::kBool:
      return 1;
    case ElementType::kFloat16:
      return 2;
    case ElementType::kFloat:
    case ElementType::kInt32:
      return 4;
    case ElementType::kInt64:
    case ElementType::kDouble:
      return 8;
  }
  EXPORT_CHECK(false, "unknown element type");
}

std::string element_name(std::int32_t type) {
  switch (static_cast<ElementType>(type)) {
    case ElementType::kFloat:
      return "float";
    case ElementType::kInt32:
      return "int32";
    case ElementType::kInt64:
      return "int64";
    case ElementType::kBool:
      return "bool";
    case ElementType::kFloat16:
      return "float16";
    case ElementType::kDouble:
      return "double";
  }
  return fmt::format("type {}", type);
}

std::int64_t count_elements(std::span<const std::int64_t> dims) {
  std::int64_t count = 1;
  for (const std::int64_t dim : dims) {
    count *= dim;
  }
  return count;
}

Tensor zeros(std::string name, ElementType type, std::vector<std::int64_t> dims) {
  const std::size_t bytes = static_cast<std::size_t>(count_elements(dims)) * item_bytes(type);
  return {std::move(name), type, std::move(dims), std::vector<std::byte>(bytes)};
}

Tensor from_integers(std::string name,
                     ElementType type,
                     std::vector<std::int64_t> dims,
                     std::span<const std::int64_t> values) {
  Tensor tensor = zeros(std::move(name), type, std::move(dims));
  EXPORT_CHECK(values.size() * item_bytes(type) == tensor.data.size(), "value count");
  for (std::size_t i = 0; i < values.size(); ++i) {
    set_element(tensor, i, static_cast<double>(values[i]));
  }
  return tensor;
}

std::vector<std::int64_t> to_integers(const Tensor& tensor) {
  std::vector<std::int64_t> values(tensor.data.size() / item_bytes(tensor.type));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int64_t>(element(tensor, i));
  }
  return values;
}

double element(const Tensor& tensor, std::size_t index) {
  switch (tensor.type) {
    case ElementType::kFloat:
      return static_cast<double>(load<float>(tensor, index));
    case ElementType::kInt32:
      return load<std::int32_t>(tensor, index);
    case ElementType::kInt64:
      return static_cast<double>(load<std::int64_t>(tensor, index));
    case ElementType::kBool:
      return load<std::uint8_t>(tensor, index);
    case ElementType::kFloat16:
      return half_to_double(load<std::uint16_t>(tensor, index));
    case ElementType::kDouble:
      return load<double>(tensor, index);
  }
  EXPORT_CHECK(false, "unknown element type");
}

void set_element(Tensor& tensor, std::size_t index, double value) {
  switch (tensor.type) {
    case ElementType::kFloat:
      return store(tensor, index, static_cast<float>(value));
    case ElementType::kInt32:
      return store(tensor, index, static_cast<std::int32_t>(value));
    case ElementType::kInt64:
      return store(tensor, index, static_cast<std::int64_t>(value));
    case ElementType::kBool:
      return store(tensor, index, static_cast<std::uint8_t>(value != 0));
    case ElementType::kFloat16:
      return store(tensor, index, double_to_half(value));
    case ElementType::kDouble:
      return store(tensor, index, value);
  }
  EXPORT_CHECK(false, "unknown element type");
}

Tensor slice(const Tensor& tensor, std::size_t axis, std::int64_t begin, std::int64_t end) {
  const AxisView view = view_axis(tensor, axis);
  EXPORT_CHECK(0 <= begin && begin <= end && end <= tensor.dims[axis], "slice out of range");
  Tensor out{tensor.name, tensor.type, tensor.dims, {}};
  out.dims[axis] = end - begin;
  const std::size_t run = static_cast<std::size_t>(end - begin) * view.inner_bytes;
  out.data.resize(view.outer * run);
  if (run == 0) {
    return out;
  }
  for (std::size_t i = 0; i < view.outer; ++i) {
    const std::size_t at = (i * view.length + static_cast<std::size_t>(begin)) * view.inner_bytes;
    std::memcpy(out.data.data() + i * run, tensor.data.data() + at, run);
  }
  return out;
}

Tensor concat(const Tensor& first, const Tensor& second, std::size_t axis) {
  const AxisView a = view_axis(first, axis);
  const AxisView b = view_axis(second, axis);
  EXPORT_CHECK(a.outer == b.outer && a.inner_bytes == b.inner_bytes && first.type == second.type,
               "concat of tensors that do not fit");
  Tensor out{first.name, first.type, first.dims, {}};
  out.dims[axis] += second.dims[axis];
  out.data.reserve(first.data.size() + second.data.size());
  const auto append = [&out](const Tensor& tensor, std::size_t i, std::size_t bytes) {
    const auto begin = tensor.data.begin() + static_cast<std::ptrdiff_t>(i * bytes);
    out.data.insert(out.data.end(), begin, begin + static_cast<std::ptrdiff_t>(bytes));
  };
  for (std::size_t i = 0; i < a.outer; ++i) {
    append(first, i, a.length * a.inner_bytes);
    append(second, i, b.length * b.inner_bytes);
  }
  return out;
}

std::string dims_text(std::span<const std::int64_t> dims) {
  return fmt::format("[{}]", fmt::join(dims, ", "));
}

}  // namespace onnxferry
