// ERNIE (Sun et al. 2019, 2020): BERT with an optional embedding of the task, which exports add for
// task 0 as transformers does by default. Source: transformers/models/ernie/modeling_ernie.py.

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

Value encode(GraphBuilder& g, const BertConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const bool has_task = config.source.boolean("use_task_id", false);
  const Value x =
      bert_embeddings(g,
                      config,
                      inputs,
                      {.positions = Positions::kAbsolute,
                       .constant_table = has_task ? "task_type_embeddings" : "",
                       .constant_rows = config.source.dimension("task_type_vocab_size", 3)});
  const Value mask = padding_mask(g, inputs.attention_mask);
  return bert_layers(g, config, config.layer(), x, mask);
}

std::vector<BuiltGraph> build_ernie(const BuildContext& context) {
  const BertConfig config(context, "ernie");
  return build_text_encoder(
      context, with_bert_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        return encode(g, config, inputs);
      }));
}

}  // namespace

extern const Architecture kErnie;
const Architecture kErnie{.model_type = "ernie",
                          .tasks = kTextEncoderTasks,
                          .ignored_tensors = kBertIgnoredTensors,
                          .build = build_ernie};

}  // namespace onnxferry
