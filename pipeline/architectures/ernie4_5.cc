// ERNIE 4.5, dense (Baidu 2025): Llama with rotary pairs and one switch for all biases. Source:
// transformers/models/ernie4_5/modeling_ernie4_5.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_ernie4_5(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 103424,
                                 .hidden_size = 1024,
                                 .intermediate_size = 3072,
                                 .num_hidden_layers = 18,
                                 .num_attention_heads = 16,
                                 .num_key_value_heads = 2,
                                 .head_dim = 128,
                                 .rms_norm_eps = 1e-5,
                                 .rope_theta = 5e5,
                                 .tie_word_embeddings = true});
  const Bias bias = config.boolean("use_bias", false) ? Bias::kYes : Bias::kNo;
  spec.attention.qkv_bias = spec.attention.output_bias = spec.mlp.bias = bias;
  spec.rotary_layout = RotaryLayout::kPairs;
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kErnie4_5;
const Architecture kErnie4_5{.model_type = "ernie4_5",
                             .tasks = kGenerationTasks,
                             .ignored_tensors = kDecoderIgnoredTensors,
                             .build = build_ernie4_5};

}  // namespace onnxferry
