// XLM (Lample and Conneau 2019) and FlauBERT (Le et al. 2020): BERT's encoder with the key names of
// Facebook's XLM; FlauBERT may normalize in front of its blocks (pre_norm).
//
// Peculiar: a token's type is looked up among the words, and without types nothing is added; the
// feed-forward size is always 4 · emb_dim; the text classifier is the projection of the
// SequenceSummary. Sinusoidal positions are a tensor of the checkpoint as learned ones are. Neither
// Optimum nor we have an input for languages: lang_embeddings is not used, as if langs was not
// given. question-answering is the …ForQuestionAnsweringSimple classes'. Source:
// transformers/models/{xlm,flaubert}/modeling_*.py.

#include <fmt/format.h>

#include "pipeline/architectures/encoder.h"
#include "pipeline/graph/attention.h"
#include "pipeline/graph/heads.h"

namespace onnxferry {
namespace {

constexpr std::string_view kSummary = "sequence_summary.summary";

struct XlmConfig {
  const ModelConfig& source;
  std::string prefix;
  std::int64_t n_words, emb_dim, n_layers, n_heads, max_position_embeddings;
  double layer_norm_eps;
  Activation activation;
  bool pre_norm;

  explicit XlmConfig(const BuildContext& context)
      : source(context.config),
        n_words(source.dimension("n_words", source.dimension("vocab_size", 30145))),
        emb_dim(source.dimension("emb_dim", 2048)),
        n_layers(source.dimension("n_layers", 12)),
        n_heads(source.dimension("n_heads", 16)),
        max_position_embeddings(source.dimension("max_position_embeddings", 512)),
        layer_norm_eps(source.number("layer_norm_eps", 1e-12)),
        activation(source.boolean("gelu_activation", true) ? gelu : relu_activation),
        pre_norm(false) {
    prefix = context.tensors.find("transformer.embeddings.weight") != nullptr ? "transformer." : "";
    if (emb_dim % n_heads != 0) {
      source.refuse("n_heads", "it must divide emb_dim");
    }
    if (source.boolean("causal", false)) {
      source.refuse("causal", "causal attention is not implemented");
    }
    if (!source.boolean("is_encoder", true)) {
      source.refuse("is_encoder", "only encoders are implemented");
    }
    // Training, generation, and what is said above.
    for (const std::string_view key : {"bos_index",
                                       "eos_index",
                                       "pad_index",
                                       "unk_index",
                                       "mask_index",
                                       "mask_token_id",
                                       "lang_id",
                                       "lang2id",
                                       "id2lang",
                                       "n_langs",
                                       "use_lang_emb",
                                       "embed_init_std",
                                       "sinusoidal_embeddings",
                                       "start_n_top",
                                       "end_n_top",
                                       "summary_first_dropout"}) {
      source.disregard(key);
    }
  }

