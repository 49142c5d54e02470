// LFM2 (Liquid AI 2025): a Llama with a norm on every head's query and key, in which most layers
// have a short convolution in place of attention: of three projections of the input, the product of
// the first and third is convolved along the sequence, each channel by itself, and multiplied by
// the second.
//
// Peculiar: only graphs without a cache. A convolution's state is none of keys and values, and
// neither Optimum nor ORTModelForCausalLM knows it. Convolutions read padding to their left as it
// is; transformers' mask for it does not reach them (it is of four dimensions by then). Published
// configs have old names for some keys, which win; intermediate_size is that of three plain
// matrices and is adjusted for a gated block. Source: transformers/models/lfm2/modeling_lfm2.py,
// configuration_lfm2.py.

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "pipeline/architectures/decoder.h"

namespace onnxferry {
namespace {

// Of the feed-forward block, whatever the config says.
Value silu(GraphBuilder& g, const Value& x) {
  return g.Mul(x, g.Sigmoid(x));
}

struct ShortConv {
  std::int64_t hidden_size = 0;
  std::int64_t kernel = 0;
  Bias bias = Bias::kNo;
};

// x [B, S, H] → [B, S, H]; a token sees itself and the kernel - 1 before it.
Value short_conv(GraphBuilder& g, const Value& x, const ShortConv& conv, const std::string& key) {
  const std::int64_t size = conv.hidden_size;
  const std::int64_t sizes[] = {size, size, size};
  const auto parts = g.Split(linear(g, x, key + ".in_proj", size, 3 * size, conv.bias), sizes, -1);
  const Value channels = g.Transpose(g.Mul(parts[0], parts[2]), {0, 2, 1});  // [B, H, S]
  const Value padded = g.Pad(channels, g.ints({0, 0, conv.kernel - 1, 0, 0, 0}));
  const Value weight = g.weight(key + ".conv.weight", {size, 1, conv.kernel});
  std::optional<Value> bias;
  if (conv.bias == Bias::kYes) {
    bias = g.weight(key + ".conv.bias", {size});
  }
  const Value mixed =
      g.Conv(padded, weight, bias ? &*bias : nullptr, {.kernel = conv.kernel, .groups = size});
  const Value gated = g.Mul(parts[1], g.Transpose(mixed, {0, 2, 1}));
  return linear(g, gated, key + ".out_proj", size, size, conv.bias);
}

// Which layers have attention.
std::vector<bool> read_layer_types(const ModelConfig& config, std::size_t count) {
  std::vector<bool> attends;
  if (const auto types = config.find_texts("layer_types")) {
    config.disregard("full_attn_idxs");
    for (const std::string& type : *types) {
      if (type != "full_attention" && type != "conv") {
        config.refuse("layer_types", "known types of layers are full_attention and conv");
      }
      attends.push_back(type == "full_attention");
    }
    if (attends.size() != count) {
      config.refuse("layer_types", "expected one entry per layer");
    }
    return attends;
  }
  attends.assign(count, !config.has("full_attn_idxs"));
  for (const std::int64_t index : config.integers("full_attn_idxs", 1)) {
    if (index < 0 || static_cast<std::size_t>(index) >= count) {
      config.refuse("full_attn_idxs", "expected indices of layers");
    }
    attends[static_cast<std::size_t>(index)] = true;
  }
  return attends;
}

// Two thirds, since a gated block has three matrices, rounded up.
std::int64_t read_intermediate_size(const ModelConfig& config) {
  std::int64_t size = aliased_dimension(config, "intermediate_size", "block_ff_dim", 12288);
  const bool adjusts = config.boolean("block_auto_adjust_ff_dim", true);
  const auto factor = config.nullable_number("block_ffn_dim_multiplier", 1.0);
  const std::int64_t multiple = config.dimension("block_multiple_of", 256);
  if (!adjusts) {
    return size;
  }
  size = 2 * size / 3;
  if (factor) {
    const double scaled = *factor * static_cast<double>(size);
    if (!(scaled >= 1 && scaled <= static_cast<double>(INT32_MAX))) {
      config.refuse("block_ffn_dim_multiplier", "the feed-forward block has no such size");
    }
    size = (static_cast<std::int64_t>(scaled) + multiple - 1) / multiple * multiple;
  }
  if (size < 1) {
    config.refuse("intermediate_size", "two thirds of it are no size");
  }
  return size;
}

DecoderSpec read_lfm2(const ModelConfig& config) {
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 65536,
                                 .hidden_size = 2560,
                                 .intermediate_size = 12288,
                                 .num_hidden_layers = 32,
                                 .num_attention_heads = 32,
                                 .num_key_value_heads = 8,
                                 .rope_theta = 1e6,
                                 .hidden_act = "",
                                 .tie_word_embeddings = true});
  spec.names.final_norm = "embedding_norm";
  spec.names.attention = "";  // each layer has the one module or the other
  spec.names.mlp = "feed_forward";
  spec.names.pre_attention_norm = "operator_norm";
  spec.names.pre_mlp_norm = "ffn_norm";
  spec.norm.epsilon = config.number("norm_eps", 1e-5);
  spec.is_tied = config.boolean("tie_embedding", spec.is_tied);
  if (config.has("theta")) {
    spec.ropes = {read_rope(config, spec.attention.head_dim, 1e6, "theta")};
  }
  spec.attention.output_name = "out_proj";
  spec.attention.qk_norm = QkNorm::kPerHead;
  spec.attention.qk_norm_spec = spec.norm;
  spec.attention.query_norm_name = "q_layernorm";
  spec.attention.key_norm_name = "k_layernorm";
  spec.mlp.intermediate_size = read_intermediate_size(config);
  spec.mlp.gate_name = "w1";
  spec.mlp.up_name = "w3";
  spec.mlp.down_name = "w2";
  spec.mlp.activation = silu;
  return spec;
}

