// RoFormer (Su et al. 2021): BERT with rotary positions in place of learned ones; it is where they
// come from.
//
// Peculiar: sines and cosines are a tensor of the checkpoint, [sines | cosines] per position, and
// neighbouring elements turn together; rotary_value turns the values, too; word embeddings may be
// narrower than the hidden state. Source: transformers/models/roformer/modeling_roformer.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{.vocab_size = 50000, .max_position_embeddings = 1536};

// cos and sin of the sequence's positions, each angle twice: [S, d].
RotaryTables stored_tables(GraphBuilder& g, const BertConfig& config, const Value& input_ids) {
  const auto scope = g.scope("encoder/embed_positions");
  const std::int64_t head_dim = config.hidden_size / config.num_attention_heads;
  const Value table = g.weight(config.prefix + "encoder.embed_positions.weight",
                               {config.max_position_embeddings, head_dim});
  const Value used = g.Slice(table, g.ints({0}), g.Shape(input_ids, 1, 2));
  const auto [sin, cos] = g.Split(used, -1);
  const auto interleave = [&](const Value& even, const Value& odd) {
    const Value pairs = g.Concat({g.Unsqueeze(even, {2}), g.Unsqueeze(odd, {2})}, 2);
    return g.Reshape(pairs, g.ints({-1, head_dim}));
  };
  return {.cos = interleave(cos, cos),
          .signed_sin = interleave(g.Neg(sin), sin),
          .layout = RotaryLayout::kPairs,
          .rotary_dim = head_dim};
}

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const Value embedded = bert_embeddings(g, config, inputs, {.positions = Positions::kNone});
  const Value x = project_embeddings(g, config, embedded);
  const RotaryTables tables = stored_tables(g, config, inputs.input_ids);
  const Value mask = padding_mask(g, inputs.attention_mask);
  const Rotated rotated =
      config.source.boolean("rotary_value", false) ? Rotated::kValuesToo : Rotated::kQueriesAndKeys;
  const EncoderLayerSpec layer = config.layer();
  return bert_layers(g, config, layer, x, [&](const Value& input, const std::string& key) {
    return rotary_attention(g, layer, input, key, mask, tables, rotated);
  });
}

std::vector<BuiltGraph> build_roformer(const BuildContext& context) {
  BertConfig config(context, "roformer", kDefaults);
  config.embedding_size = config.source.dimension("embedding_size", config.hidden_size);
  config.prediction_size = config.embedding_size;
  TextEncoder encoder = with_bert_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
    return encode(g, config, inputs);
  });
  encoder.sequence = classification_head(config.hidden_size, config.activation);
  if (context.task == "multiple-choice") {
    encoder.choice = sequence_summary(config.source, config.hidden_size, {});
  }
  return build_text_encoder(context, encoder);
}

constexpr std::string_view kIgnoredTensors[] = {
    "cls.*", "classifier.*", "qa_outputs.*", "sequence_summary.*"};

// The choice is read from the last position, padded or not (SequenceSummary).
constexpr std::string_view kLastPositionTasks[] = {"multiple-choice"};

}  // namespace

extern const Architecture kRoFormer;
const Architecture kRoFormer{.model_type = "roformer",
                             .tasks = kTextEncoderTasks,
                             .ignored_tensors = kIgnoredTensors,
                             .build = build_roformer,
                             .tasks_that_see_padding = kLastPositionTasks};

}  // namespace onnxferry
