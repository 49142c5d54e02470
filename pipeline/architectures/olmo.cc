// OLMo (AI2 2024): Llama with layer norms that have no tensors at all, and clipped projections.
// Source: transformers/models/olmo/modeling_olmo.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_olmo(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 50304,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32});
  read_biases(config, spec);
  spec.norm = {.kind = NormKind::kLayerWithoutAffine, .epsilon = 1e-5};
  spec.attention.clip = config.find_number("clip_qkv").value_or(0);
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kOlmo;
const Architecture kOlmo{.model_type = "olmo",
                         .tasks = kGenerationTasks,
                         .ignored_tensors = kDecoderIgnoredTensors,
                         .build = build_olmo};

}  // namespace onnxferry
