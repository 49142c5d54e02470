#include "pipeline/output/plan.h"

#include <algorithm>
#include <bit>
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

std::uint64_t varint_bytes(std::uint64_t value) {
  return (static_cast<std::uint64_t>(std::bit_width(value | 1)) + 6) / 7;
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
  std::uint64_t payload;  // bytes of the values
  std::string header;     // TensorProto without raw_data
  bool is_external = false;

  [[nodiscard]] const Recipe& recipe() const { return initializer->recipe; }
  [[nodiscard]] std::uint64_t message_bytes() const {
    return header.size() + (is_external ? 0 : 1 + varint_bytes(payload) + payload);
  }
};

void set_header(onnx::TensorProto& proto, const NamedRecipe& initializer) {
  proto.Clear();
  proto.set_name(initializer.name);
  proto.set_data_type(onnx_data_type(initializer.recipe->dtype));
  const Shape& shape = initializer.recipe->shape;
  proto.mutable_dims()->Add(shape.begin(), shape.end());
}

void set_external(onnx::TensorProto& proto,
                  const std::string& location,
                  std::uint64_t offset,
                  std::uint64_t length) {
  proto.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto entry = [&](const char* key, const std::string& value) {
    onnx::StringStringEntryProto& item = *proto.add_external_data();
    item.set_key(key);
    item.set_value(value);
  };
  entry("location", location);
  entry("offset", std::to_string(offset));
  entry("length", std::to_string(length));
}

bool goes_outside(const Placed& item) {
  // Shapes, axes and small tables stay inline: shape inference cannot read external constants.
  return is_float(item.recipe()->dtype) && item.payload >= kMinExternalBytes;
}

/// A graph's message is that of the graph without initializers, and theirs behind it.
std::uint64_t graph_bytes(std::uint64_t own_bytes, const std::vector<Placed>& placed) {
  std::uint64_t bytes = own_bytes;
  for (const Placed& item : placed) {
    const std::uint64_t message = item.message_bytes();
    bytes += 1 + varint_bytes(message) + message;
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

/// The .onnx file: its fields in front of the graph, the graph, its initializers.
PlannedFile onnx_file(const std::string& name,
                      std::string bytes,
                      const onnx::GraphProto& graph,
                      std::uint64_t own_bytes,
                      const std::vector<Placed>& placed) {
  const std::uint64_t message_bytes = graph_bytes(own_bytes, placed);
  bytes.append(1, kModelGraphTag).append(varint(message_bytes));
  const bool has_data = std::ranges::any_of(placed, &Placed::is_external);
  bytes.reserve(bytes.size() + (has_data ? message_bytes : own_bytes));
  EXPORT_CHECK(graph.AppendToString(&bytes), "the graph's message is too large");
  SegmentList segments;
  segments.add(std::move(bytes));
  for (const Placed& item : placed) {
    segments.add(std::string(1, kGraphInitializerTag) + varint(item.message_bytes()));
    segments.add(item.header);
    if (!item.is_external) {
      segments.add(std::string(1, kTensorRawDataTag) + varint(item.payload));
      segments.add(item.recipe());
    }
  }
  return {.name = name, .kind = "onnx", .segments = std::move(segments).take()};
}

/// All values stay inside.
void write_headers(std::vector<Placed>& placed) {
  onnx::TensorProto proto;
  for (Placed& item : placed) {
    set_header(proto, *item.initializer);
    item.header = proto.SerializeAsString();
  }
}

/// Float weights go to the data file; the others stay where they are.
PlannedFile external_file(const std::string& name, std::vector<Placed>& placed) {
  SegmentList data;
  onnx::TensorProto proto;
  for (Placed& item : placed) {
    set_header(proto, *item.initializer);
    item.is_external = goes_outside(item);
    if (item.is_external) {
      data.add(std::string((kDataAlignment - data.size() % kDataAlignment) % kDataAlignment, '\0'));
      set_external(proto, name, data.size(), item.payload);
      data.add(item.recipe());
    }
    item.header = proto.SerializeAsString();
  }
  return {.name = name, .kind = "external_data", .segments = std::move(data).take()};
}

}  // namespace

std::vector<PlannedFile> plan_files(const GraphModel& model,
                                    const std::string& onnx_name,
                                    std::uint64_t max_inline_bytes) {
  std::vector<Placed> placed;
  placed.reserve(model.recipes.size());
  std::uint64_t payload = 0;
  for (const NamedRecipe* const initializer : in_source_order(model.recipes)) {
    placed.push_back({initializer, byte_size(initializer->recipe), {}});
    payload += placed.back().payload;
  }
  const onnx::GraphProto& graph = model.proto->graph();
  std::string fields = model_fields(*model.proto);
  const std::uint64_t own_bytes = graph.ByteSizeLong();
  const auto is_too_large = [&](std::uint64_t message_bytes) {
    return fields.size() + 1 + varint_bytes(message_bytes) + message_bytes >= max_inline_bytes;
  };
  bool is_divided = is_too_large(own_bytes + payload);  // without headers it is already
  if (!is_divided) {
    write_headers(placed);
    is_divided = is_too_large(graph_bytes(own_bytes, placed));
  }
  std::optional<PlannedFile> data;
  if (is_divided) {
    data = external_file(external_data_name(onnx_name), placed);
  }
  std::vector<PlannedFile> files;
  files.push_back(onnx_file(onnx_name, std::move(fields), graph, own_bytes, placed));
  if (data) {
    files.push_back(std::move(*data));
  }
  return files;
}

}  // namespace onnxferry
