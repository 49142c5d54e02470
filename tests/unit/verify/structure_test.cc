#include "pipeline/verify/structure.h"

#include <fstream>
#include <sstream>

#include <unistd.h>

#include "pipeline/verify/session.h"
#include "pipeline/verify/weightless.h"
#include "tests/unit/verify/test_graphs.h"

namespace onnxferry {
namespace {

using test::Flaw;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class Structure : public ::testing::Test {
 protected:
  std::string failure(const onnx::ModelProto& model) {
    test::save(model, dir_.path() / "model.onnx");
    return failure();
  }
  std::string failure() {
    const Error error = test::error_of([&] { check_structure(dir_.path(), "model.onnx"); });
    EXPECT_EQ(error.code(), ErrorCode::kVerificationFailed);
    EXPECT_EQ(error.subject(), "model.onnx");
    return error.message();
  }
  CheckedModel check(const onnx::ModelProto& model) {
    test::save(model, dir_.path() / "model.onnx");
    return check_structure(dir_.path(), "model.onnx");
  }
  void write(const std::string& name, std::string_view bytes) {
    std::ofstream(dir_.path() / name, std::ios::binary) << bytes;
  }
  // Moves the tensor `table` (16 x 2 floats) into a file of its own at offset 8.
  static onnx::ModelProto with_external_table() {
    onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
    auto& tensor = *model.mutable_graph()->mutable_initializer(0);
    tensor.clear_raw_data();
    tensor.set_data_location(onnx::TensorProto::EXTERNAL);
    set_entry(tensor, "location", "model.onnx_data");
    set_entry(tensor, "offset", "8");
    set_entry(tensor, "length", "128");
    return model;
  }
  static void set_entry(onnx::TensorProto& tensor,
                        const std::string& key,
                        const std::string& value) {
    for (auto& entry : *tensor.mutable_external_data()) {
      if (entry.key() == key) {
        entry.set_value(value);
        return;
      }
    }
    auto& entry = *tensor.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  }

  test::TempDir dir_;
};

TEST_F(Structure, AcceptsOptimumsExports) {
  const CheckedModel decoder = check_structure(test::fixture("").parent_path(), "qwen2.onnx");
  EXPECT_THAT(decoder.notes, IsEmpty());
  ASSERT_EQ(decoder.signature.inputs.size(), 5U);
  EXPECT_EQ(decoder.signature.inputs[1].dims[1].symbol, "past_sequence_length + sequence_length");
  EXPECT_EQ(decoder.signature.outputs[0].dims[2].size, 280);
  EXPECT_NO_THROW(
      check_structure(test::fixture("").parent_path(), "bert-text-classification.onnx"));
}

TEST_F(Structure, RejectsFilesThatAreNotModels) {
  EXPECT_THAT(failure(), HasSubstr("model.onnx: cannot be opened"));
  write("model.onnx", "");
  EXPECT_THAT(failure(), HasSubstr("the file is empty"));
  write("model.onnx", "not a protobuf");
  EXPECT_THAT(failure(), HasSubstr("not a well-formed ONNX model"));
  write("model.onnx", std::string_view("\x08\x08", 2));
  EXPECT_THAT(failure(), HasSubstr("no graph"));
}

TEST_F(Structure, RejectsEveryTruncation) {
  const std::string bytes = test::toy_encoder(Flaw::kNone).SerializeAsString();
  for (std::size_t length = 1; length < bytes.size(); length += 97) {
    write("model.onnx", std::string_view(bytes).substr(0, length));
    EXPECT_THAT(failure(), HasSubstr("model.onnx")) << "cut at " << length;
  }
}

TEST_F(Structure, RejectsMissingInitializer) {
  onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
  model.mutable_graph()->mutable_initializer()->DeleteSubrange(0, 1);
  EXPECT_THAT(failure(model), AllOf(HasSubstr("onnx checker"), HasSubstr("table")));
}

TEST_F(Structure, RejectsUnknownOperatorsAndAttributes) {
  onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
  model.mutable_graph()->mutable_node(0)->set_op_type("Gatherer");
  EXPECT_THAT(failure(model), HasSubstr("Gatherer"));
}

TEST_F(Structure, RejectsTensorsThatDoNotFitTheirShape) {
  onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
  model.mutable_graph()->mutable_initializer(0)->mutable_raw_data()->pop_back();
  EXPECT_THAT(failure(model),
              HasSubstr("tensor table holds 127 bytes, its shape [16, 2] needs 128"));
  model = test::toy_decoder(Flaw::kNone);
  model.mutable_graph()->mutable_initializer(0)->set_data_type(onnx::TensorProto::FLOAT16);
  EXPECT_THAT(failure(model),
              HasSubstr("tensor table holds 128 bytes, its shape [16, 2] needs 64"));
  model.mutable_graph()->mutable_initializer(0)->set_dims(0, -1);
  EXPECT_THAT(failure(model), HasSubstr("tensor table has no valid shape: [-1, 2]"));
}

TEST_F(Structure, ExternalDataMustLieInsideItsFile) {
  const onnx::ModelProto model = with_external_table();
  EXPECT_THAT(failure(model),
              HasSubstr("tensor table: its external data file model.onnx_data is missing"));
  write("model.onnx_data", std::string(135, 'x'));
  EXPECT_THAT(failure(),
              HasSubstr("tensor table ends past its file: bytes 8 to 136 of "
                        "model.onnx_data, which has 135"));
  write("model.onnx_data", std::string(136, 'x'));
  EXPECT_NO_THROW(check_structure(dir_.path(), "model.onnx"));
}

TEST_F(Structure, ExternalDataMustStayBelowTheDirectory) {
  for (const char* const location : {"../model.onnx_data", "/etc/hostname", "a/../../b", ""}) {
    onnx::ModelProto model = with_external_table();
    set_entry(*model.mutable_graph()->mutable_initializer(0), "location", location);
    EXPECT_THAT(failure(model), HasSubstr("is not a file below the model's directory")) << location;
  }
}

TEST_F(Structure, ExternalOffsetsMustBeNumbers) {
  write("model.onnx_data", std::string(136, 'x'));
  for (const char* const offset : {"-8", "8x", "", "99999999999999999999"}) {
    onnx::ModelProto model = with_external_table();
    set_entry(*model.mutable_graph()->mutable_initializer(0), "offset", offset);
    EXPECT_THAT(failure(model), HasSubstr("is not a number")) << offset;
  }
  onnx::ModelProto model = with_external_table();
  set_entry(*model.mutable_graph()->mutable_initializer(0), "offset", "18446744073709551615");
  EXPECT_THAT(failure(model), HasSubstr("ends past its file"));
}

TEST_F(Structure, RejectsUntypedAndDuplicateNames) {
  onnx::ModelProto model = test::toy_encoder(Flaw::kNone);
  model.mutable_graph()->mutable_output(0)->clear_type();
  EXPECT_THAT(failure(model), HasSubstr("graph output logits has no type"));
  model = test::toy_encoder(Flaw::kNone);
  *model.mutable_graph()->add_input() = model.graph().input(0);
  EXPECT_THAT(failure(model), HasSubstr("two graph inputs are named input_ids"));
  model = test::toy_encoder(Flaw::kNone);
  *model.mutable_graph()->add_initializer() = model.graph().initializer(0);
  EXPECT_THAT(failure(model), HasSubstr("two initializers are named table"));
  model = test::toy_encoder(Flaw::kNone);
  model.mutable_graph()->mutable_node(1)->set_name(model.graph().node(0).name());
  EXPECT_THAT(failure(model), HasSubstr("two nodes are named /values"));
}

TEST_F(Structure, SaysWhenOperatorSchemasAreTooNewToCheck) {
  onnx::ModelProto model = test::toy_encoder(Flaw::kNone);
  model.mutable_opset_import(0)->set_version(99);
  EXPECT_THAT(check(model).notes, ElementsAre(HasSubstr("operator schemas not checked: opset 99")));
  model.mutable_opset_import(0)->set_version(17);
  EXPECT_THAT(check(model).notes, IsEmpty());
  model.clear_opset_import();
  EXPECT_THAT(failure(model), HasSubstr("imports no opset"));
}

TEST_F(Structure, NeedsNoRuntimeAndOtherLevelsSaySo) {
  test::save(test::toy_encoder(Flaw::kNone), dir_.path() / "model.onnx");
  test::NoObserver observer;
  StageScope scope(Stage::kVerify, observer);
  VerifyRequest request = test::request_for(dir_.path(), "model.onnx", VerifyLevel::kStructure);
  EXPECT_EQ(verify(request, nullptr, scope).level, "structure");
  EXPECT_EQ(scope.bytes(), std::filesystem::file_size(dir_.path() / "model.onnx"));
  request.level = VerifyLevel::kLoad;
  const Error error = test::error_of([&] { verify(request, nullptr, scope); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedOption);
  EXPECT_THAT(error.message(), HasSubstr("level load needs ONNX Runtime"));
}

#ifndef ONNXFERRY_TEST_ONNXRUNTIME
TEST(Runtime, BuildWithoutHeadersSaysSo) {
  const Error error = test::error_of([] { OnnxRuntime::load(""); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedOption);
  EXPECT_THAT(error.message(), HasSubstr("this build has no ONNX Runtime support"));
}
#endif

// logits = ids one-hot row of a [columns, 4] table, whose last row is all that is not a hole.
class BigModel : public Structure {
 protected:
  static constexpr std::int64_t kWidth = 4;

  // Protobuf merges repeated occurrences of a message, so a graph whose only content is one more
  // initializer can be appended to a small model; the file is as large as asked, its weights a
  // hole.
  void write_big(std::int64_t rows) {
    test::ModelMaker maker;
    maker.input("input_ids", onnx::TensorProto::INT64, {"batch_size", "sequence_length"})
        .node("Gather", {"big", "input_ids"}, "logits")
        .output("logits", onnx::TensorProto::FLOAT, {"batch_size", "sequence_length", "4"});
    onnx::TensorProto tensor;
    tensor.set_name("big");
    tensor.set_data_type(onnx::TensorProto::FLOAT);
    tensor.add_dims(rows);
    tensor.add_dims(kWidth);
    const auto raw_bytes = static_cast<std::uint64_t>(rows * kWidth) * sizeof(float);
    std::string header = tensor.SerializeAsString() + '\x4a' + varint(raw_bytes);
    header = '\x2a' + varint(header.size() + raw_bytes) + header;
    header = '\x3a' + varint(header.size() + raw_bytes) + header;
    const std::filesystem::path path = dir_.path() / "model.onnx";
    test::save(maker.model, path);
    std::ofstream(path, std::ios::binary | std::ios::app) << header;
    const std::uint64_t end = std::filesystem::file_size(path) + raw_bytes;
    std::filesystem::resize_file(path, end);
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    const float last_row[kWidth] = {1.5F, -2.0F, 3.25F, 0.125F};
    file.seekp(static_cast<std::streamoff>(end - sizeof(last_row)));
    file.write(reinterpret_cast<const char*>(last_row), sizeof(last_row));
  }

  static std::string varint(std::uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7U) {
      out.push_back(static_cast<char>((value & 0x7FU) | 0x80U));
    }
    out.push_back(static_cast<char>(value));
    return out;
  }
};

TEST_F(BigModel, WeightlessCopyPointsIntoTheFile) {
  constexpr std::int64_t kRows = 5'000'000;  // 80 MB
  write_big(kRows);
  const CheckedModel model = check_structure(dir_.path(), "model.onnx");
  EXPECT_LT(model.weightless.size(), 1000U);
  EXPECT_EQ(model.inline_weight_bytes, static_cast<std::uint64_t>(kRows) * 16);
  onnx::ModelProto proto;
  ASSERT_TRUE(proto.ParseFromString(model.weightless));
  ASSERT_EQ(proto.graph().initializer_size(), 1);
  EXPECT_EQ(proto.graph().initializer(0).external_data(0).value(), "model.onnx");
  EXPECT_THAT(std::distance(std::filesystem::directory_iterator(dir_.path()), {}), 1)
      << "nothing may be left beside the model";
}

#ifdef ONNXFERRY_TEST_ONNXRUNTIME
// Private writable memory in KiB: what RLIMIT_DATA counts.
std::int64_t data_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmData:")) {
      return std::stoll(line.substr(7));
    }
  }
  ADD_FAILURE() << "no VmData in /proc/self/status";
  return 0;
}

