#include "pipeline/verify/structure.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <system_error>
#include <unordered_map>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <onnx/checker.h>
#include <onnx/onnx_pb.h>

#include "pipeline/error.h"
#include "pipeline/verify/weightless.h"

namespace onnxferry {
namespace {

// What all checks of one file share.
struct File {
  std::filesystem::path directory;
  std::string name;

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw Error(ErrorCode::kVerificationFailed,
                fmt::format("{}: {}", name, fmt::format(format, std::forward<Args>(args)...)),
                name);
  }
};

// Bits of one element; 0 where the type has no fixed size or is not known here. Values beyond
// BFLOAT16 are newer than the oldest onnx that we build against, hence numbers.
int element_bits(std::int32_t type) {
  switch (type) {
    case 2:   // UINT8
    case 3:   // INT8
    case 9:   // BOOL
    case 17:  // FLOAT8E4M3FN
    case 18:  // FLOAT8E4M3FNUZ
    case 19:  // FLOAT8E5M2
    case 20:  // FLOAT8E5M2FNUZ
      return 8;
    case 4:   // UINT16
    case 5:   // INT16
    case 10:  // FLOAT16
    case 16:  // BFLOAT16
      return 16;
    case 1:   // FLOAT
    case 6:   // INT32
    case 12:  // UINT32
      return 32;
    case 7:   // INT64
    case 11:  // DOUBLE
    case 13:  // UINT64
    case 14:  // COMPLEX64
      return 64;
    case 15:  // COMPLEX128
      return 128;
    case 21:  // UINT4
    case 22:  // INT4
      return 4;
    default:
      return 0;
  }
}

// Bytes that a tensor's shape asks for; nullopt where the type has no fixed size.
std::optional<std::uint64_t> expected_bytes(const File& file, const onnx::TensorProto& tensor) {
  const auto bits = static_cast<std::uint64_t>(element_bits(tensor.data_type()));
  if (bits == 0) {
    return std::nullopt;
  }
  std::uint64_t count = 1;
  for (const std::int64_t dim : tensor.dims()) {
    if (dim < 0 || __builtin_mul_overflow(count, static_cast<std::uint64_t>(dim), &count)) {
      file.fail(
          "tensor {} has no valid shape: [{}]", tensor.name(), fmt::join(tensor.dims(), ", "));
    }
  }
  std::uint64_t total = 0;
  if (__builtin_mul_overflow(count, bits, &total)) {
    file.fail("tensor {} has no valid shape: [{}]", tensor.name(), fmt::join(tensor.dims(), ", "));
  }
  return (total + 7) / 8;
}

std::uint64_t to_number(const File& file,
                        const onnx::TensorProto& tensor,
                        const std::string& text) {
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (result.ec != std::errc() || result.ptr != end) {
    file.fail(
        "tensor {}: external data offset or length '{}' is not a number", tensor.name(), text);
  }
  return value;
}

std::filesystem::path external_path(const File& file,
                                    const onnx::TensorProto& tensor,
                                    const std::string& location) {
  const std::filesystem::path relative = std::filesystem::path(location).lexically_normal();
  if (location.empty() || relative.is_absolute() || *relative.begin() == "..") {
    file.fail("tensor {}: external data location '{}' is not a file below the model's directory",
              tensor.name(),
              location);
  }
  return file.directory / relative;
}

class TensorChecker {
 public:
  explicit TensorChecker(const File& file) : file_(file) {}

  /// \return where an external tensor lies; `file` is empty for one with its data inline
  StoredTensor operator()(const onnx::TensorProto& tensor) {
    const std::optional<std::uint64_t> expected = expected_bytes(file_, tensor);
    if (tensor.data_location() == onnx::TensorProto::EXTERNAL) {
      return check_external(tensor, expected);
    }
    // Other fields than raw_data count elements and are compared by the checker.
    if (tensor.has_raw_data() && expected && tensor.raw_data().size() != *expected) {
      file_.fail("tensor {} holds {} bytes, its shape [{}] needs {}",
                 tensor.name(),
                 tensor.raw_data().size(),
                 fmt::join(tensor.dims(), ", "),
                 *expected);
    }
    return {};
  }

