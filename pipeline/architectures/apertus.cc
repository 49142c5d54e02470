// Apertus (Swiss AI 2025): Llama with an RMSNorm on every head's query and key, and a feed-forward
// block without a gate whose activation xIELU has two learned slopes a layer (Huang et al. 2024).
//
// Peculiar: rope type llama3 is the default, not an option. Source:
// transformers/models/apertus/modeling_apertus.py, XIELUActivation in transformers/activations.py.

#include <cmath>
#include <cstring>

#include <fmt/format.h>

#include "pipeline/architectures/decoder.h"
#include "pipeline/error.h"
#include "pipeline/weights/evaluate.h"

namespace onnxferry {
namespace {

/// The only element of a recipe.
float scalar(const GraphBuilder& g, const Recipe& recipe) {
  float value = 0;
  evaluate(cast(recipe, Dtype::kFloat32), g.tensors(), [&](std::span<const std::byte> bytes) {
    EXPORT_CHECK(bytes.size() == sizeof value, "one element was expected");
    std::memcpy(&value, bytes.data(), sizeof value);
  });
  return value;
}

float rounded_to_bfloat16(const GraphBuilder& g, float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return scalar(g, cast(literal(Dtype::kFloat32, {1}, std::move(bytes)), Dtype::kBFloat16));
}

/// x > 0: αp·x² + β·x, else αn·(exp(min(x, ε)) - 1 - x) + β·x, with learned αp and αn. Stored are
/// the inverse softplus of αp and of αn - β, and β and ε. transformers keeps all four in bfloat16
/// whatever the model's dtype, so αp and αn are bfloat16 numbers, too.
Value xielu(GraphBuilder& g, const Value& x, const std::string& key) {
  const auto scope = g.scope("act_fn");
  const auto stored = [&](std::string_view name, const Shape& shape) {
    return scalar(g, view(g.tensor(fmt::format("{}.{}", key, name), shape)));
  };
  const auto softplus = [&](float value) {
    return rounded_to_bfloat16(g, std::log1p(std::exp(value)));
  };
  const float beta = stored("beta", {});
  const float alpha_p = softplus(stored("alpha_p", {1}));
  const float alpha_n = rounded_to_bfloat16(g, beta + softplus(stored("alpha_n", {1})));
  const Value bounded = g.Min(x, g.float_scalar(stored("eps", {})));
  const Value growth = g.Sub(g.Exp(bounded), g.float_scalar(1.0F));
  const Value above = g.Mul(g.Mul(x, x), g.float_scalar(alpha_p));
  const Value below = g.Mul(g.Sub(growth, x), g.float_scalar(alpha_n));
  const Value is_positive = g.Greater(x, g.float_scalar(0.0F));
  return g.Add(g.Where(is_positive, above, below), g.Mul(x, g.float_scalar(beta)));
}

std::vector<BuiltGraph> build_apertus(const BuildContext& context) {
  const ModelConfig& config = context.config;
  if (config.text("hidden_act", "xielu") != "xielu") {
    config.refuse("hidden_act", "Apertus is built with xielu");
  }
  if (!config.has("rope_scaling")) {
    config.refuse("rope_scaling", "transformers' default for Apertus is llama3; write it out");
  }
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 131072,
                                 .hidden_size = 4096,
                                 .intermediate_size = 14336,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .rms_norm_eps = 1e-5,
                                 .rope_theta = 1.2e7,
                                 .hidden_act = ""});
  read_biases(config, spec);
  spec.names.pre_attention_norm = "attention_layernorm";
  spec.names.pre_mlp_norm = "feedforward_layernorm";
  spec.attention.qk_norm = QkNorm::kPerHead;
  const std::int64_t hidden = spec.hidden_size;
  const std::int64_t wide = spec.mlp.intermediate_size;
  spec.feed_forward = [hidden, wide](
                          GraphBuilder& g, const Value& x, std::size_t, const std::string& key) {
    const auto project =
        [&](const Value& input, std::string_view name, std::int64_t in, std::int64_t out) {
          const auto scope = g.scope(name);
          return linear(g, input, fmt::format("{}.{}", key, name), in, out, Bias::kNo);
        };
    const Value y = xielu(g, project(x, "up_proj", hidden, wide), key + ".act_fn");
    return project(y, "down_proj", wide, hidden);
  };
  return build_decoder(context, spec);
}

// transformers has a ForTokenClassification, but no ForSequenceClassification.
constexpr std::string_view kTasks[] = {"feature-extraction",
                                       "feature-extraction-with-past",
                                       kSentenceSimilarity,
                                       "text-generation",
                                       "text-generation-with-past",
                                       "token-classification"};

constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.weight",
    "score.*",
    "*.rotary_emb.inv_freq",
    "*.act_fn.*",  // read into constants
};

}  // namespace

extern const Architecture kApertus;
const Architecture kApertus{.model_type = "apertus",
                            .tasks = kTasks,
                            .ignored_tensors = kIgnoredTensors,
                            .build = build_apertus};

}  // namespace onnxferry
