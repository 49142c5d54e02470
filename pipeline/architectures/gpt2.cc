// GPT-2 (Radford et al. 2019): learned positions, LayerNorm before each block, tanh GELU, head tied
// to the embedding.
//
// Peculiar: weights are Conv1D's [in, out]; c_attn holds queries, keys and values side by side.
// scale_attn_by_inverse_layer_idx (Mistral-GPT2) divides scores by the layer's number, too.
// reorder_and_upcast_attn computes scores in float32. Checkpoints stored
// without "transformer." are common. transformers knows gpt-sw3 (AI Sweden 2022) as another name
// of the type. Source: transformers/models/gpt2/modeling_gpt2.py.

#include "pipeline/architectures/gpt.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_gpt2(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec =
      read_gpt(config, {.vocab_size = 50257, .n_embd = 768, .n_layer = 12, .n_head = 12});
  add_learned_positions(
      spec, "wpe", aliased_dimension(config, "n_positions", "max_position_embeddings", 1024));
  // Of GPT2DoubleHeadsModel's second head.
  for (const auto* const key :
       {"summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj"}) {
    config.disregard(key);
  }
  spec.attention.linear = linear_in_out;
  spec.mlp.linear = linear_in_out;
  if (!config.boolean("scale_attn_weights", true)) {
    spec.attention.scale = 1.0;
  }
  if (config.boolean("reorder_and_upcast_attn", false)) {
    spec.attention.scores = SelfAttentionSpec::Scores::kFloat32;
  }
  if (config.boolean("scale_attn_by_inverse_layer_idx", false)) {
    spec.attend = [attention = spec.attention](GraphBuilder& g,
                                               const Value& x,
                                               DecoderInputs& inputs,
                                               const SelfAttentionPlace& place) {
      SelfAttentionSpec scaled = attention;
      scaled.scale /= static_cast<double>(place.layer + 1);
      return self_attention(g, x, inputs, scaled, place);
    };
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kGptSw3;
const Architecture kGptSw3{.model_type = "gpt-sw3",
                           .tasks = kAllDecoderTasks,
                           .ignored_tensors = kGptIgnoredTensors,
                           .build = build_gpt2};

extern const Architecture kGpt2;
const Architecture kGpt2{.model_type = "gpt2",
                         .tasks = kAllDecoderTasks,
                         .ignored_tensors = kGptIgnoredTensors,
                         .build = build_gpt2};

}  // namespace onnxferry