 private:
  StoredTensor check_external(const onnx::TensorProto& tensor,
                              std::optional<std::uint64_t> expected) {
    std::map<std::string, std::string> entries;
    for (const auto& entry : tensor.external_data()) {
      entries[entry.key()] = entry.value();
    }
    const std::string& location = entries["location"];
    const std::uint64_t size = file_size(tensor, location);
    const std::uint64_t offset =
        entries.contains("offset") ? to_number(file_, tensor, entries["offset"]) : 0;
    const std::uint64_t length = entries.contains("length")
                                     ? to_number(file_, tensor, entries["length"])
                                     : expected.value_or(0);
    if (offset > size || length > size - offset) {
      file_.fail("tensor {} ends past its file: bytes {} to {} of {}, which has {}",
                 tensor.name(),
                 offset,
                 offset + length,
                 location,
                 size);
    }
    if (expected && length != *expected) {
      file_.fail("tensor {} holds {} bytes, its shape [{}] needs {}",
                 tensor.name(),
                 length,
                 fmt::join(tensor.dims(), ", "),
                 *expected);
    }
    return {tensor.name(),
            tensor.data_type(),
            {tensor.dims().begin(), tensor.dims().end()},
            location,
            offset,
            length};
  }

  std::uint64_t file_size(const onnx::TensorProto& tensor, const std::string& location) {
    const auto known = sizes_.find(location);
    if (known != sizes_.end()) {
      return known->second;
    }
    const std::filesystem::path path = external_path(file_, tensor, location);
    std::error_code code;
    if (!std::filesystem::is_regular_file(path, code)) {
      file_.fail("tensor {}: its external data file {} is missing", tensor.name(), location);
    }
    const std::uint64_t size = std::filesystem::file_size(path, code);
    if (code) {
      file_.fail("external data file {}: {}", location, code.message());
    }
    sizes_[location] = size;
    return size;
  }

  const File& file_;
  std::map<std::string, std::uint64_t> sizes_;
};

// Nesting is bounded: read_weightless and protobuf itself refuse deeper messages.
// NOLINTNEXTLINE(misc-no-recursion)
void for_each_tensor(const onnx::GraphProto& graph,
                     const std::function<void(const onnx::TensorProto&)>& visit) {
  std::ranges::for_each(graph.initializer(), visit);
  for (const onnx::NodeProto& node : graph.node()) {
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      if (attribute.has_t()) {
        visit(attribute.t());
      }
      std::ranges::for_each(attribute.tensors(), visit);
      if (attribute.has_g()) {
        for_each_tensor(attribute.g(), visit);
      }
      for (const onnx::GraphProto& nested : attribute.graphs()) {
        for_each_tensor(nested, visit);
      }
    }
  }
}

ValueInfo to_value_info(const File& file,
                        std::string_view role,
                        const onnx::ValueInfoProto& proto) {
  if (proto.name().empty()) {
    file.fail("a graph {} has no name", role);
  }
  if (!proto.type().has_tensor_type() || !proto.type().tensor_type().has_shape() ||
      proto.type().tensor_type().elem_type() == onnx::TensorProto::UNDEFINED) {
    file.fail("graph {} {} has no type or no shape", role, proto.name());
  }
  ValueInfo value{proto.name(), proto.type().tensor_type().elem_type(), {}};
  for (const auto& dim : proto.type().tensor_type().shape().dim()) {
    if (dim.has_dim_value()) {
      if (dim.dim_value() < 0) {
        file.fail("graph {} {}: dimension {}", role, proto.name(), dim.dim_value());
      }
      value.dims.push_back({dim.dim_value(), {}});
    } else {
      value.dims.push_back({-1, dim.dim_param()});
    }
  }
  return value;
}

void insert_unique(const File& file,
                   std::set<std::string>& names,
                   std::string_view role,
                   const std::string& name) {
  if (!names.insert(name).second) {
    file.fail("two {}s are named {}", role, name);
  }
}

