// StarCoder2 (BigCode 2024): Llama with LayerNorm, biases, a plain feed-forward block (c_fc,
// c_proj) and a tied head.
//
// Peculiar: sliding_window, if there is one, holds in every layer. head_dim is not a documented
// key, but transformers obeys it. Source: transformers/models/starcoder2/modeling_starcoder2.py.

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_starcoder2(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 49152,
                                 .hidden_size = 3072,
                                 .intermediate_size = 12288,
                                 .num_hidden_layers = 30,
                                 .num_attention_heads = 24,
                                 .num_key_value_heads = 2,
                                 .hidden_act = "gelu_pytorch_tanh",
                                 .tie_word_embeddings = true});
  spec.norm = {NormKind::kLayer, config.number("norm_epsilon", 1e-5)};
  const Bias bias = config.boolean("use_bias", true) ? Bias::kYes : Bias::kNo;
  spec.attention.qkv_bias = spec.attention.output_bias = bias;
  spec.mlp.form = FeedForwardSpec::Form::kPlain;
  spec.mlp.up_name = "c_fc";
  spec.mlp.down_name = "c_proj";
  spec.mlp.bias = bias;
  if (config.has("sliding_window")) {
    const std::int64_t window = config.dimension("sliding_window");
    for (DecoderLayer& layer : spec.layers) {
      layer.window = window;
    }
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kStarcoder2;
const Architecture kStarcoder2{.model_type = "starcoder2",
                               .tasks = kTokenDecoderTasks,
                               .ignored_tensors = kDecoderIgnoredTensors,
                               .build = build_starcoder2};

}  // namespace onnxferry
