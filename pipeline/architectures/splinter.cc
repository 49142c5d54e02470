// Splinter (Ram et al. 2021): BERT whose question-answering head compares every token with the
// question token (the first question_token_id of the row, else the first token), for start and end.
//
// Peculiar: the head's norms have torch's epsilon and its activation is gelu, whatever the config
// says; padded positions score the lowest number. Source:
// transformers/models/splinter/modeling_splinter.py.

#include <fmt/format.h>

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr double kHeadEpsilon = 1e-5;

// norm(gelu(dense(x)))
Value transform(GraphBuilder& g, const BertConfig& config, const Value& x, std::string_view name) {
  const auto scope = g.scope(name);
  const std::string key = fmt::format("splinter_qass.{}", name);
  const std::int64_t size = config.hidden_size;
  const Value y = gelu(g, linear(g, x, key + ".dense", size, size, Bias::kYes));
  return layer_norm(g, y, key + ".LayerNorm", size, kHeadEpsilon);
}

// How well each token of x [B, S, H] is the `side` of an answer to `question` [B, 1, H]: [B, S].
Value scores(GraphBuilder& g,
             const BertConfig& config,
             const Value& x,
             const Value& question,
             std::string_view side) {
  const std::int64_t size = config.hidden_size;
  const Value query = transform(g, config, question, fmt::format("query_{}_transform", side));
  const Value keys = transform(g, config, x, fmt::format("{}_transform", side));
  const std::string name = fmt::format("{}_classifier", side);
  const auto scope = g.scope(name);
  const Value wanted =
      linear(g, query, fmt::format("splinter_qass.{}", name), size, size, Bias::kNo);
  const Value middle = g.ints({1});
  return g.Squeeze(g.MatMul(wanted, g.Transpose(keys, {0, 2, 1})), &middle);
}

void spans(GraphBuilder& g, const BertConfig& config, const Value& x, const EncoderInputs& inputs) {
  const auto scope = g.scope("splinter_qass");
  const std::int64_t token = config.source.integer("question_token_id", 104);
  const Value is_question = g.Equal(inputs.input_ids, g.int_scalar(token));
  const Value position = g.ArgMax(g.Cast(is_question, Dtype::kFloat32), 1);  // [B, 1]
  const Value question = g.Unsqueeze(g.GatherND(x, position, 1), {1});       // [B, 1, H]
  const Value real = g.Cast(inputs.attention_mask, Dtype::kFloat32);
  const Value hidden = g.Mul(g.Sub(g.float_scalar(1.0F), real), g.lowest());
  for (const std::string_view side : {"start", "end"}) {
    const Value logits = g.Add(scores(g, config, x, question, side), hidden);
    g.output(fmt::format("{}_logits", side), logits, {"batch_size", "sequence_length"});
  }
}

std::vector<BuiltGraph> build_splinter(const BuildContext& context) {
  const BertConfig config(context, "splinter");
  return build_text_encoder(context,
                            {.hidden_size = config.hidden_size,
                             .has_token_types = true,
                             .encode =
                                 [&](GraphBuilder& g, const EncoderInputs& inputs) {
                                   const auto scope = g.scope(config.scope);
                                   const Value x = bert_embeddings(g, config, inputs, {});
                                   const Value mask = padding_mask(g, inputs.attention_mask);
                                   return bert_layers(g, config, config.layer(), x, mask);
                                 },
                             .span_classifier = "splinter_qass.start_classifier",
                             .spans =
                                 [&](GraphBuilder& g, const Value& x, const EncoderInputs& inputs) {
                                   spans(g, config, x, inputs);
                                 }});
}

constexpr std::string_view kTasks[] = {
    "feature-extraction", "question-answering", "sentence-similarity"};
constexpr std::string_view kIgnoredTensors[] = {"splinter_qass.*", "*embeddings.position_ids"};

}  // namespace

extern const Architecture kSplinter;
const Architecture kSplinter{.model_type = "splinter",
                             .tasks = kTasks,
                             .ignored_tensors = kIgnoredTensors,
                             .build = build_splinter};

}  // namespace onnxferry
