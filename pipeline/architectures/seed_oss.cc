// Seed-OSS (ByteDance 2025): Llama with biases on q, k and v, and switches of their own for the
// output projection and the feed-forward block. Source:
// transformers/models/seed_oss/modeling_seed_oss.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_seed_oss(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 155136,
                                 .hidden_size = 4096,
                                 .intermediate_size = 27648,
                                 .num_hidden_layers = 64,
                                 .num_attention_heads = 80,
                                 .num_key_value_heads = 8,
                                 .head_dim = 128,
                                 .pad_token_id = 1});
  const auto bias = [&](std::string_view key, bool when_absent) {
    return config.boolean(key, when_absent) ? Bias::kYes : Bias::kNo;
  };
  spec.attention.qkv_bias = bias("attention_bias", true);
  spec.attention.output_bias = bias("attention_out_bias", false);
  spec.mlp.bias = bias("mlp_bias", false);
  config.disregard("residual_dropout");
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kSeedOss;
const Architecture kSeedOss{.model_type = "seed_oss",
                            .tasks = kAllDecoderTasks,
                            .ignored_tensors = kDecoderIgnoredTensors,
                            .build = build_seed_oss};

}  // namespace onnxferry
