#include "pipeline/architectures/decoder.h"

#include <map>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/graph/heads.h"

namespace onnxferry {
namespace {

/// What a whole walk through the layers shares.
struct Walk {
  GraphBuilder& g;
  const DecoderSpec& spec;
  DecoderInputs& inputs;
  std::string base;                     // "model." or ""
  std::vector<RotaryTables> rotary;     // by DecoderSpec::ropes
  std::map<std::int64_t, Value> masks;  // by window
};

Value scaled(GraphBuilder& g, const Value& x, double factor) {
  return factor == 1.0 ? x : g.Mul(x, g.float_scalar(static_cast<float>(factor)));
}

Value norm(const Walk& walk, const Value& x, std::string_view name, const std::string& parent) {
  if (name.empty()) {
    return x;
  }
  const auto scope = walk.g.scope(name);
  return normalize(
      walk.g, x, fmt::format("{}{}", parent, name), walk.spec.hidden_size, walk.spec.norm);
}

Value attention_block(Walk& walk, const Value& x, std::size_t index, const std::string& parent) {
  const auto scope = walk.g.scope(module_path(walk.spec.names.attention));
  const DecoderLayer& layer = walk.spec.layers[index];
  const bool rotates = layer.rope != kNoRope && !walk.rotary.empty();
  const SelfAttentionPlace place{
      .key = fmt::format("{}{}", parent, walk.spec.names.attention),
      .layer = index,
      .rotary = rotates ? &walk.rotary.at(static_cast<std::size_t>(layer.rope)) : nullptr,
      .mask = &walk.masks.at(layer.window)};
  return walk.spec.attend ? walk.spec.attend(walk.g, x, walk.inputs, place)
                          : self_attention(walk.g, x, walk.inputs, walk.spec.attention, place);
}

Value feed_forward_block(Walk& walk, const Value& x, std::size_t index, const std::string& parent) {
  const auto scope = walk.g.scope(walk.spec.names.mlp);
  const std::string key = walk.spec.names.mlp.empty()
                              ? parent.substr(0, parent.size() - 1)
                              : fmt::format("{}{}", parent, walk.spec.names.mlp);
  return walk.spec.feed_forward ? walk.spec.feed_forward(walk.g, x, index, key)
                                : feed_forward(walk.g, x, walk.spec.mlp, key);
}

Value layer(Walk& walk, const Value& x, std::size_t index) {
  const DecoderNames& names = walk.spec.names;
  const auto scope = walk.g.scope(fmt::format("{}.{}", names.layers, index));
  const std::string key = fmt::format("{}{}.{}.", walk.base, names.layers, index);
  const auto add = [&](const Value& stream, const Value& result) {
    return walk.g.Add(stream, scaled(walk.g, result, walk.spec.residual_multiplier));
  };
  if (walk.spec.residual == Residual::kNormAfter) {
    const Value attended =
        norm(walk, add(x, attention_block(walk, x, index, key)), names.pre_attention_norm, key);
    return norm(walk,
                add(attended, feed_forward_block(walk, attended, index, key)),
                names.pre_mlp_norm,
                key);
  }
  const bool has_norm = walk.spec.layers[index].has_attention_norm;
  const Value normed = has_norm ? norm(walk, x, names.pre_attention_norm, key) : x;
  const Value attended =
      norm(walk, attention_block(walk, normed, index, key), names.post_attention_norm, key);
  if (walk.spec.residual == Residual::kParallel) {
    const Value input =
        names.pre_mlp_norm.empty() ? normed : norm(walk, x, names.pre_mlp_norm, key);
    const Value widened = feed_forward_block(walk, input, index, key);
    return add(add(x, attended), norm(walk, widened, names.post_mlp_norm, key));
  }
  const bool from_norm = walk.spec.residual == Residual::kFromNorm;
  const Value stream = add(from_norm ? normed : x, attended);
  const Value input = norm(walk, stream, names.pre_mlp_norm, key);
  const Value widened = feed_forward_block(walk, input, index, key);
  return add(from_norm ? input : stream, norm(walk, widened, names.post_mlp_norm, key));
}

void build_masks(Walk& walk) {
  std::optional<Value> bias;
  if (walk.spec.attention_bias) {
    bias = walk.spec.attention_bias(walk.g, walk.inputs);
  }
  for (const DecoderLayer& layer : walk.spec.layers) {
    if (walk.masks.contains(layer.window)) {
      continue;
    }
    walk.masks.emplace(layer.window,
                       causal_mask(walk.g,
                                   walk.inputs.attention_mask,
                                   walk.inputs.sequence_length,
                                   walk.inputs.total_length,
                                   {layer.window, bias}));
  }
}

/// Whether the graph's head reads the embedding's table: then both share the transposed one.
bool shares_table(const DecoderSpec& spec, std::string_view task) {
  return spec.is_tied && task == "text-generation";
}

std::int64_t embedding_size(const DecoderSpec& spec) {
  return spec.embedding_size > 0 ? spec.embedding_size : spec.hidden_size;
}

Value embed(Walk& walk, std::string_view task) {
  const DecoderSpec& spec = walk.spec;
  const std::string key = fmt::format("{}{}", walk.base, spec.names.embedding);
  const std::int64_t size = embedding_size(spec);
  const Value words = [&] {
    const auto scope = walk.g.scope(module_path(spec.names.embedding));
    const Value& ids = walk.inputs.input_ids;
    return scaled(walk.g,
                  shares_table(spec, task) ? tied_embedding(walk.g, ids, key, spec.vocab_size, size)
                                           : embedding(walk.g, ids, key, spec.vocab_size, size),
                  spec.embedding_multiplier);
  }();
  return spec.after_embedding ? spec.after_embedding(walk.g, walk.inputs, words, walk.base) : words;
}

/// Hidden state [B, S, H] behind the last norm.
Value hidden_state(Walk& walk, std::string_view task) {
  GraphBuilder& g = walk.g;
  const auto scope = g.scope(module_path(walk.spec.names.base));
  for (const RopeConfig& rope : walk.spec.ropes) {
    walk.rotary.push_back(
        rotary_tables(g, rope, walk.inputs.position_ids(), walk.spec.rotary_layout));
  }
  build_masks(walk);
  Value x = embed(walk, task);
  for (std::size_t i = 0; i < walk.spec.layers.size(); ++i) {
    x = layer(walk, x, i);
  }
  x = norm(walk, x, walk.spec.names.final_norm, walk.base);
  return walk.spec.after_layers ? walk.spec.after_layers(g, x, walk.base) : x;
}

void language_model_head(const Walk& walk, const Value& hidden_state) {
  GraphBuilder& g = walk.g;
  const DecoderSpec& spec = walk.spec;
  const Value x =
      spec.before_head ? spec.before_head(g, hidden_state, "text-generation") : hidden_state;
  const auto scope = g.scope(spec.names.head);
  const std::int64_t size = embedding_size(spec);
  const std::string key = spec.is_tied ? fmt::format("{}{}", walk.base, spec.names.embedding)
                                       : std::string(spec.names.head);
  Value logits = linear(g, x, key, size, spec.vocab_size, Bias::kNo);
  if (spec.head_bias == Bias::kYes) {
    logits = g.Add(logits, g.weight(fmt::format("{}.bias", spec.names.head), {spec.vocab_size}));
  }
  logits = scaled(g, logits, spec.logits_multiplier);
  if (spec.logits_softcap > 0) {
    const Value cap = g.float_scalar(static_cast<float>(spec.logits_softcap));
    logits = g.Mul(g.Tanh(g.Div(logits, cap)), cap);
  }
  g.output("logits", logits, {"batch_size", "sequence_length", spec.vocab_size});
}

/// Padding in input_ids tells which token is the last. null is a choice, for rows of one length.
std::int64_t pad_token_id(const DecoderSpec& spec, const ModelConfig& config) {
  constexpr std::string_view kKey = "pad_token_id";
  const auto found = config.find_integer(kKey);
  const auto id = found || config.is_null(kKey) ? found : spec.pad_token_id;
  if (!id) {
    config.refuse(
        kKey,
        "classification of batches needs it; add the tokenizer's pad token id to config.json");
  }
  return *id;
}

void sequence_classifier(const Walk& walk, const BuildContext& context, const Value& x) {
  GraphBuilder& g = walk.g;
  const DecoderSpec& spec = walk.spec;
  const std::string_view head = spec.names.sequence_classifier;
  context.require_head(fmt::format("{}.weight", head));
  const std::string bias = fmt::format("{}.bias", head);
  if (spec.sequence_classifier_bias == Bias::kNo && g.has_tensor(bias)) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("the checkpoint has {}: its head classifies tokens, not sequences; ask "
                            "for task token-classification",
                            bias),
                bias);
  }
  const std::int64_t num_labels = context.config.num_labels();
  const std::int64_t pad = pad_token_id(spec, spec.text_config.value_or(context.config));
  Value pooled = last_token(g, x, walk.inputs, pad, spec.classified_token);
  if (spec.before_head) {
    pooled = spec.before_head(g, pooled, "text-classification");
  }
  const auto scope = g.scope(head);
  g.output("logits",
           dense(g, pooled, head, embedding_size(spec), num_labels, spec.sequence_classifier_bias),
           {"batch_size", num_labels});
}

