#pragma once

#include <string_view>

#include "pipeline/graph/self_attention.h"

namespace onnxferry {

/// Multi-head latent attention (DeepSeek-V2, section 2.1): keys and values are projected from one
/// small latent, queries optionally too; a part of every head, shared by all heads of the keys,
/// carries the rotation. The cache holds the full keys and values, as in transformers.
struct LatentAttentionSpec {
  std::int64_t hidden_size = 0;
  std::int64_t num_heads = 0;
  std::int64_t query_rank = 0;  ///< of the queries' latent; 0: none, plain q_proj
  std::int64_t key_value_rank = 0;
  std::int64_t plain_dim = 0;   ///< qk_nope_head_dim: first part of a query's or key's head
  std::int64_t rotary_dim = 0;  ///< qk_rope_head_dim: the rest
  std::int64_t value_dim = 0;
  double scale = 1.0;     ///< of the scores
  Bias bias = Bias::kNo;  ///< of the projections to the latents and of the output
  NormSpec norm;          ///< of the latents
};

/// x [B, S, H] → [B, S, H]; keys and values go through the cache of `inputs`. Opens no scope.
Value latent_attention(GraphBuilder& g,
                       const Value& x,
                       DecoderInputs& inputs,
                       const LatentAttentionSpec& spec,
                       const SelfAttentionPlace& place);

}  // namespace onnxferry
