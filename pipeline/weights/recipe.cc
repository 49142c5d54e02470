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

Recipe stored_view(const TensorInfo& tensor,
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

/// How many steps along each dimension of `shape` make `elements` in row-major order.
std::vector<std::int64_t> split_steps(const Shape& shape, std::int64_t elements) {
  const std::vector<std::int64_t> pitches = row_major_strides(shape);
  std::vector<std::int64_t> steps;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    steps.push_back(pitches[i] == 0 ? 0 : elements / pitches[i]);
    elements -= steps.back() * pitches[i];
  }
  return steps;
}

struct StoredWindow {
  std::int64_t offset = 0;
  std::vector<std::int64_t> strides;
};

/// A window given in row-major elements, in those of a tensor that is stored in another order. That
/// is a window again as long as no dimension of it wraps around one of the tensor's.
StoredWindow to_stored(const TensorInfo& tensor,
                       std::int64_t offset,
                       const Shape& shape,
                       const std::vector<std::int64_t>& strides) {
  const auto to_stride = [&](const std::vector<std::int64_t>& steps) {
    std::int64_t stride = 0;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      stride = checked_add(stride, checked_multiply(steps[i], tensor.strides[i]));
    }
    return stride;
  };
  std::vector<std::int64_t> lowest = split_steps(tensor.shape, offset);
  std::vector<std::int64_t> highest = lowest;
  StoredWindow window{.offset = to_stride(lowest), .strides = {}};
  EXPORT_CHECK(strides.size() == shape.size(), "a view has not one stride per dim");
  for (std::size_t k = 0; k < shape.size(); ++k) {
    const std::vector<std::int64_t> steps = split_steps(tensor.shape, strides[k]);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      std::int64_t& end = steps[i] < 0 ? lowest[i] : highest[i];
      end = checked_add(end, checked_multiply(steps[i], std::max<std::int64_t>(shape[k] - 1, 0)));
    }
    window.strides.push_back(to_stride(steps));
  }
  const bool is_empty = std::ranges::find(shape, 0) != shape.end();  // reads nothing
  for (std::size_t i = 0; i < tensor.shape.size() && !is_empty; ++i) {
    if (lowest[i] < 0 || highest[i] >= tensor.shape[i]) {
      throw Error(ErrorCode::kUnsupportedModel,
                  "tensor " + tensor.name +
                      " is stored transposed, which this model type does not read; load the model "
                      "and save it again as safetensors",
                  tensor.name);
    }
  }
  return window;
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
  const bool is_row_major = tensor.strides.empty();
  return stored_view(
      tensor, 0, tensor.shape, is_row_major ? row_major_strides(tensor.shape) : tensor.strides);
}

Recipe view(const TensorInfo& tensor,
            std::int64_t offset,
            Shape shape,
            std::vector<std::int64_t> strides) {
  if (tensor.strides.empty()) {
    return stored_view(tensor, offset, std::move(shape), std::move(strides));
  }
  StoredWindow window = to_stored(tensor, offset, shape, strides);
  return stored_view(tensor, window.offset, std::move(shape), std::move(window.strides));
}

Recipe rows(const Recipe& source, std::int64_t first, std::int64_t count) {
  return map_view(source, [&](const Recipe& whole) {
    EXPORT_CHECK(!whole->shape.empty(), "a scalar has no rows");
    EXPORT_CHECK(first >= 0 && count >= 0 && checked_add(first, count) <= whole->shape.front(),
                 "rows reach outside tensor " + whole->tensor->name);
    Shape shape = whole->shape;
    shape.front() = count;
    const std::int64_t skipped = checked_multiply(first, whole->strides.front());
    return stored_view(
        *whole->tensor, checked_add(whole->view_offset, skipped), std::move(shape), whole->strides);
  });
}

Recipe transpose(const Recipe& source) {
  return map_view(source, [](const Recipe& matrix) {
    EXPORT_CHECK(matrix->shape.size() == 2, "only a matrix can be transposed");
    return stored_view(*matrix->tensor,
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

Recipe transposed_mxfp4(const Recipe& blocks, const Recipe& scales) {
  constexpr std::int64_t kBlockBytes = 16;
  for (const Recipe& part : {blocks, scales}) {
    EXPORT_CHECK(part->op == RecipeNode::Op::kView && part->dtype == Dtype::kUint8 &&
                     part->shape.size() == 2,
                 "MXFP4 is read from two matrices of bytes");
  }
  EXPORT_CHECK(blocks->shape[0] == scales->shape[0] &&
                   blocks->shape[1] == checked_multiply(scales->shape[1], kBlockBytes),
               "MXFP4 has one scale for 16 bytes");
  RecipeNode node;
  node.op = RecipeNode::Op::kMxfp4;
  node.dtype = Dtype::kFloat32;
  node.shape = {checked_multiply(blocks->shape[1], 2), blocks->shape[0]};
  node.inputs = {blocks, scales};
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

const TensorInfo* first_source(const Recipe& recipe) {
  if (recipe->tensor != nullptr) {
    return recipe->tensor;
  }
  for (const Recipe& input : recipe->inputs) {
    if (const TensorInfo* const tensor = first_source(input)) {
      return tensor;
    }
  }
  return nullptr;
}

}  // namespace onnxferry
