// Gemma 2 (Google 2024): Gemma with norms before and behind both blocks, softcaps on scores and
// logits, and a sliding window in every even layer.
//
// Peculiar: the scale of the scores comes from query_pre_attn_scalar, not from head_dim. The
// graph's reference is transformers' eager attention: its SDPA path drops the softcap. Source:
// transformers/models/gemma2/modeling_gemma2.py.

#include "pipeline/architectures/gemma.h"

namespace onnxferry {

DecoderSpec read_gemma2(const ModelConfig& config) {
  DecoderSpec spec = read_gemma(config,
                                {.vocab_size = 256000,
                                 .hidden_size = 2304,
                                 .intermediate_size = 9216,
                                 .num_hidden_layers = 26,
                                 .num_attention_heads = 8,
                                 .num_key_value_heads = 4,
                                 .head_dim = 256,
                                 .hidden_act = "",
                                 .tie_word_embeddings = true});
  spec.mlp.activation = read_activation(config, "hidden_activation", "gelu_pytorch_tanh");
  read_gemma2_layers(config,
                     spec,
                     config.nullable_number("attn_logit_softcapping", 50),
                     config.nullable_number("final_logit_softcapping", 30));
  read_windows(
      config, spec, config.nullable_integer("sliding_window", 4096), [](std::int64_t layer) {
        return layer % 2 == 0;
      });
  return spec;
}

namespace {

std::vector<BuiltGraph> build_gemma2(const BuildContext& context) {
  return build_decoder(context, read_gemma2(context.config));
}

}  // namespace

extern const Architecture kGemma2;
const Architecture kGemma2{.model_type = "gemma2",
                           .tasks = kTokenDecoderTasks,
                           .ignored_tensors = kDecoderIgnoredTensors,
                           .build = build_gemma2};

}  // namespace onnxferry
