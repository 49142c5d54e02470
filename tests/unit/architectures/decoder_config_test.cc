// What the fixtures of Llama's family do not reach.

#include <fmt/format.h>
#include <onnx/onnx_pb.h>

#include "pipeline/architectures/registry.h"
#include "tests/support/fixture.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;

/// Keys that transformers saves as a matter of course and does not read are no reason to warn.
TEST(DecoderConfig, UsualConfigsGiveNoWarning) {
  for (const auto* const fixture :
       {"llama", "mistral", "qwen2", "qwen3-tied", "phi3", "phi3-longrope", "gemma", "gemma2"}) {
    SCOPED_TRACE(fixture);
    const ModelConfig config = ModelConfig::load(checkpoint_dir(fixture));
    const WeightFiles tensors = WeightFiles::open(checkpoint_dir(fixture));
    find_architecture(config).build({config, tensors, "text-generation"});
    EXPECT_THAT(check_config_consumed(config), ::testing::IsEmpty());
  }
}

}  // namespace
}  // namespace onnxferry
