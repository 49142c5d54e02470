// Levels load, run and full with ONNX Runtime; only in builds that support it.
#ifdef ONNXFERRY_TEST_ONNXRUNTIME

#include "tests/unit/verify/test_graphs.h"

namespace onnxferry {
namespace {

using test::Flaw;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;

class Levels : public ::testing::Test {
 protected:
  VerifyRequest decoder(Flaw flaw, VerifyLevel level, int cache_type = onnx::TensorProto::FLOAT) {
    test::save(test::toy_decoder(flaw, cache_type), dir_.path() / "model.onnx");
    return test::request_for(dir_.path(), "model.onnx", level);
  }
  VerifyRequest encoder(Flaw flaw, VerifyLevel level) {
    test::save(test::toy_encoder(flaw), dir_.path() / "model.onnx");
    return test::request_for(dir_.path(), "model.onnx", level);
  }
  static std::string failure(const VerifyRequest& request) {
    const Error error = test::error_of([&] { test::run_verify(request); });
    EXPECT_EQ(error.code(), ErrorCode::kVerificationFailed) << error.message();
    EXPECT_EQ(error.subject(), "model.onnx");
    return error.message();
  }
  static Error refusal(const VerifyRequest& request) {
    Error error = test::error_of([&] { test::run_verify(request); });
    EXPECT_EQ(error.code(), ErrorCode::kUnsupportedOption) << error.message();
    return error;
  }

