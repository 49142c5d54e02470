#include "pipeline/output/plan.h"

#include <algorithm>
#include <compare>
#include <optional>
#include <utility>

#include <onnx/onnx_pb.h>

#include "pipeline/error.h"
#include "pipeline/output/layout.h"

namespace onnxferry {
namespace {

// Field tags of onnx.proto3: (field number << 3) | wire type 2.
constexpr char kModelGraphTag = (7 << 3) | 2;
constexpr char kGraphInitializerTag = (5 << 3) | 2;
constexpr char kTensorRawDataTag = (9 << 3) | 2;

constexpr std::uint64_t kDataAlignment = 4096;  // a page: readers map the file
constexpr std::uint64_t kMinExternalBytes = 1024;

std::string varint(std::uint64_t value) {
  std::string bytes;
  while (value >= 0x80) {
    bytes.push_back(static_cast<char>((value & 0x7F) | 0x80));
    value >>= 7;
  }
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

/// Where the first tensor that an initializer reads lies; constants read none and come first.
struct SourcePlace {
  bool is_read = false;
  std::uint32_t file = 0;
  std::uint64_t offset = 0;

  auto operator<=>(const SourcePlace&) const = default;
};

SourcePlace source_place(const Recipe& recipe) {
  const TensorInfo* const tensor = first_source(recipe);
  return tensor == nullptr ? SourcePlace{} : SourcePlace{true, tensor->file, tensor->offset};
}

std::vector<const NamedRecipe*> in_source_order(const RecipeTable& recipes) {
  std::vector<std::pair<SourcePlace, const NamedRecipe*>> keyed;
  keyed.reserve(recipes.size());
  for (const NamedRecipe& entry : recipes) {
    keyed.emplace_back(source_place(entry.recipe), &entry);
  }
  std::ranges::stable_sort(keyed, {}, [](const auto& item) { return item.first; });
  std::vector<const NamedRecipe*> ordered;
  ordered.reserve(keyed.size());
  for (const auto& [place, entry] : keyed) {
    ordered.push_back(entry);
  }
  return ordered;
}

/// Segments of one file; neighbouring literals are merged.
class SegmentList {
 public:
  void add(std::string bytes) {
    size_ += bytes.size();
    if (!segments_.empty() && std::holds_alternative<std::string>(segments_.back())) {
      std::get<std::string>(segments_.back()).append(bytes);
    } else if (!bytes.empty()) {
      segments_.emplace_back(std::move(bytes));
    }
  }
  void add(const Recipe& recipe) {
    if (recipe->op == RecipeNode::Op::kLiteral) {
      add(recipe->literal);
      return;
    }
    size_ += byte_size(recipe);
    segments_.emplace_back(recipe);
  }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  std::vector<Segment> take() && { return std::move(segments_); }

 private:
  std::vector<Segment> segments_;
  std::uint64_t size_ = 0;
};

/// Where an initializer's bytes are: inside its message, or at an offset of the data file.
struct Placed {
  const NamedRecipe* initializer;
  std::string header;  // TensorProto without raw_data
  bool is_external = false;

  [[nodiscard]] const Recipe& recipe() const { return initializer->recipe; }
  [[nodiscard]] std::uint64_t message_bytes() const {
    const std::uint64_t payload = byte_size(recipe());
    return header.size() + (is_external ? 0 : 1 + varint(payload).size() + payload);
  }
};

onnx::TensorProto tensor_header(const NamedRecipe& initializer) {
  onnx::TensorProto proto;
  proto.set_name(initializer.name);
  proto.set_data_type(onnx_data_type(initializer.recipe->dtype));
  const Shape& shape = initializer.recipe->shape;
  proto.mutable_dims()->Add(shape.begin(), shape.end());
  return proto;
}

std::string external_header(const NamedRecipe& initializer,
                            const std::string& location,
                            std::uint64_t offset) {
  onnx::TensorProto proto = tensor_header(initializer);
  proto.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto entry = [&](const char* key, const std::string& value) {
    onnx::StringStringEntryProto& item = *proto.add_external_data();
    item.set_key(key);
    item.set_value(value);
  };
  entry("location", location);
  entry("offset", std::to_string(offset));
  entry("length", std::to_string(byte_size(initializer.recipe)));
  return proto.SerializeAsString();
}

bool goes_outside(const Recipe& recipe) {
  // Shapes, axes and small tables stay inline: shape inference cannot read external constants.
  return is_float(recipe->dtype) && byte_size(recipe) >= kMinExternalBytes;
}

/// A graph's message is that of the graph without initializers, and theirs behind it.
std::uint64_t graph_bytes(std::uint64_t own_bytes, const std::vector<Placed>& placed) {
  std::uint64_t bytes = own_bytes;
  for (const Placed& item : placed) {
    const std::uint64_t message = item.message_bytes();
    bytes += 1 + varint(message).size() + message;
  }
  return bytes;
}

/// The fields of the model's message in front of its graph.
std::string model_fields(const onnx::ModelProto& model) {
  onnx::ModelProto fields;
  fields.set_ir_version(model.ir_version());
  fields.set_producer_name(model.producer_name());
  fields.set_producer_version(model.producer_version());
  *fields.mutable_opset_import() = model.opset_import();
  return fields.SerializeAsString();
}

/// The .onnx file up to its first initializer, after `bytes`.
std::string file_head(std::string bytes,
                      const onnx::GraphProto& graph,
                      const std::vector<Placed>& placed) {
  const std::uint64_t own_bytes = graph.ByteSizeLong();
  bytes.append(1, kModelGraphTag).append(varint(graph_bytes(own_bytes, placed)));
  bytes.reserve(bytes.size() + own_bytes);
  EXPORT_CHECK(graph.AppendToString(&bytes), "the graph's message is too large");
  return bytes;
}

PlannedFile onnx_file(const std::string& name,
                      std::string head,
                      const std::vector<Placed>& placed) {
  SegmentList segments;
  segments.add(std::move(head));
  for (const Placed& item : placed) {
    segments.add(std::string(1, kGraphInitializerTag) + varint(item.message_bytes()));
    segments.add(item.header);
    if (!item.is_external) {
      segments.add(std::string(1, kTensorRawDataTag) + varint(byte_size(item.recipe())));
      segments.add(item.recipe());
    }
  }
  return {.name = name, .kind = "onnx", .segments = std::move(segments).take()};
}

/// Move float weights to the data file; the others stay where they are.
PlannedFile external_file(const std::string& name, std::vector<Placed>& placed) {
  SegmentList data;
  for (Placed& item : placed) {
    if (goes_outside(item.recipe())) {
      data.add(std::string((kDataAlignment - data.size() % kDataAlignment) % kDataAlignment, '\0'));
      item.is_external = true;
      item.header = external_header(*item.initializer, name, data.size());
      data.add(item.recipe());
    }
  }
  return {.name = name, .kind = "external_data", .segments = std::move(data).take()};
}

}  // namespace

std::vector<PlannedFile> plan_files(const GraphModel& model,
                                    const std::string& onnx_name,
                                    std::uint64_t max_inline_bytes) {
  std::vector<Placed> placed;
  placed.reserve(model.recipes.size());
  for (const NamedRecipe* const initializer : in_source_order(model.recipes)) {
    placed.push_back({initializer, tensor_header(*initializer).SerializeAsString()});
  }
  const onnx::GraphProto& graph = model.proto->graph();
  std::string fields = model_fields(*model.proto);
  const std::uint64_t inline_bytes = graph_bytes(graph.ByteSizeLong(), placed);
  std::optional<PlannedFile> data;
  if (fields.size() + 1 + varint(inline_bytes).size() + inline_bytes >= max_inline_bytes) {
    data = external_file(external_data_name(onnx_name), placed);
  }
  std::vector<PlannedFile> files;
  files.push_back(onnx_file(onnx_name, file_head(std::move(fields), graph, placed), placed));
  if (data) {
    files.push_back(std::move(*data));
  }
  return files;
}

}  // namespace onnxferry
