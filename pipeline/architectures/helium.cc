// Helium (Kyutai 2025): Llama with rotary pairs. attention_bias holds for q, k and v only. Source:
// transformers/models/helium/modeling_helium.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_helium(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 48000,
                                 .hidden_size = 2560,
                                 .intermediate_size = 7040,
                                 .num_hidden_layers = 24,
                                 .num_attention_heads = 20,
                                 .num_key_value_heads = 20,
                                 .head_dim = 128,
                                 .rms_norm_eps = 1e-8,
                                 .rope_theta = 1e5,
                                 .pad_token_id = 3});
  read_biases(config, spec);
  spec.attention.output_bias = Bias::kNo;
  spec.rotary_layout = RotaryLayout::kPairs;
  spec.ort_model_reads_key_value_heads = true;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kHelium;
const Architecture kHelium{.model_type = "helium",
                           .tasks = kTokenDecoderTasks,
                           .ignored_tensors = kDecoderIgnoredTensors,
                           .build = build_helium};

}  // namespace onnxferry
