#include "tests/unit/verify/test_graphs.h"

#include <cstdlib>
#include <fstream>

#include <unistd.h>

#include "tests/support/runtime.h"
#include "tests/support/tests_dir.h"

namespace onnxferry::test {
namespace {

using onnx::TensorProto;

constexpr std::int64_t kVocab = 16;
constexpr std::int64_t kWidth = 2;
constexpr std::int64_t kPositions = 32;

void set_value(onnx::ValueInfoProto& value,
               const std::string& name,
               int type,
               const ModelMaker::Dims& dims) {
  value.set_name(name);
  auto& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  tensor.mutable_shape();
  for (const std::string& dim : dims) {
    auto& entry = *tensor.mutable_shape()->add_dim();
    if (dim.find_first_not_of("0123456789") == std::string::npos) {
      entry.set_dim_value(std::stoll(dim));
    } else {
      entry.set_dim_param(dim);
    }
  }
}

// Values without a pattern that sums could hide.
std::vector<float> wave(std::int64_t count, float step) {
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(static_cast<float>((i * 37 + 11) % 64) / 64.0F * step - step / 3);
  }
  return values;
}

void add_constants(ModelMaker& maker) {
  maker.floats("table", {kVocab, kWidth}, wave(kVocab * kWidth, 1.0F))
      .floats("position_table", {kPositions, kWidth}, wave(kPositions * kWidth, 0.5F))
      .floats("weights", {kWidth, kVocab}, wave(kWidth * kVocab, 2.0F))
      .floats("zero", {}, {0.0F})
      .ints("axis_1", {1}, {1})
      .ints("axis_2", {1}, {2})
      .ints("axis_0", {1}, {0})
      .ints("one", {}, {1})
      .ints("last", {1}, {-1})
      .ints("sum_axis", {}, {1});
}

// From "values" [batch, total, width] and "mask" [batch, total, 1] to the sums "hidden" of the same
// shape.
void add_sums(ModelMaker& maker, Flaw flaw) {
  maker.node("Mul", {"values", "mask"}, "masked");
  const std::string summed =
      flaw == Flaw::kIgnoresMask || flaw == Flaw::kSeesPadding ? "values" : "masked";
  if (flaw == Flaw::kSeesFuture || flaw == Flaw::kSeesPadding) {
    maker.node("ReduceSum", {summed, "axis_1"}, "total")
        .node("Mul", {summed, "zero"}, "nothing")
        .node("Add", {"nothing", "total"}, "sums");
  } else {
    maker.node("CumSum", {summed, "sum_axis"}, "sums");
  }
  if (flaw == Flaw::kMixesRows) {
    maker.node("ReduceSum", {"sums", "axis_0"}, "all_rows")
        .node("Add", {"sums", "all_rows"}, "hidden");
  } else if (flaw == Flaw::kBreaksAtPadding) {
    maker.node("Div", {"sums", "mask"}, "hidden");
  } else {
    maker.node("Identity", {"sums"}, "hidden");
  }
}

void add_logits(ModelMaker& maker, Flaw flaw, const std::string& hidden) {
  if (flaw == Flaw::kNanLogits) {
    maker.node("MatMul", {hidden, "weights"}, "raw_logits")
        .node("Div", {"zero", "zero"}, "nan")
        .node("Add", {"raw_logits", "nan"}, "logits");
  } else {
    maker.node("MatMul", {hidden, "weights"}, "logits");
  }
  const std::string vocab = flaw == Flaw::kWrongVocab ? "17" : "16";
  ModelMaker::Dims dims = {"batch_size", "sequence_length", vocab};
  if (flaw == Flaw::kWrongRank) {
    dims.insert(dims.begin() + 1, "1");
  }
  maker.output("logits", TensorProto::FLOAT, dims);
}

}  // namespace

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "onnxferry-verify-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw std::filesystem::filesystem_error("mkdtemp",
                                            std::error_code(errno, std::generic_category()));
  }
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ModelMaker::ModelMaker() {
  model.set_ir_version(8);
  model.add_opset_import()->set_version(17);
  graph().set_name("toy");
}

ModelMaker& ModelMaker::input(const std::string& name, int type, const Dims& dims) {
  set_value(*graph().add_input(), name, type, dims);
  return *this;
}

ModelMaker& ModelMaker::output(const std::string& name, int type, const Dims& dims) {
  set_value(*graph().add_output(), name, type, dims);
  return *this;
}

ModelMaker& ModelMaker::floats(const std::string& name,
                               const std::vector<std::int64_t>& dims,
                               const std::vector<float>& values) {
  auto& tensor = *graph().add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(TensorProto::FLOAT);
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.set_raw_data(values.data(), values.size() * sizeof(float));
  return *this;
}

ModelMaker& ModelMaker::ints(const std::string& name,
                             const std::vector<std::int64_t>& dims,
                             const std::vector<std::int64_t>& values) {
  auto& tensor = *graph().add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(TensorProto::INT64);
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.set_raw_data(values.data(), values.size() * sizeof(std::int64_t));
  return *this;
}