  [[nodiscard]] std::string key(std::string_view name) const {
    return fmt::format("{}{}", prefix, name);
  }
};

Value norm(GraphBuilder& g, const XlmConfig& config, const Value& x, const std::string& name) {
  const auto scope = g.scope(module_path(name));
  return layer_norm(g, x, config.key(name), config.emb_dim, config.layer_norm_eps);
}

Value attention(GraphBuilder& g,
                const XlmConfig& config,
                const Value& x,
                const std::string& name,
                const Value& mask) {
  const auto scope = g.scope(module_path(name));
  const std::int64_t size = config.emb_dim;
  const auto projected = [&](const Value& input, std::string_view part) {
    const auto inner = g.scope(part);
    const std::string key = config.key(fmt::format("{}.{}", name, part));
    return linear(g, input, key, size, size, Bias::kYes);
  };
  const Value query = projected(x, "q_lin");
  const Value keys = projected(x, "k_lin");
  const Value values = projected(x, "v_lin");
  const AttentionSpec spec{.num_heads = config.n_heads,
                           .num_key_value_heads = config.n_heads,
                           .head_dim = size / config.n_heads,
                           .scale_on = ScaleOn::kQuery};
  return projected(encoder_attention(g, query, keys, values, mask, spec), "out_lin");
}

Value feed_forward(GraphBuilder& g,
                   const XlmConfig& config,
                   const Value& x,
                   const std::string& name) {
  const auto scope = g.scope(module_path(name));
  const std::int64_t wide = 4 * config.emb_dim;
  const std::string key = config.key(name);
  const Value y = linear(g, x, key + ".lin1", config.emb_dim, wide, Bias::kYes);
  return linear(g, config.activation(g, y), key + ".lin2", wide, config.emb_dim, Bias::kYes);
}

Value embeddings(GraphBuilder& g, const XlmConfig& config, const EncoderInputs& inputs) {
  const std::string words = config.key("embeddings");
  const Value table = g.weight(config.key("position_embeddings.weight"),
                               {config.max_position_embeddings, config.emb_dim});
  const Value positions = g.Slice(table, g.ints({0}), g.Shape(inputs.input_ids, 1, 2));
  Value x = g.Add(embedding(g, inputs.input_ids, words, config.n_words, config.emb_dim), positions);
  if (inputs.token_type_ids) {
    x = g.Add(x, embedding(g, *inputs.token_type_ids, words, config.n_words, config.emb_dim));
  }
  return norm(g, config, x, "layer_norm_emb");
}

// transformers makes padded positions zero after every layer; nothing reads them in between.
Value encode(GraphBuilder& g, const XlmConfig& config, const EncoderInputs& inputs) {
  const auto scope = g.scope("transformer");
  Value x = embeddings(g, config, inputs);
  const Value mask = padding_mask(g, inputs.attention_mask);
  for (std::int64_t i = 0; i < config.n_layers; ++i) {
    const auto attend = [&](const Value& input) {
      return attention(g, config, input, fmt::format("attentions.{}", i), mask);
    };
    const auto forward = [&](const Value& input) {
      return feed_forward(g, config, input, fmt::format("ffns.{}", i));
    };
    const std::string first = fmt::format("layer_norm1.{}", i);
    const std::string second = fmt::format("layer_norm2.{}", i);
    if (config.pre_norm) {
      x = g.Add(x, attend(norm(g, config, x, first)));
      x = g.Add(x, forward(norm(g, config, x, second)));
    } else {
      x = norm(g, config, g.Add(x, attend(x)), first);
      x = norm(g, config, g.Add(x, forward(x)), second);
    }
  }
  return g.Mul(x, g.Unsqueeze(g.Cast(inputs.attention_mask, Dtype::kFloat32), {2}));
}

// The first token is summarized as num_labels scores; multiple-choice has one more layer on them.
void add_summary(TextEncoder& encoder, const BuildContext& context, const XlmConfig& config) {
  if (config.source.text("summary_type", "first") != "first") {
    config.source.refuse("summary_type", "only the first token's summary is implemented");
  }
  for (const std::string_view key : {"summary_use_proj", "summary_proj_to_labels"}) {
    if (!config.source.boolean(key, true)) {
      config.source.refuse(key, "only projections to the labels are implemented");
    }
  }
  if (config.source.has("summary_activation")) {
    config.source.refuse("summary_activation", "only summaries without one are implemented");
  }
  const auto first_token = [](GraphBuilder& g, const Value& x, const EncoderInputs&) {
    return g.Gather(x, g.int_scalar(0), 1);
  };
  const std::int64_t labels = context.config.num_labels();
  const std::int64_t size = config.emb_dim;
  encoder.sequence = {.build = first_token, .classifier = std::string(kSummary)};
  encoder.choice = {.build =
                        [=](GraphBuilder& g, const Value& x, const EncoderInputs& inputs) {
                          const auto scope = g.scope("sequence_summary");
                          return dense(
                              g, first_token(g, x, inputs), kSummary, size, labels, Bias::kYes);
                        },
                    .tensor = fmt::format("{}.weight", kSummary),
                    .classifier = "logits_proj",
                    .size = labels};
}

void masked_lm(GraphBuilder& g, const XlmConfig& config, const Value& x, const Value& input_ids) {
  if (config.source.boolean("asm", false)) {
    config.source.refuse("asm", "the adaptive softmax is not implemented");
  }
  const std::string words = config.key("embeddings");
  const auto scope = g.scope("pred_layer/proj");
  masked_lm_head(g,
                 x,
                 input_ids,
                 {.table_key = words,
                  .decoder_key = "pred_layer.proj",
                  .bias_key = "pred_layer.proj.bias",
                  .is_tied = config.source.boolean("tie_word_embeddings", true)},
                 config.emb_dim,
                 config.n_words);
}

std::vector<BuiltGraph> build(const BuildContext& context, const XlmConfig& config) {
  TextEncoder encoder{
      .hidden_size = config.emb_dim,
      // sentence-similarity has no such input, and types of 0 would not be the same as none
      .has_token_types = context.task != "sentence-similarity",
      .encode = [&](GraphBuilder& g, const EncoderInputs& in) { return encode(g, config, in); },
      .masked_lm =
          [&](GraphBuilder& g, const Value& x, const Value& ids) { masked_lm(g, config, x, ids); },
      .masked_lm_tensor = "pred_layer.proj.bias"};
  if (context.task == "text-classification" || context.task == "multiple-choice") {
    add_summary(encoder, context, config);
  }
  return build_text_encoder(context, encoder);
}

std::vector<BuiltGraph> build_xlm(const BuildContext& context) {
  return build(context, XlmConfig(context));
}
std::vector<BuiltGraph> build_flaubert(const BuildContext& context) {
  XlmConfig config(context);
  config.pre_norm = config.source.boolean("pre_norm", false);
  return build(context, config);
}

constexpr std::string_view kIgnoredTensors[] = {"pred_layer.*",
                                                "sequence_summary.*",
                                                "logits_proj.*",
                                                "classifier.*",
                                                "qa_outputs.*",
                                                "*lang_embeddings.weight",
                                                "*position_ids"};

}  // namespace

extern const Architecture kFlaubert, kXlm;
const Architecture kFlaubert{.model_type = "flaubert",
                             .tasks = kTextEncoderTasks,
                             .ignored_tensors = kIgnoredTensors,
                             .build = build_flaubert};
const Architecture kXlm{.model_type = "xlm",
                        .tasks = kTextEncoderTasks,
                        .ignored_tensors = kIgnoredTensors,
                        .build = build_xlm};

}  // namespace onnxferry
