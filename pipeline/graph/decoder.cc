#include "pipeline/graph/decoder.h"

#include <limits>

#include <fmt/format.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

std::int64_t value_size(const CacheShape& shape) {
  return shape.value_head_dim > 0 ? shape.value_head_dim : shape.head_dim;
}

}  // namespace

DecoderInputs::DecoderInputs(GraphBuilder& g,
                             const CacheShape& shape,
                             PastInputs past,
                             PositionInput position_input)
    : g_(g), shape_(shape), position_input_(position_input) {
  const bool has_past = past == PastInputs::kYes;
  total_axis_ = has_past ? "past_sequence_length + sequence_length" : "sequence_length";
  input_ids = g.input("input_ids", Dtype::kInt64, {"batch_size", "sequence_length"});
  attention_mask = g.input("attention_mask", Dtype::kInt64, {"batch_size", total_axis_});
  if (position_input == PositionInput::kYes) {
    position_ids_ = g.input("position_ids", Dtype::kInt64, {"batch_size", "sequence_length"});
  }
  if (has_past) {
    const Dim heads =
        shape.matches_ort_model ? Dim(shape.num_key_value_heads) : Dim("num_key_value_heads");
    const auto dims = [&](std::int64_t size) {
      const Dim symbol = size == shape.head_dim ? "head_dim" : "value_head_dim";
      return Dims{"batch_size",
                  heads,
                  "past_sequence_length",
                  shape.matches_ort_model ? Dim(size) : symbol};
    };
    for (std::int64_t layer = 0; layer < shape.num_layers; ++layer) {
      Value key = g.input(
          fmt::format("past_key_values.{}.key", layer), Dtype::kFloat32, dims(shape.head_dim));
      Value value = g.input(
          fmt::format("past_key_values.{}.value", layer), Dtype::kFloat32, dims(value_size(shape)));
      past_.emplace_back(std::move(key), std::move(value));
    }
  }
  sequence_length = g.Shape(input_ids, 1, 2);
  total_length = has_past ? g.Shape(attention_mask, 1, 2) : sequence_length;
}

Value DecoderInputs::real_tokens_before() {
  const Value count = g_.Sub(g_.CumSum(attention_mask, 1), g_.int_scalar(1));
  return g_.Mul(count, attention_mask);
}

Value DecoderInputs::position_ids() {
  if (!position_ids_ && position_input_ == PositionInput::kFromMask) {
    EXPORT_CHECK(past_.empty(), "positions from the mask know no past");
    const Value count = g_.Mul(g_.CumSum(attention_mask, 1), attention_mask);
    position_ids_ = g_.Sub(count, g_.int_scalar(1));
  }
  if (!position_ids_) {
    const Value total = g_.Squeeze(total_length);
    const Value first =
        past_.empty() ? g_.int_scalar(0) : g_.Sub(total, g_.Squeeze(sequence_length));
    const Value range = g_.Range(first, total, g_.int_scalar(1));
    position_ids_ = g_.Unsqueeze(range, {0});
  }
  return *position_ids_;
}

std::pair<Value, Value> DecoderInputs::extend_cache(std::size_t layer,
                                                    const Value& key,
                                                    const Value& value) {
  if (past_.empty()) {
    return {key, value};
  }
  const auto& [past_key, past_value] = past_.at(layer);
  present_.emplace_back(g_.Concat({past_key, key}, 2), g_.Concat({past_value, value}, 2));
  return present_.back();
}

void DecoderInputs::declare_cache_outputs() {
  const auto dims = [&](std::int64_t size) {
    return Dims{"batch_size", shape_.num_key_value_heads, total_axis_, size};
  };
  for (std::size_t layer = 0; layer < present_.size(); ++layer) {
    g_.output(fmt::format("present.{}.key", layer), present_[layer].first, dims(shape_.head_dim));
    g_.output(
        fmt::format("present.{}.value", layer), present_[layer].second, dims(value_size(shape_)));
  }
}

Value last_token(GraphBuilder& g,
                 const Value& hidden_state,
                 const DecoderInputs& inputs,
                 std::int64_t pad_token_id,
                 ClassifiedToken token) {
  const Value is_real =
      g.Cast(g.Not(g.Equal(inputs.input_ids, g.int_scalar(pad_token_id))), Dtype::kInt64);
  if (token == ClassifiedToken::kAtCount) {
    // The running count's last entry; ReduceMean is for floats and ReduceSum differs by opset.
    constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();
    const Value counts = g.Transpose(g.CumSum(is_real, 1), {1, 0});
    const Value count = g.Slice(counts, g.ints({-1}), g.ints({kEnd}));  // [1, B]
    return g.GatherND(hidden_state, g.Sub(g.Transpose(count, {1, 0}), g.int_scalar(1)), 1);
  }
  const Value positions =
      g.Range(g.int_scalar(0), g.Squeeze(inputs.sequence_length), g.int_scalar(1));
  const Value last = g.ArgMax(g.Mul(is_real, positions), -1);  // [B, 1]
  return g.GatherND(hidden_state, last, 1);
}

}  // namespace onnxferry
