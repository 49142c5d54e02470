#pragma once

#include <string>
#include <string_view>

#include "pipeline/architectures/encoder.h"
#include "pipeline/graph/encoder_layer.h"

namespace onnxferry {

/// What transformers takes when config.json lacks a key; here BertConfig's.
struct BertDefaults {
  std::int64_t vocab_size = 30522;
  std::int64_t hidden_size = 768;
  std::int64_t num_hidden_layers = 12;
  std::int64_t num_attention_heads = 12;
  std::int64_t intermediate_size = 3072;
  std::int64_t max_position_embeddings = 512;
  std::int64_t type_vocab_size = 2;
  double layer_norm_eps = 1e-12;
  std::string_view hidden_act = "gelu";
  std::string_view position_embedding_type = "absolute";  ///< the only one that is implemented
};

/// What config.json calls the sizes; here BERT's names.
struct BertKeyNames {
  std::string_view hidden_size = "hidden_size";
  std::string_view num_hidden_layers = "num_hidden_layers";
  std::string_view num_attention_heads = "num_attention_heads";
  std::string_view intermediate_size = "intermediate_size";
  std::string_view activation = "hidden_act";
};

/// The keys of config.json that BERT and its relatives share. Fields may be changed after reading,
/// where a class fixes a value.
struct BertConfig {
  const ModelConfig& source;
  std::string scope;   ///< of the base model's nodes: "bert"
  std::string prefix;  ///< of its tensors: "bert.", or "" if it was saved alone
  std::int64_t vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size;
  std::int64_t max_position_embeddings, type_vocab_size, embedding_size;
  std::int64_t prediction_size;  ///< of the masked-LM head's hidden state, embedding_size
  double layer_norm_eps;
  Activation activation;
  bool ties_word_embeddings;  ///< the masked-LM head shares their table
  bool has_masked_lm;         ///< the task's graph has that head

  /// \param base  the base model's attribute in the For… classes ("bert")
  /// \throws Error{kUnsupportedModel} for a decoder, for other positions than `defaults` names, and
  /// for sizes that do not fit
  BertConfig(const BuildContext& context,
             std::string_view base,
             const BertDefaults& defaults = {},
             const BertKeyNames& names = {});

