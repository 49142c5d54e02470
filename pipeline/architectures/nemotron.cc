// Nemotron and Minitron (NVIDIA 2024): layer norms times 1 + weight, squared ReLU without a gate,
// rotary positions on half of each head. Source: transformers/models/nemotron/modeling_nemotron.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_nemotron(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 256000,
                                 .hidden_size = 6144,
                                 .intermediate_size = 24576,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 48,
                                 .hidden_act = "relu2",
                                 .partial_rotary_factor = 0.5});
  read_biases(config, spec);
  spec.norm = {.kind = NormKind::kLayerOnePlus, .epsilon = config.number("norm_eps", 1e-5)};
  spec.mlp.form = FeedForwardSpec::Form::kPlain;
  spec.position_input = PositionInput::kNo;
  spec.ort_model_reads_key_value_heads = true;
  spec.ort_model_reads_head_dim = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kNemotron;
const Architecture kNemotron{.model_type = "nemotron",
                             .tasks = kAllDecoderTasks,
                             .ignored_tensors = kDecoderIgnoredTensors,
                             .build = build_nemotron};

}  // namespace onnxferry
