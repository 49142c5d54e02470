// Hunyuan 0.5B to 7B, dense, and A13B, a mixture of experts (Tencent 2025): Llama with an RMSNorm
// on every head's query and key BEHIND the rotation.
//
// Peculiar: rope type "dynamic" with "alpha" stretches the base by alpha from the first token on;
// the usual dynamic rule takes over beyond max_position_embeddings. The mixture's experts and its
// shared block are intermediate_size wide, whatever moe_intermediate_size says. Source:
// transformers/models/hunyuan_v1_dense/modeling_hunyuan_v1_dense.py,
// transformers/models/hunyuan_v1_moe/modeling_hunyuan_v1_moe.py.

#include <algorithm>
#include <cmath>

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

void read_alpha(const ModelConfig& config, RopeConfig& rope) {
  const auto scaling = config.find_object("rope_scaling");
  if (!scaling || rope.kind != RopeConfig::Kind::kDynamic) {
    return;
  }
  if (!scaling->has("alpha")) {
    scaling->refuse("alpha", "Hunyuan's dynamic rope needs it");
  }
  // Every published checkpoint has them, and they are yarn's.
  for (const auto* const key : {"beta_fast", "beta_slow", "mscale", "mscale_all_dim"}) {
    scaling->disregard(key);
  }
  const auto dim = static_cast<double>(rope.rotary_dim);
  const double alpha = scaling->number("alpha");
  rope.frequencies =
      unscaled_rope(rope.theta * std::pow(alpha, dim / (dim - 2)), rope.rotary_dim).frequencies;
}

DecoderSpec read_hunyuan(const ModelConfig& config) {
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 290943,
                                 .hidden_size = 4096,
                                 .intermediate_size = 11008,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .rms_norm_eps = 1e-5,
                                 .pad_token_id = 0});
  read_biases(config, spec);
  spec.attention.qk_norm = QkNorm::kPerHead;
  spec.attention.query_norm_name = "query_layernorm";
  spec.attention.key_norm_name = "key_layernorm";
  spec.attention.norm_order = SelfAttentionSpec::NormOrder::kAfterRotary;
  read_alpha(config, spec.ropes.front());
  return spec;
}

std::vector<BuiltGraph> build_hunyuan_v1_dense(const BuildContext& context) {
  return build_decoder(context, read_hunyuan(context.config));
}

/// One number, or a list with one per layer: only the same everywhere is implemented.
std::int64_t same_in_all_layers(const ModelConfig& config,
                                std::string_view key,
                                std::size_t count) {
  const auto values = config.dimensions(key, count);
  if (!values) {
    return 1;
  }
  if (values->size() < count ||
      std::ranges::any_of(*values, [&](std::int64_t value) { return value != values->front(); })) {
    config.refuse(key, "only the same positive number for all layers is implemented");
  }
  return values->front();
}

std::vector<BuiltGraph> build_hunyuan_v1_moe(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_hunyuan(config);
  const std::size_t layers = spec.layers.size();
  const ExpertCounts counts{.count = same_in_all_layers(config, "num_experts", layers),
                            .chosen = same_in_all_layers(config, "moe_topk", layers)};
  if (counts.chosen > counts.count) {
    config.refuse("moe_topk", "it must not be larger than num_experts");
  }
  MixtureSpec mixture = mixture_for(spec, counts, spec.mlp.intermediate_size);
  mixture.router.name = "gate.wg";
  mixture.router.scores = RouterSpec::Scores::kSoftmaxOfChosen;
  mixture.shared = shared_expert(spec.mlp, "shared_mlp");
  use_mixture(spec, std::move(mixture), [](std::int64_t) { return true; });
  // Of the original code; what they say must agree with the tensors' shapes.
  for (const auto* const key : {"moe_intermediate_size", "num_shared_expert"}) {
    config.disregard(key);
  }
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kHunyuanV1Dense;
const Architecture kHunyuanV1Dense{.model_type = "hunyuan_v1_dense",
                                   .tasks = kDecoderTasks,
                                   .ignored_tensors = kDecoderIgnoredTensors,
                                   .build = build_hunyuan_v1_dense};

extern const Architecture kHunyuanV1Moe;
const Architecture kHunyuanV1Moe{.model_type = "hunyuan_v1_moe",
                                 .tasks = kDecoderTasks,
                                 .ignored_tensors = kDecoderIgnoredTensors,
                                 .build = build_hunyuan_v1_moe};

}  // namespace onnxferry
