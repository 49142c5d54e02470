#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "pipeline/checkpoint/model_config.h"
#include "pipeline/graph/builder.h"

namespace onnxferry {

/// Rotary position embedding as a config describes it. `frequencies` are transformers' `inv_freq`
/// [rotary_dim / 2]; long_frequencies replace them once a sequence is longer than
/// `original_length`.
struct RopeConfig {
  enum class Kind : std::uint8_t { kStatic, kDynamic, kLongRope };
  Kind kind = Kind::kStatic;
  std::int64_t rotary_dim = 0;
  std::vector<float> frequencies;
  std::vector<float> long_frequencies;  ///< kLongRope
  std::int64_t original_length = 0;     ///< kDynamic, kLongRope
  double theta = 10000.0;               ///< kDynamic
  double factor = 1.0;                  ///< kDynamic
  double attention_factor = 1.0;        ///< multiplies cos and sin
};

/// Read rope_theta (under the name that the type gives it) and rope_scaling (transformers 4) or
/// rope_parameters (transformers 5). Types: default, linear, dynamic, yarn, longrope, llama3.
/// \throws Error{kUnsupportedModel} for an unknown rope type or parameter
/// Source: ROPE_INIT_FUNCTIONS in transformers/modeling_rope_utils.py.
RopeConfig read_rope(const ModelConfig& config,
                     std::int64_t head_dim,
                     double default_theta,
                     std::string_view theta_key = "rope_theta");

/// A rope of type "default".
RopeConfig unscaled_rope(double theta, std::int64_t rotary_dim);

/// Which elements turn together: i and i + rotary_dim / 2 (Llama), or 2i and 2i + 1 (GPT-J).
enum class RotaryLayout : std::uint8_t {
  kHalves,
  kPairs,
  kPairsToHalves  ///< 2i and 2i + 1, which come out as i and i + rotary_dim / 2 (DeepSeek-V3)
};

/// cos and sin for all positions of a graph, computed once.
struct RotaryTables {
  Value cos;         ///< [B or 1, 1, S, rotary_dim], every angle twice
  Value signed_sin;  ///< the same shape; negated for the first element of each pair
  RotaryLayout layout = RotaryLayout::kHalves;
  std::int64_t rotary_dim = 0;
};

/// \param position_ids  [B or 1, S] int64
RotaryTables rotary_tables(GraphBuilder& g,
                           const RopeConfig& rope,
                           const Value& position_ids,
                           RotaryLayout layout = RotaryLayout::kHalves);

/// x [B, n, S, head_dim] → the same shape, the first rotary_dim elements of each head rotated:
/// x * cos + partner(x) * signed_sin.
Value rotate(GraphBuilder& g, const Value& x, std::int64_t head_dim, const RotaryTables& tables);

}  // namespace onnxferry
