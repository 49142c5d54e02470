// Falcon (TII 2023) in its three shapes: Falcon-7B (one key head, attention and feed-forward in
// parallel behind one LayerNorm), Falcon-40B and later (new_decoder_architecture: grouped key
// heads, parallel, two LayerNorms or one) and Falcon-RW (every head its own key, one block after
// the other, ALiBi, biases).
//
// Peculiar: with grouped key heads transformers repeats keys and values to all heads before it
// caches them, and so does this graph: the cache has num_attention_heads. ALiBi is computed in
// bfloat16 whatever the model's dtype, and scaled like the scores. Checkpoints name their original
// code in auto_map; transformers' own class needs none of it. Source:
// transformers/models/falcon/modeling_falcon.py.

#include <bit>
#include <cmath>

#include "pipeline/architectures/decoder.h"
#include "pipeline/graph/alibi.h"

namespace onnxferry {
namespace {

float to_bfloat16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = bits + 0x7FFFU + ((bits >> 16U) & 1U);
  return std::bit_cast<float>(rounded & 0xFFFF0000U);
}

/// The same in a graph of float32 operators: Veltkamp's split, which leaves the 8 leading bits,
/// nearest even. Exact for numbers of up to 16 bits, thus for positions below 65536 and the product
/// of two bfloat16.
Value to_bfloat16(GraphBuilder& g, const Value& x) {
  const Value high = g.Mul(x, g.float_scalar(65537.0F));  // 2^16 + 1
  return g.Sub(high, g.Sub(high, x));
}

Value falcon_alibi(GraphBuilder& g, DecoderInputs& inputs, const SelfAttentionSpec& spec) {
  const auto scope = g.float32_scope("alibi");
  std::vector<float> slopes = alibi_slopes(spec.num_heads);
  for (float& slope : slopes) {
    slope = to_bfloat16(slope);
  }
  const Value positions = g.Cast(inputs.real_tokens_before(), Dtype::kFloat32);
  const Value keys = g.Unsqueeze(to_bfloat16(g, positions), {1, 2});  // [B, 1, 1, T]
  const Value bias = to_bfloat16(g, g.Mul(keys, g.floats(slopes, {spec.num_heads, 1, 1})));
  return g.Mul(bias, g.float_scalar(static_cast<float>(spec.scale)));
}

/// Grouped keys and values, repeated to all heads before the cache.
Value attend_repeated(GraphBuilder& g,
                      const Value& x,
                      DecoderInputs& inputs,
                      const SelfAttentionSpec& spec,
                      SelfAttentionPlace place) {
  QueryKeyValue qkv = project_query_key_value(g, x, spec, place.key);
  std::vector<std::int64_t> heads(static_cast<std::size_t>(spec.num_heads));
  for (std::size_t head = 0; head < heads.size(); ++head) {
    const auto group = static_cast<std::size_t>(spec.num_heads / spec.num_key_value_heads);
    heads[head] = static_cast<std::int64_t>(head / group);
  }
  if (place.rotary != nullptr) {
    qkv.query = rotate(g, qkv.query, spec.head_dim, *place.rotary);
    qkv.key = rotate(g, qkv.key, spec.head_dim, *place.rotary);
    place.rotary = nullptr;
  }
  qkv.key = g.Gather(qkv.key, g.ints(heads), 1);
  qkv.value = g.Gather(qkv.value, g.ints(heads), 1);
  SelfAttentionSpec repeated = spec;
  repeated.num_key_value_heads = spec.num_heads;
  return attend(g, qkv, inputs, repeated, place);
}

void read_attention(const ModelConfig& config, DecoderSpec& spec, bool is_new) {
  SelfAttentionSpec& attention = spec.attention;
  attention.num_heads = config.dimension("num_attention_heads", 71);
  set_plain_heads(config, spec);
  attention.qkv_name = "query_key_value";
  attention.output_name = "dense";
  attention.form = QkvForm::kGrouped;
  const bool has_one_key = config.boolean("multi_query", true) && !is_new;
  const std::int64_t key_heads = config.dimension("num_kv_heads", attention.num_heads);
  if (has_one_key) {
    attention.form = QkvForm::kStacked;
    attention.num_key_value_heads = 1;
  } else if (is_new ? attention.num_heads % key_heads != 0 : key_heads != attention.num_heads) {
    config.refuse("num_kv_heads",
                  "it must divide num_attention_heads; without "
                  "new_decoder_architecture it must be the same");
  } else {
    attention.num_key_value_heads = key_heads;
  }
  spec.ort_model_reads_key_value_heads = true;
  if (attention.num_key_value_heads != attention.num_heads && !has_one_key) {
    spec.cache_heads = attention.num_heads;
    spec.attend = [attention](GraphBuilder& g,
                              const Value& x,
                              DecoderInputs& inputs,
                              const SelfAttentionPlace& place) {
      return attend_repeated(g, x, inputs, attention, place);
    };
  }
}

void read_norms(const ModelConfig& config, DecoderSpec& spec, bool is_new) {
  const bool is_parallel = config.boolean("parallel_attn", true);
  const std::int64_t norms = config.integer("num_ln_in_parallel_attn", is_new ? 2 : 1);
  if (is_new && !is_parallel) {
    config.refuse("parallel_attn", "transformers has no such new_decoder_architecture");
  }
  if (is_parallel && norms != 1 && !(is_new && norms == 2)) {
    config.refuse("num_ln_in_parallel_attn", "transformers has no such layer");
  }
  if (is_parallel) {
    spec.residual = Residual::kParallel;
    spec.names.pre_attention_norm = norms == 2 ? "ln_attn" : "input_layernorm";
    spec.names.pre_mlp_norm = norms == 2 ? "ln_mlp" : "";
  }
}

void read_positions(const ModelConfig& config, DecoderSpec& spec) {
  if (!config.boolean("alibi", false)) {
    spec.ropes = {read_rope(config, spec.attention.head_dim, 10000.0)};
    return;
  }
  config.disregard("rope_theta");
  spec.position_input = PositionInput::kNo;
  spec.attention_bias = [attention = spec.attention](GraphBuilder& g, DecoderInputs& inputs) {
    return falcon_alibi(g, inputs, attention);
  };
}

std::vector<BuiltGraph> build_falcon(const BuildContext& context) {
  const ModelConfig& config = context.config;
  const bool is_new = config.boolean("new_decoder_architecture", false);
  DecoderSpec spec;
  spec.names = {.base = "transformer",
                .embedding = "word_embeddings",
                .layers = "h",
                .final_norm = "ln_f",
                .token_classifier = "classifier",
                .attention = "self_attention"};
  spec.vocab_size = config.dimension("vocab_size", 65024);
  spec.hidden_size = aliased_dimension(config, "hidden_size", "n_embed", 4544);
  spec.norm = {NormKind::kLayer, config.number("layer_norm_epsilon", 1e-5)};
  spec.is_tied = config.boolean("tie_word_embeddings", true);
  spec.layers = plain_layers(config.dimension("num_hidden_layers", 32));
  config.disregard("apply_residual_connection_post_layernorm");
  read_attention(config, spec, is_new);
  read_norms(config, spec, is_new);
  read_positions(config, spec);
  const Bias bias = config.boolean("bias", false) ? Bias::kYes : Bias::kNo;
  spec.attention.qkv_bias = spec.attention.output_bias = bias;
  spec.mlp = {.form = FeedForwardSpec::Form::kPlain,
              .hidden_size = spec.hidden_size,
              .intermediate_size = config.dimension("ffn_hidden_size", 4 * spec.hidden_size),
              .up_name = "dense_h_to_4h",
              .down_name = "dense_4h_to_h",
              .activation = read_activation(config, "activation", "gelu"),
              .bias = bias};
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kFalcon;
const Architecture kFalcon{.model_type = "falcon",
                           .tasks = kAllDecoderTasks,
                           .ignored_tensors = kDecoderIgnoredTensors,
                           .build = build_falcon};

}  // namespace onnxferry