// Jobs run under RLIMIT_DATA: weights may not count, neither inline nor external ones.
TEST_F(BigModel, WeightsDoNotCountAsMemoryOfTheProcess) {
  write_big(20'000'000);  // 320 MB
  const CheckedModel model = check_structure(dir_.path(), "model.onnx");
  auto& factory = dynamic_cast<SessionFactory&>(*test::runtime());
  factory.open(model, Device::kCpu);  // threads and pools that stay
  const std::int64_t before = data_kib();
  const auto inline_session = factory.open(model, Device::kCpu);
  EXPECT_LT(data_kib() - before, 100'000);

  // The weightless copy is a model with external data, in a file called model.onnx.
  std::ofstream(dir_.path() / "external.onnx", std::ios::binary) << model.weightless;
  const CheckedModel external = check_structure(dir_.path(), "external.onnx");
  EXPECT_EQ(external.inline_weight_bytes, 0U);
  const auto external_session = factory.open(external, Device::kCpu);
  EXPECT_LT(data_kib() - before, 200'000);
}

TEST_F(BigModel, RunsFromItsWeightlessCopy) {
  constexpr std::int64_t kRows = 5'000'000;
  write_big(kRows);
  const CheckedModel model = check_structure(dir_.path(), "model.onnx");
  auto& factory = dynamic_cast<SessionFactory&>(*test::runtime());
  const auto session = factory.open(model, Device::kCpu);
  const std::vector<std::int64_t> ids = {kRows - 1, 7};
  const auto outputs =
      session->run({from_integers("input_ids", ElementType::kInt64, {1, 2}, ids)}, {"logits"});
  ASSERT_EQ(outputs.size(), 1U);
  EXPECT_THAT(outputs[0].dims, ElementsAre(1, 2, 4));
  EXPECT_EQ(element(outputs[0], 2), 3.25);
  EXPECT_EQ(element(outputs[0], 4), 0);
}
#endif

TEST_F(BigModel, SmallTensorsStayInline) {
  const onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
  test::save(model, dir_.path() / "model.onnx");
  const WeightlessModel weightless = read_weightless(dir_.path() / "model.onnx");
  EXPECT_EQ(weightless.bytes, model.SerializeAsString());
  EXPECT_EQ(weightless.moved_bytes, 0U);
}

TEST_F(BigModel, TensorsOfNestedGraphsAreMovedToo) {
  onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
  auto& attribute = *model.mutable_graph()->mutable_node(0)->add_attribute();
  attribute.set_name("then_branch");
  attribute.set_type(onnx::AttributeProto::GRAPH);
  auto& tensor = *attribute.mutable_g()->add_initializer();
  tensor.set_name("inner");
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  tensor.add_dims(8192);
  const std::string data(32768, 'w');
  tensor.set_raw_data(data);
  test::save(model, dir_.path() / "model.onnx");
  const WeightlessModel weightless = read_weightless(dir_.path() / "model.onnx");
  EXPECT_EQ(weightless.moved_bytes, 32768U);
  onnx::ModelProto copy;
  ASSERT_TRUE(copy.ParseFromString(weightless.bytes));
  const auto& moved = copy.graph().node(0).attribute(0).g().initializer(0);
  EXPECT_EQ(moved.data_location(), onnx::TensorProto::EXTERNAL);
  ASSERT_EQ(moved.external_data_size(), 3);
  const std::ifstream file(dir_.path() / "model.onnx", std::ios::binary);
  std::ostringstream all;
  all << file.rdbuf();
  EXPECT_EQ(all.str().substr(std::stoul(moved.external_data(1).value()),
                             std::stoul(moved.external_data(2).value())),
            data);
}

}  // namespace
}  // namespace onnxferry
