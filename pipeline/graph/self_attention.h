#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "pipeline/graph/attention.h"
#include "pipeline/graph/decoder.h"
#include "pipeline/graph/layers.h"
#include "pipeline/graph/rotary.h"

namespace onnxferry {

/// How a checkpoint stores the projections of queries, keys and values.
enum class QkvForm : std::uint8_t {
  kSeparate,  ///< q_proj, k_proj, v_proj
  kStacked,   ///< one matrix; rows: all query heads, all key heads, all value heads
  kGrouped    ///< one matrix; rows: group by group its query heads, its key head, its value head
};

/// What of queries and keys is normalized before they meet.
enum class QkNorm : std::uint8_t {
  kNone,
  kPerHead,       ///< every head by itself, one weight [head_dim] for all (Qwen3)
  kAllHeads,      ///< the whole projection, before it is split into heads (OLMo 2)
  kOwnPerHead,    ///< every head by itself, a weight [heads, head_dim] (Cohere)
  kModulePerHead  ///< the same, a tensor per head: "<norm>.norms.N.weight" (StableLM)
};

/// The self-attention block of a decoder layer. Tensor names are below the layer's attention
/// module.
struct SelfAttentionSpec {
  std::int64_t hidden_size = 0;
  std::int64_t num_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  double scale = 1.0;    ///< of the scores, usually 1 / √head_dim
  double softcap = 0.0;  ///< scores become softcap · tanh(scores / softcap); 0: none
  double clip = 0.0;     ///< projections, normed if kAllHeads, are cut to [-clip, clip]; 0: none

  QkvForm form = QkvForm::kSeparate;
  std::string_view query_name = "q_proj", key_name = "k_proj", value_name = "v_proj";
  std::string_view qkv_name;  ///< of the one matrix, unless kSeparate
  std::string_view output_name = "o_proj";
  Bias qkv_bias = Bias::kNo;
  Bias output_bias = Bias::kNo;
  Linear linear = onnxferry::linear;

  QkNorm qk_norm = QkNorm::kNone;
  NormSpec qk_norm_spec;
  std::string_view query_norm_name = "q_norm";
  std::string_view key_norm_name = "k_norm";
  enum class NormOrder : std::uint8_t { kBeforeRotary, kAfterRotary };
  NormOrder norm_order = NormOrder::kBeforeRotary;

  /// In which precision a half-precision model computes scores and their softmax.
  enum class Scores : std::uint8_t { kModel, kFloat32 };
  Scores scores = Scores::kModel;

  std::string_view
      sinks_name;  ///< tensor of one more logit per head in every softmax (gpt-oss); may be empty
};

/// Where a block stands.
struct SelfAttentionPlace {
  std::string key;  ///< of the attention module, "model.layers.0.self_attn"
  std::size_t layer = 0;
  const RotaryTables* rotary = nullptr;  ///< null: no rotation
  const Value* mask = nullptr;           ///< additive, [B, 1 or num_heads, S, T]
};

/// Queries [B, n, S, d], keys and values [B, kv, S, d] of the current tokens.
struct QueryKeyValue {
  Value query, key, value;
};
/// The projections of x [B, S, H], split into heads, normalized and clipped, not rotated.
QueryKeyValue project_query_key_value(GraphBuilder& g,
                                      const Value& x,
                                      const SelfAttentionSpec& spec,
                                      const std::string& key);

/// Attention over projected queries, keys and values, to [B, S, H]: rotation, cache, scores and the
/// output projection. Opens no scope.
Value attend(GraphBuilder& g,
             QueryKeyValue qkv,
             DecoderInputs& inputs,
             const SelfAttentionSpec& spec,
             const SelfAttentionPlace& place);

/// x [B, S, H] → [B, S, H]; keys and values go through the cache of `inputs`. Opens no scope.
Value self_attention(GraphBuilder& g,
                     const Value& x,
                     DecoderInputs& inputs,
                     const SelfAttentionSpec& spec,
                     const SelfAttentionPlace& place);

}  // namespace onnxferry
