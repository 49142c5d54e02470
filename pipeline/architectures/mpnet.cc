// MPNet (Song et al. 2020): BERT's encoder without token types, with RoBERTa's positions and a
// T5-like bias on the relative position, shared by all layers.
//
// Peculiar: the padding id of the positions is 1 whatever pad_token_id says; the bias always uses
// 32 buckets, even if relative_attention_num_buckets makes its table longer; the masked-LM head is
// gelu whatever hidden_act says. Source: transformers/models/mpnet/modeling_mpnet.py.

#include "pipeline/architectures/bert_like.h"
#include "pipeline/graph/relative_position.h"

namespace onnxferry {
namespace {

constexpr std::int64_t kPaddingId = 1;
constexpr std::int64_t kBuckets = 32;
constexpr std::int64_t kMaxDistance = 128;
constexpr BertDefaults kDefaults{.vocab_size = 30527};
constexpr EncoderLayerKeys kLayerKeys{.list = "encoder.layer",
                                      .query = "attention.attn.q",
                                      .key = "attention.attn.k",
                                      .value = "attention.attn.v",
                                      .attention_output = "attention.attn.o",
                                      .attention_norm = "attention.LayerNorm",
                                      .intermediate = "intermediate.dense",
                                      .activation_scope = "intermediate/intermediate_act_fn",
                                      .output = "output.dense",
                                      .output_norm = "output.LayerNorm"};

// Per head and pair of positions: [heads, S, S].
Value position_bias(GraphBuilder& g, const BertConfig& config, const Value& input_ids) {
  const auto scope = g.scope("encoder");
  const std::int64_t rows = config.source.dimension("relative_attention_num_buckets", kBuckets);
  if (rows < kBuckets) {
    config.source.refuse("relative_attention_num_buckets", "transformers needs at least 32");
  }
  const Value table = g.transposed_weight(config.prefix + "encoder.relative_attention_bias.weight",
                                          {rows, config.num_attention_heads});
  const Value buckets = bidirectional_buckets(g, input_ids, kBuckets, kMaxDistance);
  return g.Gather(table, buckets, 1);
}

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value x = bert_embeddings(
      g,
      config,
      inputs,
      {.positions = Positions::kFromIds, .padding_id = kPaddingId, .has_token_types = false});
  const Value bias = position_bias(g, config, inputs.input_ids);
  const Value mask = g.Add(padding_mask(g, inputs.attention_mask), bias);  // [B, heads, S, S]
  EncoderLayerSpec layer = config.layer();
  layer.keys = kLayerKeys;
  return bert_layers(g, config, layer, x, mask);
}

std::vector<BuiltGraph> build_mpnet(const BuildContext& context) {
  const BertConfig config(context, "mpnet", kDefaults);
  return build_text_encoder(
      context, with_roberta_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        return encode(g, config, inputs);
      }));
}

}  // namespace

extern const Architecture kMpnet;
const Architecture kMpnet{.model_type = "mpnet",
                          .tasks = kTextEncoderTasks,
                          .ignored_tensors = kRobertaIgnoredTensors,
                          .build = build_mpnet};

}  // namespace onnxferry
