#pragma once

#include "pipeline/architectures/decoder.h"
#include "pipeline/graph/latent_attention.h"

namespace onnxferry {

/// Give `spec` the latent attention of DeepSeek-V2 and V3 (q_lora_rank, kv_lora_rank,
/// qk_nope_head_dim, qk_rope_head_dim, v_head_dim, attention_bias) and the cache that goes with it.
/// `scale_factor` multiplies 1 / √(head size).
/// \throws Error{kUnsupportedModel}
void use_latent_attention(const ModelConfig& config, DecoderSpec& spec, double scale_factor);

/// qk_rope_head_dim, which is also the head_dim of these types' rope.
std::int64_t read_rotary_dim(const ModelConfig& config);

/// Checkpoints in block-wise float8 have one more tensor of scales per weight.
void refuse_float8(const ModelConfig& config);

}  // namespace onnxferry
