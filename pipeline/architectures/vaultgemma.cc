// VaultGemma (Google 2025): Gemma 2, trained with differential privacy, without the norms behind
// both blocks. Source: transformers/models/vaultgemma/modeling_vaultgemma.py.

#include "pipeline/architectures/gemma.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_vaultgemma(const BuildContext& context) {
  const ModelConfig& config = context.config;
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
  spec.names.post_attention_norm = "";
  spec.names.post_mlp_norm = "";
  read_windows(
      config, spec, config.nullable_integer("sliding_window", 4096), [](std::int64_t layer) {
        return layer % 2 == 0;
      });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kVaultGemma;
const Architecture kVaultGemma{.model_type = "vaultgemma",
                               .tasks = kGenerationTasks,
                               .ignored_tensors = kDecoderIgnoredTensors,
                               .build = build_vaultgemma};

}  // namespace onnxferry
