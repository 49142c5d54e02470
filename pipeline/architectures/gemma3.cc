// Gemma 3 (Google 2025), text models, and the text part of multimodal ones: Gemma 2 without
// softcaps by default, with a norm on every head's query and key, five sliding layers for each full
// one, and a rope for each of the two kinds.
//
// Peculiar: rope_scaling holds for the full layers only; sliding ones turn with
// rope_local_base_freq. Source: transformers/models/gemma3/modeling_gemma3.py.

#include "pipeline/architectures/gemma.h"

namespace onnxferry {
namespace {

DecoderSpec read_gemma3(const ModelConfig& config) {
  DecoderSpec spec = read_gemma(config,
                                {.vocab_size = 262208,
                                 .hidden_size = 2304,
                                 .intermediate_size = 9216,
                                 .num_hidden_layers = 26,
                                 .num_attention_heads = 8,
                                 .num_key_value_heads = 4,
                                 .head_dim = 256,
                                 .rope_theta = 1e6,
                                 .hidden_act = "",
                                 .tie_word_embeddings = true});
  if (config.boolean("use_bidirectional_attention", false)) {
    config.refuse("use_bidirectional_attention", "the encoder form of Gemma 3 is not implemented");
  }
  spec.mlp.activation = read_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  read_gemma2_layers(config,
                     spec,
                     config.find_number("attn_logit_softcapping"),
                     config.find_number("final_logit_softcapping"));
  spec.attention.qk_norm = QkNorm::kPerHead;
  const std::int64_t pattern = read_window_pattern(config, 6);
  read_windows(
      config, spec, config.nullable_integer("sliding_window", 4096), [&](std::int64_t layer) {
        return (layer + 1) % pattern != 0;
      });
  spec.ropes.push_back(
      unscaled_rope(config.number("rope_local_base_freq", 10000), spec.attention.head_dim));
  for (DecoderLayer& layer : spec.layers) {
    layer.rope = layer.window > 0 ? 1 : 0;
  }
  spec.ort_model_reads_key_value_heads = true;
  spec.ort_model_reads_head_dim = true;
  return spec;
}

std::vector<BuiltGraph> build_gemma3_text(const BuildContext& context) {
  return build_decoder(context, read_gemma3(context.config));
}

// Images enter through embeddings that a text export has no input for.
std::vector<BuiltGraph> build_gemma3(const BuildContext& context) {
  const auto text = context.config.find_object("text_config");
  if (!text) {
    context.config.refuse("text_config", "a multimodal Gemma 3 describes its text part there");
  }
  for (const std::string_view key : {"vision_config",
                                     "mm_tokens_per_image",
                                     "boi_token_index",
                                     "eoi_token_index",
                                     "image_token_index",
                                     "text_config.model_type"}) {
    context.config.disregard(key);
  }
  DecoderSpec spec = read_gemma3(*text);
  const bool is_old = context.tensors.find("language_model.model.embed_tokens.weight") != nullptr;
  spec.names.base = is_old ? "language_model.model" : "model.language_model";
  spec.names.head = is_old ? "language_model.lm_head" : "lm_head";
  spec.text_config = *text;
  return build_decoder(context, spec);
}

constexpr std::string_view kOutsideText[] = {"language_model.lm_head.weight",
                                             "lm_head.weight",
                                             "score.*",
                                             "multi_modal_projector.*",
                                             "model.multi_modal_projector.*",
                                             "vision_tower.*",
                                             "model.vision_tower.*"};

}  // namespace

extern const Architecture kGemma3;
const Architecture kGemma3{.model_type = "gemma3",
                           .tasks = kDecoderTasks,
                           .ignored_tensors = kOutsideText,
                           .build = build_gemma3};

extern const Architecture kGemma3Text;
const Architecture kGemma3Text{.model_type = "gemma3_text",
                               .tasks = kDecoderTasks,
                               .ignored_tensors = kDecoderIgnoredTensors,
                               .build = build_gemma3_text};

}  // namespace onnxferry