ModelMaker& ModelMaker::node(const std::string& op,
                             const std::vector<std::string>& inputs,
                             const std::string& output,
                             const std::string& attribute,
                             std::int64_t value) {
  auto& node = *graph().add_node();
  node.set_op_type(op);
  node.set_name("/" + output);
  node.mutable_input()->Add(inputs.begin(), inputs.end());
  node.add_output(output);
  if (!attribute.empty()) {
    auto& entry = *node.add_attribute();
    entry.set_name(attribute);
    entry.set_type(onnx::AttributeProto::INT);
    entry.set_i(value);
  }
  return *this;
}

onnx::ModelProto toy_decoder(Flaw flaw, int cache_type) {
  const std::string total = "past_sequence_length + sequence_length";
  const std::string present = flaw == Flaw::kWrongPresentLength ? "sequence_length" : total;
  ModelMaker maker;
  add_constants(maker);
  maker.input("input_ids", TensorProto::INT64, {"batch_size", "sequence_length"})
      .input("attention_mask", TensorProto::INT64, {"batch_size", total})
      .input("position_ids", TensorProto::INT64, {"batch_size", "sequence_length"})
      .input("past_key_values.0.key", cache_type, {"batch_size", "1", "past_sequence_length", "2"});
  maker.node("Gather", {"table", "input_ids"}, "token")
      .node("Gather", {"position_table", "position_ids"}, "position")
      .node("Add", {"token", "position"}, "embedded")
      .node("Unsqueeze", {"embedded", "axis_1"}, "key")
      .node("Cast", {"past_key_values.0.key"}, "past", "to", TensorProto::FLOAT)
      .node("Concat", {"past", "key"}, "joined", "axis", 2)
      .node("Cast", {"joined"}, "present.0.key", "to", cache_type);
  maker.node("Cast", {"attention_mask"}, "float_mask", "to", TensorProto::FLOAT)
      .node("Unsqueeze", {"float_mask", "axis_2"}, "mask");
  if (flaw == Flaw::kForgetsPast) {
    maker.node("Mul", {"past", "zero"}, "no_past")
        .node("Concat", {"no_past", "key"}, "visible", "axis", 2);
  } else {
    maker.node("Identity", {"joined"}, "visible");
  }
  maker.node("Squeeze", {"visible", "axis_1"}, "values");
  add_sums(maker, flaw);
  maker.node("Shape", {"input_ids"}, "ids_shape")
      .node("Gather", {"ids_shape", "axis_1"}, "length")
      .node("Neg", {"length"}, "minus_length")
      .node("Shape", {"hidden"}, "hidden_shape")
      .node("Gather", {"hidden_shape", "axis_1"}, "total_length")
      .node("Slice", {"hidden", "minus_length", "total_length", "axis_1"}, "recent");
  add_logits(maker, flaw, "recent");
  maker.output("present.0.key", cache_type, {"batch_size", "1", present, "2"});
  return maker.model;
}

onnx::ModelProto toy_encoder(Flaw flaw) {
  ModelMaker maker;
  add_constants(maker);
  maker.input("input_ids", TensorProto::INT64, {"batch_size", "sequence_length"})
      .input("attention_mask", TensorProto::INT64, {"batch_size", "sequence_length"})
      .node("Gather", {"table", "input_ids"}, "values")
      .node("Cast", {"attention_mask"}, "float_mask", "to", TensorProto::FLOAT)
      .node("Unsqueeze", {"float_mask", "axis_2"}, "mask");
  add_sums(maker, flaw);
  add_logits(maker, flaw, "hidden");
  return maker.model;
}

void save(const onnx::ModelProto& model, const std::filesystem::path& path) {
  std::ofstream out(path, std::ios::binary);
  if (!model.SerializeToOstream(&out)) {
    throw std::runtime_error("cannot write " + path.string());
  }
}

std::filesystem::path fixture(const std::string& name) {
  return tests_dir() / "fixtures" / "graphs" / name;
}

onnx::ModelProto load_fixture(const std::string& name) {
  std::ifstream in(fixture(name), std::ios::binary);
  onnx::ModelProto model;
  if (!model.ParseFromIstream(&in)) {
    throw std::runtime_error("cannot read fixture " + name);
  }
  return model;
}

VerifyRequest request_for(const std::filesystem::path& directory,
                          const std::string& file,
                          VerifyLevel level) {
  VerifyRequest request;
  request.directory = directory;
  request.onnx_files = {file};
  request.level = level;
  request.vocab_size = kVocab;
  request.max_positions = kPositions;
  request.pad_token_id = 0;
  return request;
}

OnnxRuntime* runtime() {
  return testing::runtime();
}

VerificationReport run_verify(const VerifyRequest& request) {
  NoObserver observer;
  StageScope scope(Stage::kVerify, observer);
  return verify(request, runtime(), scope);
}

Error error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {ErrorCode::kInternal, "no Error was thrown"};
}

}  // namespace onnxferry::test
