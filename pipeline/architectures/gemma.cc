// Gemma (Google 2024): Llama with embeddings times √hidden_size, RMSNorm times 1 + weight, tanh
// GELU and head_dim 256. Optimum gives it no position_ids. Source:
// transformers/models/gemma/modeling_gemma.py.

#include "pipeline/architectures/gemma.h"

#include <cmath>

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_gemma(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_gemma(config,
                                {.vocab_size = 256000,
                                 .hidden_size = 3072,
                                 .intermediate_size = 24576,
                                 .num_hidden_layers = 28,
                                 .num_attention_heads = 16,
                                 .head_dim = 256,
                                 .hidden_act = "gelu_pytorch_tanh",
                                 .tie_word_embeddings = true});
  static_cast<void>(config.find_text("hidden_activation"));  // transformers obeys hidden_act
  spec.ort_model_reads_key_value_heads = true;
  spec.ort_model_reads_head_dim = true;
  return build_decoder(context, spec);
}

}  // namespace

DecoderSpec read_gemma(const ModelConfig& config, const LlamaDefaults& defaults) {
  DecoderSpec spec = read_llama(config, defaults);
  read_biases(config, spec);
  spec.norm.kind = NormKind::kRmsOnePlus;
  spec.attention.qk_norm_spec = spec.norm;
  spec.embedding_multiplier = std::sqrt(static_cast<double>(spec.hidden_size));
  spec.position_input = PositionInput::kNo;
  spec.pad_token_id = 0;
  return spec;
}

void read_gemma2_layers(const ModelConfig& config,
                        DecoderSpec& spec,
                        std::optional<double> attention_softcap,
                        std::optional<double> logits_softcap) {
  spec.names.post_attention_norm = "post_attention_layernorm";
  spec.names.pre_mlp_norm = "pre_feedforward_layernorm";
  spec.names.post_mlp_norm = "post_feedforward_layernorm";
  spec.attention.scale = 1 / std::sqrt(config.number("query_pre_attn_scalar", 256));
  spec.attention.softcap = attention_softcap.value_or(0);
  spec.logits_softcap = logits_softcap.value_or(0);
}

extern const Architecture kGemma;
const Architecture kGemma{.model_type = "gemma",
                          .tasks = kTokenDecoderTasks,
                          .ignored_tensors = kDecoderIgnoredTensors,
                          .build = build_gemma};

}  // namespace onnxferry
