#include "pipeline/graph/heads.h"

#include <string>

#include "pipeline/graph/layers.h"

namespace onnxferry {

void hidden_state_output(GraphBuilder& g, const Value& hidden_state, std::int64_t hidden_size) {
  g.output("last_hidden_state", hidden_state, {"batch_size", "sequence_length", hidden_size});
}

void token_classification_head(GraphBuilder& g,
                               const Value& hidden_state,
                               std::string_view key,
                               std::int64_t hidden_size,
                               std::int64_t num_labels) {
  const auto scope = g.scope(key);
  const Value logits = linear(g, hidden_state, key, hidden_size, num_labels, Bias::kYes);
  g.output("logits", logits, {"batch_size", "sequence_length", num_labels});
}

void question_answering_head(GraphBuilder& g,
                             const Value& hidden_state,
                             std::string_view key,
                             std::int64_t hidden_size) {
  const auto scope = g.scope(key);
  span_outputs(g, linear(g, hidden_state, key, hidden_size, 2, Bias::kYes));
}

void span_outputs(GraphBuilder& g, const Value& scores) {
  const auto [start, end] = g.Split(scores, -1);
  const Value last_axis = g.ints({-1});
  g.output("start_logits", g.Squeeze(start, &last_axis), {"batch_size", "sequence_length"});
  g.output("end_logits", g.Squeeze(end, &last_axis), {"batch_size", "sequence_length"});
}

void text_classification_head(GraphBuilder& g,
                              const Value& pooled,
                              std::string_view key,
                              std::int64_t hidden_size,
                              std::int64_t num_labels) {
  const auto scope = g.scope(key);
  const Value logits = dense(g, pooled, key, hidden_size, num_labels, Bias::kYes);
  g.output("logits", logits, {"batch_size", num_labels});
}

void multiple_choice_head(GraphBuilder& g,
                          const Value& pooled,
                          const Value& num_choices,
                          std::string_view key,
                          std::int64_t hidden_size) {
  const auto scope = g.scope(key);
  const Value scores = dense(g, pooled, key, hidden_size, 1, Bias::kYes);
  const Value logits = g.Reshape(scores, g.Concat({g.ints({-1}), num_choices}, 0));
  g.output("logits", logits, {"batch_size", "num_choices"});
}

void masked_lm_head(GraphBuilder& g,
                    const Value& transformed,
                    const Value& input_ids,
                    const MaskedLmTable& table,
                    std::int64_t hidden_size,
                    std::int64_t vocab_size) {
  const auto logits = [&] {
    if (table.is_tied) {
      return tied_head(g,
                       transformed,
                       input_ids,
                       {.key = table.table_key,
                        .rows = vocab_size,
                        .size = hidden_size,
                        .bias_key = table.bias_key});
    }
    const std::string weight = std::string(table.decoder_key) + ".weight";
    const Value product =
        g.MatMul(transformed, g.transposed_weight(weight, {vocab_size, hidden_size}));
    return table.bias_key.empty() ? product
                                  : g.Add(product, g.weight(table.bias_key, {vocab_size}));
  }();
  g.output("logits", logits, {"batch_size", "sequence_length", vocab_size});
}

}  // namespace onnxferry