CacheShape cache_shape(const DecoderSpec& spec) {
  const SelfAttentionSpec& attention = spec.attention;
  const auto or_else = [](std::int64_t own, std::int64_t usual) { return own > 0 ? own : usual; };
  CacheShape cache{.num_layers = static_cast<std::int64_t>(spec.layers.size()),
                   .num_key_value_heads = or_else(spec.cache_heads, attention.num_key_value_heads),
                   .head_dim = or_else(spec.cache_key_dim, attention.head_dim),
                   .value_head_dim = or_else(spec.cache_value_dim, attention.head_dim)};
  const std::int64_t ort_model_heads =
      spec.ort_model_reads_key_value_heads ? attention.num_key_value_heads : attention.num_heads;
  const bool heads_match = cache.num_key_value_heads == ort_model_heads;
  const bool size_matches =
      spec.ort_model_reads_head_dim || cache.head_dim == spec.hidden_size / attention.num_heads;
  cache.matches_ort_model = heads_match && size_matches;
  return cache;
}

/// The base module's prefix as the checkpoint has it: "model.decoder.", "decoder." or "".
std::string stored_base(const GraphBuilder& g, const DecoderNames& names, std::string_view task) {
  const auto has_embedding = [&](std::string_view base) {
    return g.has_tensor(fmt::format("{}{}.weight", base, names.embedding));
  };
  std::string base = fmt::format("{}.", names.base);
  while (!base.empty() && !has_embedding(base)) {
    base.erase(0, base.find('.') + 1);
  }
  constexpr std::string_view kQuestionAnsweringBase = "transformer.";
  const bool is_renamed =
      base.empty() && task == "question-answering" && has_embedding(kQuestionAnsweringBase);
  return is_renamed ? std::string(kQuestionAnsweringBase) : base;
}

}  // namespace

