#pragma once

#include <string_view>

#include "pipeline/graph/builder.h"

namespace onnxferry {

// Heads of encoders: they declare the graph outputs that Optimum gives the task.

/// feature-extraction: last_hidden_state [B, S, hidden_size].
void hidden_state_output(GraphBuilder& g, const Value& hidden_state, std::int64_t hidden_size);

/// token-classification: logits [B, S, num_labels] = linear(hidden state).
void token_classification_head(GraphBuilder& g,
                               const Value& hidden_state,
                               std::string_view key,
                               std::int64_t hidden_size,
                               std::int64_t num_labels);

/// question-answering: start_logits and end_logits [B, S], the two columns of linear(hidden state).
void question_answering_head(GraphBuilder& g,
                             const Value& hidden_state,
                             std::string_view key,
                             std::int64_t hidden_size);

/// The two columns of `scores` [B, S, 2] as these outputs.
void span_outputs(GraphBuilder& g, const Value& scores);

/// text-classification: logits [B, num_labels] = dense(pooled).
void text_classification_head(GraphBuilder& g,
                              const Value& pooled,
                              std::string_view key,
                              std::int64_t hidden_size,
                              std::int64_t num_labels);

/// multiple-choice: logits [B, num_choices] = dense(pooled), one number per choice.
/// \param pooled       [B · num_choices, hidden_size]
/// \param num_choices  [1] int64
void multiple_choice_head(GraphBuilder& g,
                          const Value& pooled,
                          const Value& num_choices,
                          std::string_view key,
                          std::int64_t hidden_size);

/// fill-mask: logits [B, S, vocab_size] over a tied or an own table. `table_key` is the tied
/// table's key without ".weight"; `decoder_key` the own one's; either comes with `bias_key`, unless
/// that is empty.
struct MaskedLmTable {
  std::string_view table_key;
  std::string_view decoder_key;
  std::string_view bias_key;
  bool is_tied = true;
};
void masked_lm_head(GraphBuilder& g,
                    const Value& transformed,
                    const Value& input_ids,
                    const MaskedLmTable& table,
                    std::int64_t hidden_size,
                    std::int64_t vocab_size);

}  // namespace onnxferry