Signature check_names(const File& file, const onnx::GraphProto& graph) {
  std::set<std::string> initializers;
  for (const onnx::TensorProto& tensor : graph.initializer()) {
    insert_unique(file, initializers, "initializer", tensor.name());
  }
  Signature signature;
  std::set<std::string> inputs;
  for (const onnx::ValueInfoProto& input : graph.input()) {
    insert_unique(file, inputs, "graph input", input.name());
    ValueInfo value = to_value_info(file, "input", input);
    if (!initializers.contains(input.name())) {
      signature.inputs.push_back(std::move(value));
    }
  }
  std::set<std::string> outputs;
  for (const onnx::ValueInfoProto& output : graph.output()) {
    insert_unique(file, outputs, "graph output", output.name());
    signature.outputs.push_back(to_value_info(file, "output", output));
  }
  if (signature.outputs.empty()) {
    file.fail("the graph has no output");
  }
  std::set<std::string> nodes;
  for (const onnx::NodeProto& node : graph.node()) {
    if (!node.name().empty()) {
      insert_unique(file, nodes, "node", node.name());
    }
  }
  return signature;
}

// The default domain's opset; 0 when the model imports none.
std::int64_t default_opset(const onnx::ModelProto& model) {
  for (const auto& import : model.opset_import()) {
    if (import.domain().empty() || import.domain() == "ai.onnx") {
      return import.version();
    }
  }
  return 0;
}

std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  const auto is_double_space = [](char a, char b) { return a == ' ' && b == ' '; };
  text.erase(std::ranges::unique(text, is_double_space).begin(), text.end());
  return text;
}

// The checker on the proto in memory with the model's directory as the place of external data.
// check_model(path) would read the file, weights and all; check_model(proto) would look for
// external data in the current directory.
void run_onnx_checker(const File& file, const onnx::ModelProto& model) {
  onnx::checker::CheckerContext context;
  context.set_ir_version(static_cast<int>(model.ir_version()));
  context.set_model_dir(file.directory.string());
  std::unordered_map<std::string, int> imports;
  for (const auto& import : model.opset_import()) {
    imports[import.domain() == "ai.onnx" ? "" : import.domain()] =
        static_cast<int>(import.version());
  }
  context.set_opset_imports(imports);
  try {
    const onnx::checker::LexicalScopeContext scope;
    onnx::checker::check_graph(model.graph(), context, scope);
    if (model.functions_size() > 0) {
      onnx::checker::check_model_local_functions(model, context, scope);
    }
  } catch (const onnx::checker::ValidationError& error) {
    file.fail("the onnx checker refuses it: {}", one_line(error.what()));
  }
}

bool is_half(std::int32_t type) {
  return type == onnx::TensorProto::FLOAT16 || type == onnx::TensorProto::BFLOAT16;
}

void check_schemas(const File& file, const onnx::ModelProto& model, CheckedModel& checked) {
  const std::int64_t opset = default_opset(model);
  if (opset <= 0) {
    file.fail("the model imports no opset of the default domain");
  }
  const std::int64_t known_opset =
      onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map().at("").second;
  if (opset > known_opset || model.ir_version() > onnx::Version::IR_VERSION) {
    checked.notes.push_back(
        fmt::format("{}: operator schemas not checked: opset {} and IR version {} are newer than "
                    "this build's onnx library (opset {}, IR version {})",
                    file.name,
                    opset,
                    model.ir_version(),
                    known_opset,
                    static_cast<int>(onnx::Version::IR_VERSION)));
    return;
  }
  run_onnx_checker(file, model);
}

}  // namespace

CheckedModel check_structure(const std::filesystem::path& directory, const std::string& onnx_file) {
  CheckedModel checked;
  checked.file = directory / onnx_file;
  const File file{checked.file.parent_path(), onnx_file};
  WeightlessModel weightless = read_weightless(checked.file);
  checked.file_bytes = weightless.file_bytes;
  checked.inline_weight_bytes = weightless.moved_bytes;
  checked.weightless = std::move(weightless.bytes);

  onnx::ModelProto model;
  if (!model.ParseFromString(checked.weightless)) {
    file.fail("not an ONNX model: its protobuf does not parse");
  }
  if (!model.has_graph()) {
    file.fail("not an ONNX model: it has no graph");
  }
  checked.signature = check_names(file, model.graph());
  TensorChecker check_tensor(file);
  for_each_tensor(model.graph(), [&](const onnx::TensorProto& tensor) { check_tensor(tensor); });
  for (const onnx::TensorProto& tensor : model.graph().initializer()) {
    checked.has_half_weights = checked.has_half_weights || is_half(tensor.data_type());
    if (StoredTensor stored = check_tensor(tensor); !stored.file.empty()) {
      checked.stored_tensors.push_back(std::move(stored));
    }
  }
  check_schemas(file, model, checked);
  return checked;
}

}  // namespace onnxferry
