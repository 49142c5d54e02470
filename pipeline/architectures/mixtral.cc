// Mixtral (Jiang et al. 2024): Mistral with a mixture of experts in every layer.
//
// Peculiar: experts are called w1 (gate), w3 (up) and w2 (down); a sliding window, if there is one,
// is in every layer. Source: transformers/models/mixtral/modeling_mixtral.py.

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_mixtral(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 32000,
                                 .hidden_size = 4096,
                                 .intermediate_size = 14336,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 8,
                                 .rms_norm_eps = 1e-5,
                                 .rope_theta = 1e6});
  spec.names.mlp = "block_sparse_moe";
  const auto window = config.find_integer("sliding_window");
  read_windows(config, spec, window, [&](std::int64_t) { return window.has_value(); });

  const ExpertCounts counts =
      read_expert_counts(config, "num_local_experts", "num_experts_per_tok", {8, 2});
  MixtureSpec mixture = mixture_for(spec, counts, spec.mlp.intermediate_size);
  mixture.router.scores = RouterSpec::Scores::kSoftmaxOfChosen;
  mixture.experts.gate_name = "w1";
  mixture.experts.up_name = "w3";
  mixture.experts.down_name = "w2";
  use_mixture(spec, std::move(mixture), [](std::int64_t) { return true; });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kMixtral;
const Architecture kMixtral{.model_type = "mixtral",
                            .tasks = kAllDecoderTasks,
                            .ignored_tensors = kDecoderIgnoredTensors,
                            .build = build_mixtral};

}  // namespace onnxferry
