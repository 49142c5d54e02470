#include "pipeline/architectures/fairseq.h"

namespace onnxferry {

void use_fairseq_layers(const ModelConfig& config, DecoderSpec& spec, const FairseqLayers& layers) {
  spec.names.mlp = "";
  spec.names.pre_attention_norm = "self_attn_layer_norm";
  spec.names.pre_mlp_norm = "final_layer_norm";
  spec.norm = {NormKind::kLayer, 1e-5};
  spec.layers = plain_layers(layers.num_layers);
  spec.attention.num_heads = layers.num_heads;
  set_plain_heads(config, spec);
  spec.attention.output_name = "out_proj";
  spec.attention.qkv_bias = spec.attention.output_bias = layers.bias;
  spec.mlp = {.form = FeedForwardSpec::Form::kPlain,
              .hidden_size = spec.hidden_size,
              .intermediate_size = layers.intermediate_size,
              .up_name = "fc1",
              .down_name = "fc2",
              .activation = layers.activation,
              .bias = layers.bias};
}

}  // namespace onnxferry
