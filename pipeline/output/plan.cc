#include "pipeline/output/plan.h"

#include <algorithm>
#include <tuple>

#include <onnx/onnx_pb.h>

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

struct Initializer {
  const onnx::TensorProto* proto;
  Recipe recipe;
};

std::vector<Initializer> in_source_order(const GraphModel& model) {
  std::vector<Initializer> initializers;
  for (const onnx::TensorProto& proto : model.proto->graph().initializer()) {
    initializers.push_back({&proto, model.recipes.at(proto.name())});
  }
  const auto place = [](const Initializer& initializer) {
    const auto tensors = sources(initializer.recipe);
    return tensors.empty()
               ? std::tuple(std::uint32_t{0}, std::uint64_t{0}, 0)  // constants come first
               : std::tuple(tensors.front()->file, tensors.front()->offset, 1);
  };
  std::ranges::stable_sort(initializers, [&](const Initializer& a, const Initializer& b) {
    const auto [file_a, offset_a, kind_a] = place(a);
    const auto [file_b, offset_b, kind_b] = place(b);
    return std::tuple(kind_a, file_a, offset_a) < std::tuple(kind_b, file_b, offset_b);
  });
  return initializers;
}

/// Segments of one file; neighbouring literals are merged.
class SegmentList {
 public:
  void add(std::string_view bytes) {
    size_ += bytes.size();
    if (!segments_.empty() && std::holds_alternative<std::string>(segments_.back())) {
      std::get<std::string>(segments_.back()).append(bytes);
    } else if (!bytes.empty()) {
      segments_.emplace_back(std::string(bytes));
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
  Initializer initializer;
  std::string header;  // TensorProto without raw_data
  bool is_external = false;

  [[nodiscard]] std::uint64_t message_bytes() const {
    const std::uint64_t payload = byte_size(initializer.recipe);
    return header.size() + (is_external ? 0 : 1 + varint(payload).size() + payload);
  }
};

std::string external_header(const onnx::TensorProto& proto,
                            const std::string& location,
                            std::uint64_t offset,
                            std::uint64_t length) {
  onnx::TensorProto copy = proto;
  copy.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto entry = [&](const char* key, const std::string& value) {
    onnx::StringStringEntryProto& item = *copy.add_external_data();
    item.set_key(key);
    item.set_value(value);
  };
  entry("location", location);
  entry("offset", std::to_string(offset));
  entry("length", std::to_string(length));
  return copy.SerializeAsString();
}

bool goes_outside(const Recipe& recipe) {
  // Shapes, axes and small tables stay inline: shape inference cannot read external constants.
  return is_float(recipe->dtype) && byte_size(recipe) >= kMinExternalBytes;
}

std::uint64_t graph_bytes(const std::string& nodes, const std::vector<Placed>& placed) {
  std::uint64_t bytes = nodes.size();
  for (const Placed& item : placed) {
    const std::uint64_t message = item.message_bytes();
    bytes += 1 + varint(message).size() + message;
  }
  return bytes;
}

PlannedFile onnx_file(const GraphModel& model,
                      const std::string& name,
                      const std::vector<Placed>& placed) {
  onnx::ModelProto head;
  head.set_ir_version(model.proto->ir_version());
  head.set_producer_name(model.proto->producer_name());
  head.set_producer_version(model.proto->producer_version());
  *head.mutable_opset_import() = model.proto->opset_import();
  onnx::GraphProto nodes = model.proto->graph();
  nodes.clear_initializer();
  const std::string node_bytes = nodes.SerializeAsString();

  SegmentList segments;
  segments.add(head.SerializeAsString());
  segments.add(std::string(1, kModelGraphTag) + varint(graph_bytes(node_bytes, placed)));
  segments.add(node_bytes);
  for (const Placed& item : placed) {
    segments.add(std::string(1, kGraphInitializerTag) + varint(item.message_bytes()));
    segments.add(item.header);
    if (!item.is_external) {
      segments.add(std::string(1, kTensorRawDataTag) + varint(byte_size(item.initializer.recipe)));
      segments.add(item.initializer.recipe);
    }
  }
  return {.name = name, .kind = "onnx", .segments = std::move(segments).take()};
}

}  // namespace

std::vector<PlannedFile> plan_files(const GraphModel& model,
                                    const std::string& onnx_name,
                                    std::uint64_t max_inline_bytes) {
  std::vector<Placed> placed;
  for (const Initializer& initializer : in_source_order(model)) {
    placed.push_back({initializer, initializer.proto->SerializeAsString()});
  }
  std::vector<PlannedFile> files;
  files.push_back(onnx_file(model, onnx_name, placed));
  if (files.front().bytes() < max_inline_bytes) {
    return files;
  }
  const std::string data_name = external_data_name(onnx_name);
  SegmentList data;
  for (Placed& item : placed) {
    if (goes_outside(item.initializer.recipe)) {
      data.add(std::string((kDataAlignment - data.size() % kDataAlignment) % kDataAlignment, '\0'));
      item.is_external = true;
      item.header = external_header(
          *item.initializer.proto, data_name, data.size(), byte_size(item.initializer.recipe));
      data.add(item.initializer.recipe);
    }
  }
  files.front() = onnx_file(model, onnx_name, placed);
  files.push_back({.name = data_name, .kind = "external_data", .segments = std::move(data).take()});
  return files;
}

}  // namespace onnxferry
