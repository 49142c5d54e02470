// Hunyuan 0.5B to 7B, dense (Tencent 2025): Llama with an RMSNorm on every head's query and key
// BEHIND the rotation.
//
// Peculiar: rope type "dynamic" with "alpha" stretches the base by alpha from the first token on;
// the usual dynamic rule takes over beyond max_position_embeddings. Source:
// transformers/models/hunyuan_v1_dense/modeling_hunyuan_v1_dense.py.

#include <cmath>

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_hunyuan_v1_dense(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 290943,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .rms_norm_eps = 1e-5});
  read_biases(config, spec);
  spec.attention.qk_norm = QkNorm::kPerHead;
  spec.attention.query_norm_name = "query_layernorm";
  spec.attention.key_norm_name = "key_layernorm";
  spec.attention.norm_order = SelfAttentionSpec::NormOrder::kAfterRotary;
  RopeConfig& rope = spec.ropes.front();
  const auto scaling = config.find_object("rope_scaling");
  if (scaling && rope.kind == RopeConfig::Kind::kDynamic) {
    if (!scaling->has("alpha")) {
      scaling->refuse("alpha", "Hunyuan's dynamic rope needs it");
    }
    const auto dim = static_cast<double>(rope.rotary_dim);
    const double alpha = scaling->number("alpha");
    rope.frequencies =
        unscaled_rope(rope.theta * std::pow(alpha, dim / (dim - 2)), rope.rotary_dim).frequencies;
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kHunyuanV1Dense;
const Architecture kHunyuanV1Dense{.model_type = "hunyuan_v1_dense",
                                   .tasks = kDecoderTasks,
                                   .ignored_tensors = kDecoderIgnoredTensors,
                                   .build = build_hunyuan_v1_dense};

}  // namespace onnxferry