std::vector<BuiltGraph> build_lfm2(const BuildContext& context) {
  const ModelConfig& config = context.config;
  DecoderSpec spec = read_lfm2(config);
  const ShortConv conv{.hidden_size = spec.hidden_size,
                       .kernel = config.dimension("conv_L_cache", 3),
                       .bias = config.boolean("conv_bias", false) ? Bias::kYes : Bias::kNo};
  spec.attend =
      [conv, attention = spec.attention, attends = read_layer_types(config, spec.layers.size())](
          GraphBuilder& g, const Value& x, DecoderInputs& inputs, const SelfAttentionPlace& place) {
        const std::string_view name = attends[place.layer] ? "self_attn" : "conv";
        const auto scope = g.scope(name);
        SelfAttentionPlace module = place;
        module.key = fmt::format("{}{}", place.key, name);
        return attends[place.layer] ? self_attention(g, x, inputs, attention, module)
                                    : short_conv(g, x, conv, module.key);
      };
  // Of the original code: other names for the same, and how training began.
  for (const auto* const key : {"block_dim",
                                "block_mlp_init_scale",
                                "block_norm_eps",
                                "block_out_init_scale",
                                "block_use_swiglu",
                                "block_use_xavier_init",
                                "conv_dim",
                                "conv_dim_out",
                                "conv_use_xavier_init",
                                "num_heads",
                                "use_pos_enc"}) {
    config.disregard(key);
  }
  return build_decoder(context, spec);
}

constexpr std::string_view kTasks[] = {
    "feature-extraction", kSentenceSimilarity, "text-generation"};

}  // namespace

extern const Architecture kLfm2;
const Architecture kLfm2{.model_type = "lfm2",
                         .tasks = kTasks,
                         .ignored_tensors = kDecoderIgnoredTensors,
                         .build = build_lfm2,
                         .tasks_that_see_padding = kTasks};

}  // namespace onnxferry
