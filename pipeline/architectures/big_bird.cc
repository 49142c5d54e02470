// BigBird (Zaheer et al. 2020): BERT whose attention may be block_sparse: a block of block_size
// queries sees the first and the last block of keys, itself and its two neighbours; the first and
// the last block see and are seen by all.
//
// Peculiar: the random blocks are random in training only. In eval mode transformers takes block 0
// for every one of them, so that its keys count 1 + num_random_blocks times in the softmax: here
// one dense attention with log(1 + num_random_blocks) added to their scores, which has no gathered
// copies but costs what full attention does. Sequences of up to (5 + 2 · num_random_blocks) ·
// block_size tokens get full attention (there a transformers model changes for good; a graph
// cannot). Optimum traces one short sequence, so its exports know full attention only. No token
// type input; question-answering makes them from the first sep_token_id and takes 1e6 off the
// question's logits. Source: transformers/models/big_bird/modeling_big_bird.py.

#include <cmath>
#include <optional>

#include <fmt/format.h>

#include "pipeline/architectures/bert_like.h"
#include "pipeline/graph/heads.h"
#include "pipeline/graph/relative_position.h"

namespace onnxferry {
namespace {

constexpr BertDefaults kDefaults{
    .vocab_size = 50358, .max_position_embeddings = 4096, .hidden_act = "gelu_new"};

struct BigBirdConfig : BertConfig {
  bool is_sparse, has_bias, rescales_embeddings;
  std::int64_t block_size, num_random_blocks;

