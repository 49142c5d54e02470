#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include "pipeline/error.h"
#include "pipeline/stage.h"
#include "pipeline/verify/verify.h"

namespace onnxferry::test {

/// A directory that goes away with the test.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Builds small models node by node.
class ModelMaker {
 public:
  using Dims = std::vector<std::string>;  ///< "2" is a number, anything else a symbol

  ModelMaker();
  ModelMaker& input(const std::string& name, int type, const Dims& dims);
  ModelMaker& output(const std::string& name, int type, const Dims& dims);
  ModelMaker& floats(const std::string& name,
                     const std::vector<std::int64_t>& dims,
                     const std::vector<float>& values);
  ModelMaker& ints(const std::string& name,
                   const std::vector<std::int64_t>& dims,
                   const std::vector<std::int64_t>& values);
  /// `attribute` may name one integer attribute.
  ModelMaker& node(const std::string& op,
                   const std::vector<std::string>& inputs,
                   const std::string& output,
                   const std::string& attribute = {},
                   std::int64_t value = 0);

  onnx::ModelProto model;

 private:
  onnx::GraphProto& graph() { return *model.mutable_graph(); }
};

/// What a toy decoder does wrong.
enum class Flaw {
  kNone,
  kForgetsPast,         ///< attention without the cache
  kIgnoresMask,         ///< padding counts
  kMixesRows,           ///< a row sees the others
  kSeesFuture,          ///< not causal
  kSeesPadding,         ///< not causal and padding counts
  kNanLogits,           ///< 0/0
  kBreaksAtPadding,     ///< division by the mask
  kWrongRank,           ///< logits declared with a dimension too many
  kWrongVocab,          ///< logits declared wider than they are
  kWrongPresentLength,  ///< present declared as long as the tokens
};

/// A toy language model over 16 tokens that has the inputs, outputs and dimension names of a real
/// one: logits = (running sum of masked token and position embeddings) * weights. `cache_type` is
/// the ONNX type of past and present.
onnx::ModelProto toy_decoder(Flaw flaw, int cache_type = onnx::TensorProto::FLOAT);
/// The same without past: input_ids and attention_mask to logits.
onnx::ModelProto toy_encoder(Flaw flaw);

void save(const onnx::ModelProto& model, const std::filesystem::path& path);
onnx::ModelProto load_fixture(const std::string& name);
std::filesystem::path fixture(const std::string& name);

/// A request for one file with the toy's vocabulary; `level` as given.
VerifyRequest request_for(const std::filesystem::path& directory,
                          const std::string& file,
                          VerifyLevel level);

/// The process's ONNX Runtime. Fails the test where it cannot be loaded.
OnnxRuntime* runtime();

class NoObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return cancelled; }
  bool cancelled = false;
};

/// Verify with the process's runtime.
VerificationReport run_verify(const VerifyRequest& request);

/// The Error that a call throws; a failure of the test when it throws none.
Error error_of(const std::function<void()>& call);

}  // namespace onnxferry::test
