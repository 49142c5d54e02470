#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/checkpoint/model_config.h"
#include "pipeline/graph/builder.h"

namespace onnxferry {

enum class PastInputs : std::uint8_t { kNo, kYes };
/// Where positions come from.
enum class PositionInput : std::uint8_t {
  kNo,       ///< no input: they go on behind the past, the same for every row
  kYes,      ///< the input position_ids
  kFromMask  ///< no input: they count each row's real tokens, padding is -1; without a past only
};

/// What the cache of a decoder looks like.
struct CacheShape {
  std::int64_t num_layers = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t value_head_dim = 0;  ///< where values are of another size; 0: head_dim
  /// ORTModelForCausalLM computes the empty past from config.json by a formula of its own, which is
  /// wrong for some configs. Where it is, the past's dims are declared symbolic so that its wrong
  /// empty past is accepted.
  bool matches_ort_model = true;
};

/// The inputs of a decoder-only graph, with the names and axes that Optimum gives them:
/// input_ids, attention_mask [, position_ids] [, past_key_values.N.key, past_key_values.N.value …].
class DecoderInputs {
 public:
  DecoderInputs(GraphBuilder& g,
                const CacheShape& shape,
                PastInputs past,
                PositionInput position_input);

  Value input_ids;        ///< [B, S]
  Value attention_mask;   ///< [B, T]
  Value sequence_length;  ///< [1], S
  Value total_length;     ///< [1], T
  /// [B, S], or [1, S] for PositionInput::kNo. Call inside the scope that should own the nodes.
  Value position_ids();
  /// How many real tokens of its row precede each key, [B, T] int64; 0 for padding.
  Value real_tokens_before();

  /// Append a layer's keys and values [B, kv, S, d] to its past; without a past they are returned
  /// as they are.
  std::pair<Value, Value> extend_cache(std::size_t layer, const Value& key, const Value& value);
  /// Declare present.N.key / present.N.value, after the graph's main output.
  void declare_cache_outputs();

 private:
  GraphBuilder& g_;
  CacheShape shape_;
  std::vector<std::pair<Value, Value>> past_;
  std::vector<std::pair<Value, Value>> present_;
  std::optional<Value> position_ids_;
  PositionInput position_input_;
  std::string total_axis_;
};

/// Which token of a row a sequence is classified by.
enum class ClassifiedToken : std::uint8_t {
  kLastReal,  ///< the last one that is not pad_token_id
  kAtCount    ///< the one at (number of tokens that are not pad_token_id) - 1
};

/// The hidden state of each row's classified token. hidden_state [B, S, H] → [B, H].
/// Source: GenericForSequenceClassification in transformers/modeling_layers.py.
Value last_token(GraphBuilder& g,
                 const Value& hidden_state,
                 const DecoderInputs& inputs,
                 std::int64_t pad_token_id,
                 ClassifiedToken token = ClassifiedToken::kLastReal);

}  // namespace onnxferry