  explicit BigBirdConfig(const BuildContext& context)
      : BertConfig(context, "bert", kDefaults),
        is_sparse(source.text("attention_type", "block_sparse") == "block_sparse"),
        has_bias(source.boolean("use_bias", true)),
        rescales_embeddings(source.boolean("rescale_embeddings", false)),
        block_size(source.dimension("block_size", 64)),
        num_random_blocks(source.integer("num_random_blocks", 3)) {
    if (!is_sparse && source.text("attention_type", "") != "original_full") {
      source.refuse("attention_type", "known types are original_full and block_sparse");
    }
    if (num_random_blocks < 0) {
      source.refuse("num_random_blocks", "it is a count");
    }
  }
};

struct SparseMasks {
  Value scores;   // [B, 1, S, S], additive
  Value queries;  // [B, S, 1], 0 where a padded query sees nothing, else 1
};

// block_sparse as a mask: log(1 + num_random_blocks) for the keys that random blocks repeat, 0 for
// others that a query sees, lowest elsewhere.
SparseMasks sparse_masks(GraphBuilder& g,
                         const BigBirdConfig& config,
                         const EncoderInputs& inputs) {
  const auto scope = g.scope("encoder/block_sparse");
  const auto [rows, columns] = position_ranges(g, inputs.input_ids);
  const Value size = g.int_scalar(config.block_size);
  const Value query_block = g.Div(rows, size);   // [S, 1]
  const Value key_block = g.Div(columns, size);  // [S]
  const Value last_block = g.ReduceMax(key_block);
  const Value first_block = g.int_scalar(0);
  const auto is_global = [&](const Value& block) {
    return g.Or(g.Equal(block, first_block), g.Equal(block, last_block));
  };
  const std::int64_t longest_full = (5 + 2 * config.num_random_blocks) * config.block_size;
  const Value is_short =
      g.LessOrEqual(g.Shape(inputs.input_ids, 1, 2), g.ints({longest_full}));  // [1]
  const Value sees_all = g.Or(is_global(query_block), is_short);               // [S, 1]
  const Value near = g.LessOrEqual(g.Abs(g.Sub(query_block, key_block)), g.int_scalar(1));
  const Value visible = g.Or(sees_all, g.Or(is_global(key_block), near));  // [S, S]
  const Value repeats = g.And(g.Equal(key_block, first_block), g.Not(sees_all));
  const auto weight = static_cast<float>(std::log1p(static_cast<double>(config.num_random_blocks)));
  const Value bias = g.Where(repeats, g.float_scalar(weight), g.float_scalar(0.0F));
  const Value real = g.Cast(inputs.attention_mask, Dtype::kBool);
  const Value scores = g.Where(g.And(g.Unsqueeze(real, {1, 2}), visible), bias, g.lowest());
  return {scores, g.Cast(g.Unsqueeze(g.Or(real, is_short), {2}), Dtype::kFloat32)};
}

EncoderLayerSpec layer_spec(const BigBirdConfig& config) {
  EncoderLayerSpec layer = config.layer();
  if (!config.has_bias) {
    layer.project = [keys = layer.keys](GraphBuilder& g,
                                        const Value& x,
                                        std::string_view key,
                                        std::string_view name,
                                        std::int64_t in,
                                        std::int64_t out) {
      const bool is_plain = name == keys.query || name == keys.key || name == keys.value;
      const auto scope = g.scope(module_path(name));
      return linear(
          g, x, fmt::format("{}.{}", key, name), in, out, is_plain ? Bias::kNo : Bias::kYes);
    };
  }
  return layer;
}

Value encode(GraphBuilder& g, const BigBirdConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  BertEmbeddings embeddings;
  if (config.rescales_embeddings) {
    embeddings.scale_words = [&](GraphBuilder& builder, const Value& words) {
      const auto root = std::sqrt(static_cast<double>(config.hidden_size));
      return builder.Mul(words, builder.float_scalar(static_cast<float>(root)));
    };
  }
  const Value x = bert_embeddings(g, config, inputs, embeddings);
  const EncoderLayerSpec layer = layer_spec(config);
  if (!config.is_sparse) {
    return bert_layers(g, config, layer, x, padding_mask(g, inputs.attention_mask));
  }
  const SparseMasks masks = sparse_masks(g, config, inputs);
  return bert_layers(g, config, layer, x, [&](const Value& input, const std::string& key) {
    return g.Mul(plain_attention(g, layer, input, key, masks.scores), masks.queries);
  });
}

// Up to and including the first sep_token_id (without one: the first token), [B, S] bool.
Value question_tokens(GraphBuilder& g, const BigBirdConfig& config, const Value& input_ids) {
  const auto scope = g.scope("question");
  const Value token = g.int_scalar(config.source.integer("sep_token_id", 66));
  const Value is_end = g.Cast(g.Equal(input_ids, token), Dtype::kFloat32);
  return g.LessOrEqual(position_ranges(g, input_ids).columns, g.ArgMax(is_end, 1));
}

// The linear layer behind one more feed-forward block; the question's tokens, but not the first
// token, are no answers.
void spans(GraphBuilder& g,
           const BigBirdConfig& config,
           const Value& x,
           const Value& input_ids,
           const Value& is_question) {
  const auto scope = g.scope("qa_classifier");
  const std::string key = "qa_classifier";
  const std::int64_t size = config.hidden_size;
  const std::int64_t wide = config.intermediate_size;
  const Value widened = config.activation(g, project(g, x, key, "intermediate.dense", size, wide));
  const Value sum = g.Add(project(g, widened, key, "output.dense", wide, size), x);
  const Value y = layer_norm(g, sum, key + ".output.LayerNorm", size, config.layer_norm_eps);
  const Value is_later = g.Greater(position_ranges(g, input_ids).columns, g.int_scalar(0));
  const Value scores = project(g, y, key, "qa_outputs", size, 2);
  const auto keep = g.float32_scope("");  // half precision has no 1e6
  const Value penalty =
      g.Where(g.And(is_question, is_later), g.float_scalar(1e6F), g.float_scalar(0.0F));
  span_outputs(g, g.Sub(scores, g.Unsqueeze(penalty, {2})));
}

std::vector<BuiltGraph> build_big_bird(const BuildContext& context) {
  const BigBirdConfig config(context);
  std::optional<Value> is_question;
  TextEncoder encoder = with_bert_heads(config, [&](GraphBuilder& g, EncoderInputs inputs) {
    if (context.task == "question-answering") {
      if (config.type_vocab_size < 2) {
        context.config.refuse("type_vocab_size",
                              "question-answering has two types of tokens, question and context");
      }
      is_question = question_tokens(g, config, inputs.input_ids);
      inputs.token_type_ids = g.Cast(g.Not(*is_question), Dtype::kInt64);
    }
    return encode(g, config, inputs);
  });
  encoder.has_token_types = false;
  encoder.sequence = classification_head(config.hidden_size, config.activation);
  encoder.choice = first_token_pooling(
      config.prefix + "pooler", config.scope + "/pooler", config.hidden_size, tanh_activation);
  encoder.span_classifier = "qa_classifier.qa_outputs";
  encoder.spans = [&](GraphBuilder& g, const Value& x, const EncoderInputs& inputs) {
    spans(g, config, x, inputs.input_ids, *is_question);
  };
  return build_text_encoder(context, encoder);
}

constexpr std::string_view kIgnoredTensors[] = {"*pooler.*",
                                                "cls.*",
                                                "classifier.*",
                                                "qa_classifier.*",
                                                "*embeddings.position_ids",
                                                "*embeddings.token_type_ids"};

}  // namespace

extern const Architecture kBigBird;
const Architecture kBigBird{.model_type = "big_bird",
                            .tasks = kTextEncoderTasks,
                            .ignored_tensors = kIgnoredTensors,
                            .build = build_big_bird};

}  // namespace onnxferry