  [[nodiscard]] EncoderLayerSpec layer() const;
  /// The embedding gathers columns of the table as the masked-LM head multiplies with it, [H, V].
  /// Only where a projection follows the embeddings: before that ONNX Runtime's embedding fusion
  /// finds nothing, whose Gather must be on the first axis.
  [[nodiscard]] bool shares_columns() const;
};

/// Where the position embeddings' rows come from.
enum class Positions : std::uint8_t {
  kNone,
  kAbsolute,  ///< 0, 1, 2, …
  kFromIds    ///< RoBERTa: padding_id + the count of tokens that are not padding
};

/// What BERT's relatives changed about its embeddings.
struct BertEmbeddings {
  Positions positions = Positions::kAbsolute;
  std::int64_t first_position = 0;  ///< kAbsolute: rows of the table before that are not used
  std::int64_t padding_id = 0;      ///< kFromIds
  bool has_token_types = true;      ///< without a graph input for them all types are 0
  bool has_norm = true;
  std::string_view
      constant_table;              ///< one more table whose row 0 is added everywhere; may be empty
  std::int64_t constant_rows = 0;  ///< of that table
  /// Applied to the words before anything is added; may be null.
  std::function<Value(GraphBuilder&, const Value& words)> scale_words;
};

/// Words + token types + positions, [B, S, embedding_size]. Opens no scope.
Value embedding_sum(GraphBuilder& g,
                    const BertConfig& config,
                    const EncoderInputs& inputs,
                    const BertEmbeddings& embeddings);

/// LayerNorm of that sum, if there is one.
Value bert_embeddings(GraphBuilder& g,
                      const BertConfig& config,
                      const EncoderInputs& inputs,
                      const BertEmbeddings& embeddings);

/// embeddings_project: embedding_size → hidden_size, where they differ.
Value project_embeddings(GraphBuilder& g, const BertConfig& config, const Value& x);

/// A layer's input and checkpoint key → its attention's result before the output projection.
using AttentionOfLayer = std::function<Value(const Value& x, const std::string& key)>;
/// All layers, with that attention.
Value bert_layers(GraphBuilder& g,
                  const BertConfig& config,
                  const EncoderLayerSpec& layer,
                  const Value& x,
                  const AttentionOfLayer& attention);
/// All layers, with plain attention under `mask`.
Value bert_layers(GraphBuilder& g,
                  const BertConfig& config,
                  const EncoderLayerSpec& layer,
                  const Value& x,
                  const Value& mask);

/// model.onnx of a type whose graph is RoBERTa's: positions from ids, BERT's layers, RoBERTa's
/// heads.
std::vector<BuiltGraph> build_roberta_like(const BuildContext& context, const BertConfig& config);

/// tanh(pooler.dense(first token)) below the base model.
Pooling bert_pooling(const BertConfig& config);

/// Tensor names and node scopes of a masked-LM head: norm(activation(dense(x))) times a table.
struct MaskedLmKeys {
  std::string_view dense, norm;
  std::string_view transform_scope;
  std::string_view decoder;  ///< own table, where it is not tied to the word embeddings
  std::string_view bias;
  std::string_view decoder_scope;
};

inline constexpr MaskedLmKeys kBertMaskedLmKeys{.dense = "cls.predictions.transform.dense",
                                                .norm = "cls.predictions.transform.LayerNorm",
                                                .transform_scope = "cls/predictions/transform",
                                                .decoder = "cls.predictions.decoder",
                                                .bias = "cls.predictions.bias",
                                                .decoder_scope = "cls/predictions"};
inline constexpr MaskedLmKeys kRobertaMaskedLmKeys{.dense = "lm_head.dense",
                                                   .norm = "lm_head.layer_norm",
                                                   .transform_scope = "lm_head",
                                                   .decoder = "lm_head.decoder",
                                                   .bias = "lm_head.bias",
                                                   .decoder_scope = "lm_head"};

/// The generator's head of ELECTRA.
inline constexpr MaskedLmKeys kElectraMaskedLmKeys{.dense = "generator_predictions.dense",
                                                   .norm = "generator_predictions.LayerNorm",
                                                   .transform_scope = "generator_predictions",
                                                   .decoder = "generator_lm_head",
                                                   .bias = "generator_lm_head.bias",
                                                   .decoder_scope = "generator_lm_head"};

/// Adds such a head to `encoder`. `activation` is the transform's.
/// \param config  must outlive `encoder`
void set_masked_lm(TextEncoder& encoder,
                   const BertConfig& config,
                   const MaskedLmKeys& keys,
                   Activation activation);

/// Inputs → hidden state.
using Encode = std::function<Value(GraphBuilder&, const EncoderInputs&)>;

/// `encode` with the heads of BERT's classes, and token types among the inputs.
/// \param config  must outlive the result
TextEncoder with_bert_heads(const BertConfig& config, Encode encode);
/// `encode` with the heads of RoBERTa's classes: classifier.dense and .out_proj, lm_head.
TextEncoder with_roberta_heads(const BertConfig& config, Encode encode);

/// Tensors that may be left over: heads of other tasks, buffers of old versions, and the tied
/// copies of the masked-LM decoder.
inline constexpr std::string_view kBertIgnoredTensors[] = {"*pooler.*",
                                                           "cls.*",
                                                           "classifier.*",
                                                           "qa_outputs.*",
                                                           "*embeddings.position_ids",
                                                           "*embeddings.token_type_ids"};
inline constexpr std::string_view kElectraIgnoredTensors[] = {"generator_predictions.*",
                                                              "generator_lm_head.*",
                                                              "discriminator_predictions.*",
                                                              "sequence_summary.*",
                                                              "classifier.*",
                                                              "qa_outputs.*",
                                                              "*embeddings.position_ids"};
inline constexpr std::string_view kRobertaIgnoredTensors[] = {"*pooler.*",
                                                              "lm_head.*",
                                                              "classifier.*",
                                                              "qa_outputs.*",
                                                              "*embeddings.position_ids",
                                                              "*embeddings.token_type_ids"};

}  // namespace onnxferry