  test::TempDir dir_;
};

TEST_F(Levels, DecoderOfOptimumPassesFull) {
  VerifyRequest request =
      test::request_for(test::fixture("").parent_path(), "qwen2.onnx", VerifyLevel::kFull);
  request.vocab_size = 280;
  request.max_positions = 64;
  const VerificationReport report = test::run_verify(request);
  EXPECT_EQ(report.level, "full");
  EXPECT_THAT(report.notes, IsEmpty());
  ASSERT_EQ(report.outputs.size(), 3U);
  EXPECT_EQ(report.outputs[0].output, "logits");
  EXPECT_GT(report.outputs[0].max_abs_diff, 0);  // batched and single runs round differently
  EXPECT_THAT(report.outputs, Each(Field(&OutputCheck::max_abs_diff, Le(1e-4))));
  EXPECT_GT(report.outputs[0].cosine, 0.999999);
  EXPECT_EQ(report.outputs[0].argmax_agreement, 1);
}

TEST_F(Levels, ClassifierOfOptimumPassesFull) {
  VerifyRequest request = test::request_for(
      test::fixture("").parent_path(), "bert-text-classification.onnx", VerifyLevel::kFull);
  request.vocab_size = 260;
  request.max_positions = 64;
  const VerificationReport report = test::run_verify(request);
  EXPECT_THAT(report.outputs, ElementsAre(Field(&OutputCheck::output, "logits")));
  EXPECT_LE(report.outputs[0].max_abs_diff, 1e-5);
}

TEST_F(Levels, ToyModelsPassFull) {
  EXPECT_EQ(test::run_verify(decoder(Flaw::kNone, VerifyLevel::kFull)).level, "full");
  VerifyRequest causal = encoder(Flaw::kNone, VerifyLevel::kFull);
  causal.causal = true;
  EXPECT_EQ(test::run_verify(causal).level, "full");
}

TEST_F(Levels, HalfPrecisionCachePassesWithItsTolerance) {
  VerifyRequest request = decoder(Flaw::kNone, VerifyLevel::kFull, onnx::TensorProto::FLOAT16);
  request.atol = 1e-2;
  EXPECT_EQ(test::run_verify(request).level, "full");
  request.atol = 1e-7;
  request.rtol = 0;
  EXPECT_THAT(failure(request), HasSubstr("differ by"));
}

/// What "… differ by 0.5 at [0, 1], allowed 0.05" allows.
double allowed_by(const std::string& message) {
  const std::string word = "allowed ";
  return std::stod(message.substr(message.find(word) + word.size()));
}

TEST_F(Levels, WeightsInHalfPrecisionHaveAWiderToleranceByDefault) {
  const VerifyRequest request = decoder(Flaw::kForgetsPast, VerifyLevel::kFull);
  EXPECT_LT(allowed_by(failure(request)), 1e-2);

  onnx::ModelProto model = test::toy_decoder(Flaw::kForgetsPast);
  onnx::TensorProto& weight = *model.mutable_graph()->add_initializer();
  weight.set_name("half");
  weight.set_data_type(onnx::TensorProto::FLOAT16);
  weight.set_raw_data(std::string(2, '\0'));
  test::save(model, dir_.path() / "model.onnx");
  EXPECT_GE(allowed_by(failure(request)), 5e-2);
}

TEST_F(Levels, ReportNamesTheLevelThatWasReached) {
  EXPECT_EQ(test::run_verify(decoder(Flaw::kNone, VerifyLevel::kNone)).level, "none");
  EXPECT_EQ(test::run_verify(decoder(Flaw::kNone, VerifyLevel::kStructure)).level, "structure");
  EXPECT_EQ(test::run_verify(decoder(Flaw::kNone, VerifyLevel::kLoad)).level, "load");
  EXPECT_EQ(test::run_verify(decoder(Flaw::kNone, VerifyLevel::kRun)).level, "run");
}

TEST_F(Levels, LoadRefusesWhatTheCheckerCannotSee) {
  onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
  auto& node = *model.mutable_graph()->mutable_node(0);
  node.set_domain("com.example");  // a domain without schemas: nothing for the checker to say
  model.add_opset_import()->set_domain("com.example");
  model.mutable_opset_import(1)->set_version(1);
  test::save(model, dir_.path() / "model.onnx");
  VerifyRequest request = test::request_for(dir_.path(), "model.onnx", VerifyLevel::kStructure);
  EXPECT_NO_THROW(test::run_verify(request));
  request.level = VerifyLevel::kLoad;
  EXPECT_THAT(
      failure(request),
      AllOf(HasSubstr("model.onnx does not load in ONNX Runtime"), HasSubstr("com.example")));
}

TEST_F(Levels, LoadRefusesMixedTypes) {
  onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
  for (auto& tensor : *model.mutable_graph()->mutable_initializer()) {
    if (tensor.name() == "position_table") {
      tensor.set_data_type(onnx::TensorProto::INT32);  // as many bytes, so structurally fine
    }
  }
  test::save(model, dir_.path() / "model.onnx");
  EXPECT_THAT(failure(test::request_for(dir_.path(), "model.onnx", VerifyLevel::kLoad)),
              HasSubstr("does not load"));
}

TEST_F(Levels, CudaWithoutItsProviderNamesThoseThatAreThere) {
  VerifyRequest request = decoder(Flaw::kNone, VerifyLevel::kLoad);
  request.device = Device::kCuda;
  const std::vector<std::string> providers = test::runtime()->providers();
  if (std::ranges::find(providers, "CUDAExecutionProvider") != providers.end()) {
    GTEST_SKIP() << "this runtime has the CUDA provider";
  }
  EXPECT_THAT(refusal(request).message(),
              AllOf(HasSubstr("needs the CUDA provider"), HasSubstr("CPUExecutionProvider")));
}

TEST_F(Levels, RunFindsNan) {
  EXPECT_NO_THROW(test::run_verify(decoder(Flaw::kNanLogits, VerifyLevel::kLoad)));
  EXPECT_THAT(
      failure(decoder(Flaw::kNanLogits, VerifyLevel::kRun)),
      HasSubstr("logits: nan at [0, 0, 0] for batch size 2, sequence length 1, past length 0"));
}

TEST_F(Levels, RunFindsWhatIsNotFiniteUnderPaddingOnly) {
  EXPECT_THAT(failure(decoder(Flaw::kBreaksAtPadding, VerifyLevel::kRun)),
              HasSubstr("logits: nan at [1, 5, 0] for batch size 2, sequence length 7"));
}

TEST_F(Levels, RunHoldsOutputsToTheirDeclaration) {
  // ONNX Runtime only warns about some of these, so load does not find them.
  EXPECT_THAT(failure(decoder(Flaw::kWrongPresentLength, VerifyLevel::kRun)),
              HasSubstr("present.0.key: has shape [2, 1, 4, 2]; declared dimension 2 is "
                        "sequence_length = 1"));
  EXPECT_THAT(failure(decoder(Flaw::kWrongVocab, VerifyLevel::kRun)), HasSubstr("logits"));
  EXPECT_THAT(failure(decoder(Flaw::kWrongRank, VerifyLevel::kRun)), HasSubstr("logits"));
}

TEST_F(Levels, RunRefusesUnknownInputsByName) {
  onnx::ModelProto model = test::toy_encoder(Flaw::kNone);
  auto& input = *model.mutable_graph()->add_input();
  input = model.graph().input(0);
  input.set_name("pixel_values");
  test::save(model, dir_.path() / "model.onnx");
  EXPECT_THAT(refusal(test::request_for(dir_.path(), "model.onnx", VerifyLevel::kRun)).message(),
              HasSubstr("no generator for graph input pixel_values"));
}

TEST_F(Levels, FullFindsDecodingThatForgetsItsPast) {
  EXPECT_NO_THROW(test::run_verify(decoder(Flaw::kForgetsPast, VerifyLevel::kRun)));
  EXPECT_THAT(
      failure(decoder(Flaw::kForgetsPast, VerifyLevel::kFull)),
      AllOf(HasSubstr("logits: prefill and a chunk on a cache differ by"), HasSubstr("allowed")));
}

TEST_F(Levels, FullFindsIgnoredMasks) {
  EXPECT_NO_THROW(test::run_verify(decoder(Flaw::kIgnoresMask, VerifyLevel::kRun)));
  EXPECT_THAT(failure(decoder(Flaw::kIgnoresMask, VerifyLevel::kFull)),
              HasSubstr("logits: a row with left padding and without differ by"));
  EXPECT_NO_THROW(test::run_verify(encoder(Flaw::kIgnoresMask, VerifyLevel::kRun)));
  EXPECT_NO_THROW(test::run_verify(encoder(Flaw::kSeesPadding, VerifyLevel::kRun)));
  EXPECT_THAT(failure(encoder(Flaw::kSeesPadding, VerifyLevel::kFull)),
              HasSubstr("logits: a row with right padding and without differ by"));
  // A bidirectional model that honours its mask.
  EXPECT_NO_THROW(test::run_verify(encoder(Flaw::kSeesFuture, VerifyLevel::kFull)));
}

TEST_F(Levels, FullExpectsNothingUnderPaddingOfModelsThatSeeIt) {
  VerifyRequest request = encoder(Flaw::kSeesPadding, VerifyLevel::kFull);
  request.sees_padding = true;
  EXPECT_THAT(test::run_verify(request).notes,
              ::testing::Contains(HasSubstr("right padding not checked: in this model type")));
}

TEST_F(Levels, FullFindsRowsThatSeeEachOther) {
  EXPECT_THAT(failure(decoder(Flaw::kMixesRows, VerifyLevel::kFull)),
              HasSubstr("logits: a row in a batch and alone differ by"));
  EXPECT_THAT(failure(encoder(Flaw::kMixesRows, VerifyLevel::kFull)),
              HasSubstr("logits: a row in a batch and alone differ by"));
}

TEST_F(Levels, FullFindsLookingAheadInCausalModels) {
  EXPECT_THAT(failure(decoder(Flaw::kSeesFuture, VerifyLevel::kFull)),
              HasSubstr("logits: prefill and"));
  VerifyRequest request = encoder(Flaw::kSeesFuture, VerifyLevel::kFull);
  request.causal = true;
  EXPECT_THAT(failure(request), HasSubstr("logits: a prompt and its prefix differ by"));
}

TEST_F(Levels, GeneratedSequencesStayWithinThePositions) {
  VerifyRequest request = decoder(Flaw::kNone, VerifyLevel::kFull);
  onnx::ModelProto model = test::toy_decoder(Flaw::kNone);
  for (auto& tensor : *model.mutable_graph()->mutable_initializer()) {
    if (tensor.name() == "position_table") {
      tensor.set_dims(0, 4);
      tensor.mutable_raw_data()->resize(8 * sizeof(float));
    }
  }
  test::save(model, dir_.path() / "model.onnx");
  EXPECT_THAT(failure(request), HasSubstr("does not run"));
  request.max_positions = 4;
  EXPECT_NO_THROW(test::run_verify(request));
}

TEST_F(Levels, CancellationEndsVerification) {
  const VerifyRequest request = decoder(Flaw::kNone, VerifyLevel::kFull);
  test::NoObserver observer;
  observer.cancelled = true;
  StageScope scope(Stage::kVerify, observer);
  const Error error = test::error_of([&] { verify(request, test::runtime(), scope); });
  EXPECT_EQ(error.code(), ErrorCode::kCancelled);
}

TEST(Runtime, StatesItsVersionAndProviders) {
  EXPECT_THAT(test::runtime()->version(), HasSubstr("1."));
  EXPECT_THAT(test::runtime()->providers(), ::testing::Contains("CPUExecutionProvider"));
}

TEST(Runtime, MissingLibraryIsNamed) {
  const Error error = test::error_of([] { OnnxRuntime::load("/nowhere/libonnxruntime.so.1"); });
  EXPECT_EQ(error.code(), ErrorCode::kUnsupportedOption);
  EXPECT_THAT(error.message(), HasSubstr("/nowhere/libonnxruntime.so.1"));
}

}  // namespace
}  // namespace onnxferry

#endif
