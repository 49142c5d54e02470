#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/architectures/architecture.h"
#include "pipeline/graph/builder.h"
#include "pipeline/graph/layers.h"

namespace onnxferry {

/// A graph input of one model type, int64 [B, S] or, with an axis, [B, S, axis].
struct FurtherInput {
  std::string name;
  std::string axis = {};  ///< name of a third dimension; empty: there is none
};

/// Graph inputs of a text encoder, int64 [B, S] (multiple-choice is flattened to it).
struct EncoderInputs {
  Value input_ids, attention_mask;
  std::optional<Value> token_type_ids;  ///< where the model takes them
  std::vector<Value> further;           ///< TextEncoder's; empty in sentence-similarity
};

/// What a class computes between its encoder and the linear layer that gives the scores of a whole
/// sequence.
struct Pooling {
  /// Hidden state → what the classifier reads, [B, hidden_size].
  std::function<Value(GraphBuilder&, const Value& hidden_state, const EncoderInputs&)> build;
  std::string tensor;                     ///< without which `build` cannot work; empty: needs none
  std::string classifier = "classifier";  ///< key of the linear layer
  std::int64_t size = 0;                  ///< of what `build` gives; 0: hidden_size
};

/// activation(dense(first token)), the most common pooling; reads `<key>.weight` and `<key>.bias`.
Pooling first_token_pooling(std::string key,
                            std::string scope,
                            std::int64_t hidden_size,
                            Activation activation);

/// RoBERTa's sentence classifier and its like: classifier.dense, an activation,
/// classifier.out_proj.
Pooling classification_head(std::int64_t hidden_size, Activation activation);

/// The mean of each row's real tokens: hidden_state [B, S, H], attention_mask [B, S] → [B, H].
Value mean_of_tokens(GraphBuilder& g, const Value& hidden_state, const Value& attention_mask);

/// What a SequenceSummary does when the config does not say.
struct SummaryDefaults {
  std::string_view type = "last";
  bool use_projection = false;
  std::string_view activation;  ///< empty: none
};

/// The SequenceSummary of the XLM family, as config.json's summary_… keys describe it: the first or
/// last token, projected and activated.
/// \throws Error{kUnsupportedModel} for a summary of another kind
Pooling sequence_summary(const ModelConfig& config,
                         std::int64_t hidden_size,
                         const SummaryDefaults& defaults);

/// What tells one text encoder from another; the tasks around it are the same for all
/// (the Bert/DistilBert/… For… classes of transformers).
struct TextEncoder {
  std::int64_t hidden_size = 0;
  bool has_token_types = false;
  std::vector<FurtherInput> further_inputs;  ///< without an axis if it has multiple-choice
  /// Inputs → hidden state [B, S, hidden_size].
  std::function<Value(GraphBuilder&, const EncoderInputs&)> encode;
  Pooling sequence;  ///< text-classification
  Pooling choice;    ///< multiple-choice
  /// Applied to the hidden state before the token and span classifiers; may be null.
  std::function<Value(GraphBuilder&, const Value& hidden_state)> token_transform;
  std::string span_classifier = "qa_outputs";  ///< question-answering's linear layer
  /// question-answering where it is more than that layer: declares the outputs; may be null.
  std::function<void(GraphBuilder&, const Value& hidden_state, const EncoderInputs&)> spans;
  /// Hidden state and input_ids → the fill-mask output.
  std::function<void(GraphBuilder&, const Value& hidden_state, const Value& input_ids)> masked_lm;
  std::string masked_lm_tensor;  ///< the tensor without which `masked_lm` cannot be built
};

/// Tasks of text encoders that have all heads, in Optimum's names.
inline constexpr std::string_view kTextEncoderTasks[] = {"feature-extraction",
                                                         "fill-mask",
                                                         "text-classification",
                                                         "token-classification",
                                                         "question-answering",
                                                         "multiple-choice",
                                                         "sentence-similarity"};

/// model.onnx of `encoder` for the context's task, one of kTextEncoderTasks. The token classifier
/// is "classifier".
/// \throws Error{kUnsupportedModel} if the checkpoint lacks the task's head
std::vector<BuiltGraph> build_text_encoder(const BuildContext& context, const TextEncoder& encoder);

}  // namespace onnxferry
