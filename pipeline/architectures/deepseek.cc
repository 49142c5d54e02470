// What DeepSeek-V2 and DeepSeek-V3 share.

#include "pipeline/architectures/deepseek.h"

#include <cmath>

namespace onnxferry {

void use_latent_attention(const ModelConfig& config, DecoderSpec& spec, double scale_factor) {
  if (spec.attention.num_key_value_heads != spec.attention.num_heads) {
    config.refuse("num_key_value_heads",
                  "latent attention has a key head for every query head; expected "
                  "num_attention_heads");
  }
  LatentAttentionSpec latent;
  latent.hidden_size = spec.hidden_size;
  latent.num_heads = spec.attention.num_heads;
  latent.query_rank = config.nullable_integer("q_lora_rank", 1536).value_or(0);
  latent.key_value_rank = config.dimension("kv_lora_rank", 512);
  latent.plain_dim = config.dimension("qk_nope_head_dim", 128);
  latent.rotary_dim = read_rotary_dim(config);
  latent.value_dim = config.dimension("v_head_dim", 128);
  const std::int64_t head_dim = latent.plain_dim + latent.rotary_dim;
  if (config.integer("qk_head_dim", head_dim) != head_dim) {
    config.refuse("qk_head_dim", "expected the sum of qk_nope_head_dim and qk_rope_head_dim");
  }
  latent.scale = scale_factor / std::sqrt(static_cast<double>(head_dim));
  latent.bias = config.boolean("attention_bias", false) ? Bias::kYes : Bias::kNo;
  latent.norm.epsilon = 1e-6;  // the norms' own default: rms_norm_eps is not handed to them
  spec.attend =
      [latent](
          GraphBuilder& g, const Value& x, DecoderInputs& inputs, const SelfAttentionPlace& place) {
        return latent_attention(g, x, inputs, latent, place);
      };
  spec.cache_heads = latent.num_heads;
  spec.cache_key_dim = head_dim;
  spec.cache_value_dim = latent.value_dim;
}

std::int64_t read_rotary_dim(const ModelConfig& config) {
  const std::int64_t size = config.dimension("qk_rope_head_dim", 64);
  if (config.dimension("head_dim", size) != size) {
    config.refuse("head_dim", "expected qk_rope_head_dim, which is what it means in this type");
  }
  return size;
}

void refuse_float8(const ModelConfig& config) {
  if (config.has("quantization_config")) {
    config.refuse("quantization_config",
                  "float8 blocks with scales are not read; export a checkpoint in bfloat16");
  }
}

}  // namespace onnxferry
