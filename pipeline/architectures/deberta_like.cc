#include "pipeline/architectures/deberta_like.h"

#include <algorithm>

namespace onnxferry {
namespace {

constexpr MaskedLmKeys kMaskedLmKeys{.dense = "lm_predictions.lm_head.dense",
                                     .norm = "lm_predictions.lm_head.LayerNorm",
                                     .transform_scope = "lm_predictions/lm_head",
                                     .bias = "lm_predictions.lm_head.bias",
                                     .decoder_scope = "lm_predictions/lm_head"};

// activation(dense(first token)); the tensors are outside the base model. Source: ContextPooler.
Pooling context_pooler(const DebertaConfig& config) {
  const std::int64_t size = config.source.dimension("pooler_hidden_size", config.hidden_size);
  if (size != config.hidden_size) {
    config.source.refuse("pooler_hidden_size", "the pooler reads the hidden state as it is");
  }
  return first_token_pooling("pooler.dense",
                             "pooler",
                             config.hidden_size,
                             read_activation(config.source, "pooler_hidden_act", "gelu"));
}

}  // namespace

DebertaConfig::DebertaConfig(const BuildContext& context, const BertDefaults& defaults)
    : BertConfig(context, "deberta", defaults),
      position_biased_input(source.boolean("position_biased_input", true)),
      relative_attention(source.boolean("relative_attention", false)),
      max_relative_positions(source.integer("max_relative_positions", -1)),
      pos_att_type(source.words("pos_att_type")),
      legacy(source.boolean("legacy", true)) {
  embedding_size = source.dimension("embedding_size", hidden_size);
  prediction_size = legacy ? embedding_size : hidden_size;
  if (!legacy) {
    ties_word_embeddings = true;  // that head multiplies with them whatever the config says
  }
  if (max_relative_positions < 1) {
    max_relative_positions = max_position_embeddings;
  }
  if (type_vocab_size < 0) {
    source.refuse("type_vocab_size", "expected a size, or 0 for no token types");
  }
}

bool DebertaConfig::attends(std::string_view type) const {
  return has_word(pos_att_type, type);
}

bool has_word(const std::vector<std::string>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

Value token_mask(GraphBuilder& g, const EncoderInputs& inputs) {
  return g.Unsqueeze(g.Cast(inputs.attention_mask, Dtype::kFloat32), {2});
}

Value deberta_embeddings(GraphBuilder& g,
                         const DebertaConfig& config,
                         const EncoderInputs& inputs,
                         const Value& mask) {
  const auto scope = g.scope("embeddings");
  const std::string key = config.prefix + "embeddings";
  Value x = embedding_sum(
      g,
      config,
      inputs,
      {.positions = config.position_biased_input ? Positions::kAbsolute : Positions::kNone,
       .has_token_types = config.type_vocab_size > 0});
  if (config.embedding_size != config.hidden_size) {
    const auto inner = g.scope("embed_proj");
    x = linear(g, x, key + ".embed_proj", config.embedding_size, config.hidden_size, Bias::kNo);
  }
  x = layer_norm(g, x, key + ".LayerNorm", config.hidden_size, config.layer_norm_eps);
  return g.Mul(x, mask);
}

Value split_for_scores(GraphBuilder& g,
                       const DebertaConfig& config,
                       const Value& x,
                       SplitOrder order) {
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t head_dim = config.hidden_size / heads;
  if (order == SplitOrder::kTokens) {
    return split_heads(g, x, heads, head_dim);
  }
  // With rank 3 and the permutation 1, 2, 0, ONNX Runtime 1.31 fuses the Transpose of a float16
  // model into a FusedMatMul that it cannot run, and crashes.
  return g.Transpose(g.Reshape(x, g.ints({1, -1, heads, head_dim})), {0, 2, 3, 1});
}

std::vector<BuiltGraph> build_deberta_like(
    const BuildContext& context,
    const DebertaConfig& config,
    const std::function<Value(GraphBuilder&, const EncoderInputs&)>& encode) {
  const Pooling pooling = context_pooler(config);
  TextEncoder encoder{.hidden_size = config.hidden_size,
                      .has_token_types = config.type_vocab_size > 0,
                      .encode = encode,
                      .sequence = pooling,
                      .choice = pooling};
  set_masked_lm(
      encoder, config, config.legacy ? kBertMaskedLmKeys : kMaskedLmKeys, config.activation);
  return build_text_encoder(context, encoder);
}

}  // namespace onnxferry
