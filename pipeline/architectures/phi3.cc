// Phi-3, Phi-3.5, Phi-4, Phi-4-mini (Microsoft 2024): Llama with one matrix for q, k and v and one
// for gate and up.
//
// Peculiar: partial_rotary_factor 0.75 and longrope in Phi-4-mini; the window, where given, holds
// in all layers. Source: transformers/models/phi3/modeling_phi3.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_phi3(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32064,
                                 .hidden_size = 3072,
                                 .intermediate_size = 8192,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .rms_norm_eps = 1e-5,
                                 .pad_token_id = 32000});
  spec.attention.form = QkvForm::kStacked;
  spec.attention.qkv_name = "qkv_proj";
  spec.mlp.form = FeedForwardSpec::Form::kGatedFused;
  spec.mlp.up_name = "gate_up_proj";
  // Every Phi-3 has it, and only longrope reads it.
  config.disregard("original_max_position_embeddings");
  const auto window = config.find_integer("sliding_window");
  read_windows(config, spec, window, [&](std::int64_t) { return window.has_value(); });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kPhi3;
const Architecture kPhi3{.model_type = "phi3",
                         .tasks = kTokenDecoderTasks,
                         .ignored_tensors = kDecoderIgnoredTensors,
                         .build = build_phi3};

}  // namespace onnxferry
