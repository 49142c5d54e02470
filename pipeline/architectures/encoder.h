#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/architectures/architecture.h"
#include "pipeline/graph/builder.h"

namespace onnxferry {

/// Graph inputs of a text encoder, each [B, S] int64 (multiple-choice is flattened to it).
struct EncoderInputs {
  Value input_ids, attention_mask;
  std::optional<Value> token_type_ids;  ///< where the model takes them
};

/// What tells one text encoder from another; the tasks around it are the same for all
/// (the Bert/DistilBert/… For… classes of transformers).
struct TextEncoder {
  std::int64_t hidden_size = 0;
  bool has_token_types = false;
  /// Inputs → hidden state [B, S, hidden_size].
  std::function<Value(GraphBuilder&, const EncoderInputs&)> encode;
  /// Hidden state → what the sequence classifier reads, [B, hidden_size].
  std::function<Value(GraphBuilder&, const Value& hidden_state)> pool;
  /// Hidden state and input_ids → the fill-mask output.
  std::function<void(GraphBuilder&, const Value& hidden_state, const Value& input_ids)> masked_lm;
  std::string pool_tensor;            ///< the tensor without which `pool` cannot be built
  std::string_view masked_lm_tensor;  ///< the same for `masked_lm`
};

/// Tasks of text encoders that have all heads, in Optimum's names.
inline constexpr std::string_view kTextEncoderTasks[] = {"feature-extraction",
                                                         "fill-mask",
                                                         "text-classification",
                                                         "token-classification",
                                                         "question-answering",
                                                         "multiple-choice"};

/// model.onnx of `encoder` for the context's task, one of kTextEncoderTasks. The classifying heads
/// are "classifier" and "qa_outputs".
/// \throws Error{kUnsupportedModel} if the checkpoint lacks the task's head
std::vector<BuiltGraph> build_text_encoder(const BuildContext& context, const TextEncoder& encoder);

}  // namespace onnxferry
