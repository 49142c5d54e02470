#include "pipeline/weights/recipe.h"

#include <algorithm>
#include <utility>

#include "pipeline/error.h"
#include "pipeline/weights/convert.h"

namespace onnxferry {
namespace {

std::int64_t checked_multiply(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  EXPORT_CHECK(!__builtin_mul_overflow(a, b, &result), "a recipe's size overflows 64 bits");
  return result;
}

std::int64_t checked_add(std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  EXPORT_CHECK(!__builtin_add_overflow(a, b, &result), "a recipe's size overflows 64 bits");
  return result;
}

std::int64_t count_elements(const Shape& shape) {
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) {
    EXPORT_CHECK(dim >= 0, "a recipe has a negative dim");
    count = checked_multiply(count, dim);
  }
  return count;
}

std::int64_t count_bytes(Dtype dtype, const Shape& shape) {
  return checked_multiply(count_elements(shape), static_cast<std::int64_t>(item_bytes(dtype)));
}

Recipe finish(RecipeNode node) {
  count_bytes(node.dtype, node.shape);  // every recipe that exists has a size
  return std::make_shared<const RecipeNode>(std::move(node));
}

std::vector<std::int64_t> row_major_strides(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) {
    strides[i - 1] = checked_multiply(strides[i], shape[i]);
  }
  return strides;
}

void check_window(const RecipeNode& node) {
  EXPORT_CHECK(node.strides.size() == node.shape.size(), "a view has not one stride per dim");
  if (count_elements(node.shape) == 0) {
    return;  // reads nothing
  }
  std::int64_t first = node.view_offset;
  std::int64_t last = node.view_offset;
  for (std::size_t i = 0; i < node.shape.size(); ++i) {
    const std::int64_t reach = checked_multiply(node.strides[i], node.shape[i] - 1);
    (reach < 0 ? first : last) = checked_add(reach < 0 ? first : last, reach);
  }
  const auto stored = static_cast<std::int64_t>(node.tensor->bytes / item_bytes(node.dtype));
  EXPORT_CHECK(first >= 0 && last < stored, "a view reaches outside tensor " + node.tensor->name);
}

/// Rebuild `source` with its view replaced: for operations that commute with elementwise ones.
template <typename Function>
Recipe map_view(const Recipe& source, const Function& function) {
  if (source->op == RecipeNode::Op::kView) {
    return function(source);
  }
  const bool is_elementwise =
      source->op == RecipeNode::Op::kCast || source->op == RecipeNode::Op::kAffine;
  EXPORT_CHECK(is_elementwise, "rows and transpose work on views, or casts and affines over one");
  RecipeNode node = *source;
  node.inputs = {map_view(source->inputs.front(), function)};
  node.shape = node.inputs.front()->shape;
  return finish(std::move(node));
}

void collect_sources(const Recipe& recipe, std::vector<const TensorInfo*>& found) {
  if (recipe->tensor != nullptr && std::ranges::find(found, recipe->tensor) == found.end()) {
    found.push_back(recipe->tensor);
  }
  for (const Recipe& input : recipe->inputs) {
    collect_sources(input, found);
  }
}

}  // namespace

Recipe view(const TensorInfo& tensor) {
  return view(tensor, 0, tensor.shape, row_major_strides(tensor.shape));
}

Recipe view(const TensorInfo& tensor,
            std::int64_t offset,
            Shape shape,
            std::vector<std::int64_t> strides) {
  RecipeNode node;
  node.op = RecipeNode::Op::kView;
  node.dtype = tensor.dtype;
  node.shape = std::move(shape);
  node.tensor = &tensor;
  node.view_offset = offset;
  node.strides = std::move(strides);
  check_window(node);
  return finish(std::move(node));
}

Recipe rows(const Recipe& source, std::int64_t first, std::int64_t count) {
  return map_view(source, [&](const Recipe& whole) {
    EXPORT_CHECK(!whole->shape.empty(), "a scalar has no rows");
    EXPORT_CHECK(first >= 0 && count >= 0 && checked_add(first, count) <= whole->shape.front(),
                 "rows reach outside tensor " + whole->tensor->name);
    Shape shape = whole->shape;
    shape.front() = count;
    const std::int64_t skipped = checked_multiply(first, whole->strides.front());
    return view(
        *whole->tensor, checked_add(whole->view_offset, skipped), std::move(shape), whole->strides);
  });
}

