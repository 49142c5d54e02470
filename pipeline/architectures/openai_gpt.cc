// GPT (Radford et al. 2018), the first one: GPT-2 with a LayerNorm behind each addition instead of
// before each block, and none at the end.
//
// Peculiar: transformers' class has no cache, so there is no graph with one; the activation is
// called afn, and its gelu is the tanh form; the feed-forward block is four times as wide always.
// Source: transformers/models/openai/modeling_openai.py.

#include "pipeline/architectures/gpt.h"

namespace onnxferry {
namespace {

Activation read_afn(const ModelConfig& config) {
  const std::string name = config.text("afn", "gelu");
  if (name == "gelu") {
    return gelu_tanh_activation;
  }
  if (name != "relu" && name != "silu" && name != "swish") {
    config.refuse("afn", "known activations of this type are gelu, relu, silu and swish");
  }
  return read_activation(config, "afn", "gelu");
}

std::vector<BuiltGraph> build_openai_gpt(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec =
      read_gpt(config, {.vocab_size = 40478, .n_embd = 768, .n_layer = 12, .n_head = 12});
  spec.names.embedding = "tokens_embed";
  spec.names.final_norm = "";
  spec.residual = Residual::kNormAfter;
  add_learned_positions(spec,
                        "positions_embed",
                        aliased_dimension(config, "n_positions", "max_position_embeddings", 512));
  spec.attention.linear = linear_in_out;
  spec.mlp.linear = linear_in_out;
  spec.mlp.intermediate_size = 4 * spec.hidden_size;
  spec.mlp.activation = read_afn(config);
  // Of OpenAIGPTDoubleHeadsModel's second head.
  for (const auto* const key :
       {"summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj"}) {
    config.disregard(key);
  }
  return build_decoder(context, spec);
}

constexpr std::string_view kTasks[] = {
    "feature-extraction", kSentenceSimilarity, "text-generation", "text-classification"};
constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.weight", "score.weight", "multiple_choice_head.*", "*.attn.bias"};

}  // namespace

extern const Architecture kOpenAiGpt;
const Architecture kOpenAiGpt{.model_type = "openai-gpt",
                              .tasks = kTasks,
                              .ignored_tensors = kIgnoredTensors,
                              .build = build_openai_gpt};

}  // namespace onnxferry
