// MarkupLM (Li et al. 2021): BERT with RoBERTa's positions for the text of web pages. A further
// embedding says where in the page a token stands: its xpath's tags and subscripts, max_depth of
// each, through a small network.
//
// Peculiar: every depth has tables of its own; they are stacked here, so that one GatherND looks up
// all depths and still finds ids that are out of range. Optimum's inputs are xpath_tags_seq and
// xpath_subs_seq, [B, S, max_depth]. sentence-similarity is not offered: its tokenizers make no
// xpaths. Source: transformers/models/markuplm/modeling_markuplm.py.

#include <fmt/format.h>

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

struct XpathConfig {
  std::int64_t max_depth, tags, subscripts, unit_size;

  explicit XpathConfig(const ModelConfig& config)
      : max_depth(config.dimension("max_depth", 50)),
        tags(config.dimension("max_xpath_tag_unit_embeddings", 256)),
        subscripts(config.dimension("max_xpath_subs_unit_embeddings", 1024)),
        unit_size(config.dimension("xpath_unit_hidden_size", 32)) {
    config.disregard("tag_pad_id");  // the tokenizer's
    config.disregard("subs_pad_id");
  }
};

// ids [B, S, max_depth] → [max_depth, B, S, unit_size], each depth from its own table [rows,
// unit_size].
Value units(GraphBuilder& g,
            const XpathConfig& xpath,
            const Value& ids,
            const std::string& key,
            std::int64_t rows) {
  const std::int64_t size = xpath.unit_size;
  std::vector<Recipe> tables;
  for (std::int64_t depth = 0; depth < xpath.max_depth; ++depth) {
    const TensorInfo& table = g.tensor(fmt::format("{}.{}.weight", key, depth), {rows, size});
    tables.push_back(view(table, 0, {1, rows, size}, {rows * size, size, 1}));
  }
  const Value stacked =
      g.initializer(key + ".weight", cast(concat(std::move(tables)), Dtype::kFloat32));
  return g.GatherND(stacked, g.Unsqueeze(g.Transpose(ids, {2, 0, 1}), {3}), 1);
}

// Where each token stands, [B, S, hidden_size].
Value xpath_embeddings(GraphBuilder& g,
                       const BertConfig& config,
                       const XpathConfig& xpath,
                       const EncoderInputs& inputs) {
  const auto scope = g.scope("xpath_embeddings");
  const std::string key = config.prefix + "embeddings.xpath_embeddings";
  const Value tags =
      units(g, xpath, inputs.further.at(0), key + ".xpath_tag_sub_embeddings", xpath.tags);
  const Value subscripts =
      units(g, xpath, inputs.further.at(1), key + ".xpath_subs_sub_embeddings", xpath.subscripts);
  const std::int64_t path_size = xpath.max_depth * xpath.unit_size;
  const Value path =
      g.Reshape(g.Transpose(g.Add(tags, subscripts), {1, 2, 0, 3}), g.ints({0, 0, path_size}));
  const std::int64_t inner_size = 4 * config.hidden_size;
  const Value inner = g.Relu(project(g, path, key, "xpath_unitseq2_inner", path_size, inner_size));
  return project(g, inner, key, "inner2emb", inner_size, config.hidden_size);
}

Value embed(GraphBuilder& g,
            const BertConfig& config,
            const XpathConfig& xpath,
            const EncoderInputs& inputs) {
  const auto scope = g.scope("embeddings");
  const std::int64_t padding_id = config.source.integer("pad_token_id", 0);
  const Value sum = embedding_sum(
      g, config, inputs, {.positions = Positions::kFromIds, .padding_id = padding_id});
  return layer_norm(g,
                    g.Add(sum, xpath_embeddings(g, config, xpath, inputs)),
                    config.prefix + "embeddings.LayerNorm",
                    config.hidden_size,
                    config.layer_norm_eps);
}

std::vector<BuiltGraph> build_markuplm(const BuildContext& context) {
  const BertConfig config(context, "markuplm");
  const XpathConfig xpath(context.config);
  TextEncoder encoder = with_bert_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
    const auto scope = g.scope(config.scope);
    const Value x = embed(g, config, xpath, inputs);
    return bert_layers(g, config, config.layer(), x, padding_mask(g, inputs.attention_mask));
  });
  encoder.further_inputs = {{.name = "xpath_tags_seq", .axis = "max_depth"},
                            {.name = "xpath_subs_seq", .axis = "max_depth"}};
  return build_text_encoder(context, encoder);
}

constexpr std::string_view kTasks[] = {
    "feature-extraction", "text-classification", "token-classification", "question-answering"};
constexpr std::string_view kIgnoredTensors[] = {"*pooler.*",
                                                "classifier.*",
                                                "qa_outputs.*",
                                                "cls.*",
                                                "*embeddings.position_ids",
                                                "*xpath_unitseq2_embeddings.*"};  // never called

}  // namespace

extern const Architecture kMarkupLm;
const Architecture kMarkupLm{.model_type = "markuplm",
                             .tasks = kTasks,
                             .ignored_tensors = kIgnoredTensors,
                             .build = build_markuplm};

}  // namespace onnxferry