Recipe transpose(const Recipe& source) {
  return map_view(source, [](const Recipe& matrix) {
    EXPORT_CHECK(matrix->shape.size() == 2, "only a matrix can be transposed");
    return view(*matrix->tensor,
                matrix->view_offset,
                {matrix->shape[1], matrix->shape[0]},
                {matrix->strides[1], matrix->strides[0]});
  });
}

Recipe concat(std::vector<Recipe> parts) {
  EXPORT_CHECK(!parts.empty(), "concat of nothing");
  const RecipeNode& model = *parts.front();
  EXPORT_CHECK(!model.shape.empty(), "concat of scalars");
  RecipeNode node;
  node.op = RecipeNode::Op::kConcat;
  node.dtype = model.dtype;
  node.shape = model.shape;
  node.shape.front() = 0;
  for (const Recipe& part : parts) {
    EXPORT_CHECK(part->dtype == node.dtype, "concat of different dtypes");
    EXPORT_CHECK(part->shape.size() == node.shape.size() &&
                     std::equal(part->shape.begin() + 1, part->shape.end(), node.shape.begin() + 1),
                 "concat of different trailing dims");
    node.shape.front() = checked_add(node.shape.front(), part->shape.front());
  }
  if (parts.size() == 1) {
    return parts.front();
  }
  node.inputs = std::move(parts);
  return finish(std::move(node));
}

Recipe cast(const Recipe& source, Dtype dtype, bool clamp) {
  if (source->dtype == dtype) {
    return source;
  }
  EXPORT_CHECK(find_convert(source->dtype, dtype) != nullptr, "a cast that is not implemented");
  RecipeNode node;
  node.op = RecipeNode::Op::kCast;
  node.dtype = dtype;
  node.shape = source->shape;
  node.inputs = {source};
  node.clamp = clamp && has_wider_range(source->dtype, dtype);
  return finish(std::move(node));
}

Recipe affine(const Recipe& source, double scale, double shift) {
  EXPORT_CHECK(find_convert(source->dtype, Dtype::kFloat32) != nullptr,
               "affine of a dtype that has no float value");
  RecipeNode node;
  node.op = RecipeNode::Op::kAffine;
  node.dtype = Dtype::kFloat32;
  node.shape = source->shape;
  node.inputs = {source};
  node.scale = scale;
  node.shift = shift;
  return finish(std::move(node));
}

Recipe binary(BinaryOp op, const Recipe& left, const Recipe& right) {
  EXPORT_CHECK(find_convert(left->dtype, Dtype::kFloat32) != nullptr &&
                   find_convert(right->dtype, Dtype::kFloat32) != nullptr,
               "binary of a dtype that has no float value");
  EXPORT_CHECK(right->shape.size() <= left->shape.size() &&
                   std::equal(right->shape.rbegin(), right->shape.rend(), left->shape.rbegin()),
               "the right side of a binary recipe must have the left's trailing dims");
  RecipeNode node;
  node.op = RecipeNode::Op::kBinary;
  node.dtype = Dtype::kFloat32;
  node.shape = left->shape;
  node.inputs = {left, right};
  node.binary = op;
  return finish(std::move(node));
}

Recipe literal(Dtype dtype, Shape shape, std::string bytes) {
  EXPORT_CHECK(std::cmp_equal(bytes.size(), count_bytes(dtype, shape)),
               "a literal's bytes do not match its shape");
  RecipeNode node;
  node.op = RecipeNode::Op::kLiteral;
  node.dtype = dtype;
  node.shape = std::move(shape);
  node.literal = std::move(bytes);
  return finish(std::move(node));
}

Recipe generate(Dtype dtype,
                Shape shape,
                std::function<void(std::uint64_t, std::span<std::byte>)> function) {
  EXPORT_CHECK(function != nullptr, "generate without a function");
  RecipeNode node;
  node.op = RecipeNode::Op::kGenerate;
  node.dtype = dtype;
  node.shape = std::move(shape);
  node.generate = std::move(function);
  return finish(std::move(node));
}

std::uint64_t byte_size(const Recipe& recipe) {
  return static_cast<std::uint64_t>(count_bytes(recipe->dtype, recipe->shape));
}

std::vector<const TensorInfo*> sources(const Recipe& recipe) {
  std::vector<const TensorInfo*> found;
  collect_sources(recipe, found);
  return found;
}

}  // namespace onnxferry