std::vector<BuiltGraph> build_decoder(const BuildContext& context, const DecoderSpec& spec) {
  const std::string_view task = context.base_task();
  GraphBuilder g(context.tensors, context.opset);
  DecoderInputs inputs(g,
                       cache_shape(spec),
                       context.has_past() ? PastInputs::kYes : PastInputs::kNo,
                       task == "text-generation" || task == "feature-extraction"
                           ? spec.position_input
                           : spec.classifier_positions);
  Walk walk{.g = g, .spec = spec, .inputs = inputs, .base = stored_base(g, spec.names, task)};
  const Value x = hidden_state(walk, task);
  if (task == "feature-extraction") {
    hidden_state_output(g, x, embedding_size(spec));
  } else if (task == kSentenceSimilarity) {
    sentence_outputs(g, context, x, inputs.attention_mask, embedding_size(spec));
  } else if (task == "text-classification") {
    sequence_classifier(walk, context, x);
  } else if (task == "token-classification") {
    const std::string_view head = spec.names.token_classifier;
    context.require_head(fmt::format("{}.weight", head));
    token_classification_head(g, x, head, embedding_size(spec), context.config.num_labels());
  } else if (task == "question-answering") {
    context.require_head("qa_outputs.weight");
    question_answering_head(g, x, "qa_outputs", embedding_size(spec));
  } else {
    EXPORT_CHECK(task == "text-generation", "a decoder has no such task");
    if (!spec.is_tied) {
      context.require_head(fmt::format("{}.weight", spec.names.head));
    }
    language_model_head(walk, x);
  }
  inputs.declare_cache_outputs();
  std::vector<BuiltGraph> graphs;
  graphs.push_back({"model.onnx", std::move(g).finish()});
  return graphs;
}

}  // namespace onnxferry
