// Nystromformer (Xiong et al. 2021): BERT whose attention adds a convolution of the values over the
// sequence, one kernel per head.
//
// Peculiar: the approximated attention that it is named for applies only where num_landmarks
// differs from segment_means_seq_len. It works for sequences of exactly segment_means_seq_len
// tokens and mixes the rows of a batch (one maximum scales all), so it is refused; the published
// checkpoints have 64 for both and attend to everything. Positions start at row 2 of their table;
// the convolution sees the values of padded neighbours, as in transformers. Source:
// transformers/models/nystromformer/modeling_nystromformer.py.

#include <cmath>
#include <optional>

#include "pipeline/architectures/bert_like.h"

namespace onnxferry {
namespace {

constexpr std::int64_t kFirstPosition = 2;
constexpr BertDefaults kDefaults{.vocab_size = 30000,
                                 .max_position_embeddings = 510,
                                 .layer_norm_eps = 1e-5,
                                 .hidden_act = "gelu_new"};

std::optional<std::int64_t> read_kernel(const ModelConfig& config) {
  const std::int64_t landmarks = config.integer("num_landmarks", 64);
  if (landmarks != config.integer("segment_means_seq_len", 64)) {
    config.refuse("num_landmarks",
                  "attention over landmarks (other than segment_means_seq_len) is not implemented");
  }
  const auto kernel = config.nullable_integer("conv_kernel_size", 65);
  if (kernel && (*kernel < 1 || *kernel % 2 == 0)) {
    config.refuse("conv_kernel_size", "an even kernel changes the sequence length");
  }
  config.disregard("inv_coeff_init_option");  // of the approximation
  return kernel;
}

// softmax(q · kᵀ / √d + mask) · v + convolution(v)
Value attention(GraphBuilder& g,
                const BertConfig& config,
                const Value& x,
                const std::string& key,
                const Value& mask,
                std::int64_t kernel) {
  const auto scope = g.scope("attention/self");
  const std::string module = key + ".attention.self";
  const std::int64_t size = config.hidden_size;
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t head_dim = size / heads;
  const auto projected = [&](std::string_view name) {
    return split_heads(g, project(g, x, module, name, size, size), heads, head_dim);
  };
  const Value root = g.float_scalar(std::sqrt(static_cast<float>(head_dim)));
  const Value query = g.Div(projected("query"), root);
  const Value scores = g.MatMul(query, g.Transpose(projected("key"), {0, 1, 3, 2}));
  const Value values = projected("value");
  const Value spread =
      g.Conv(values,
             g.weight(module + ".conv.weight", {heads, 1, kernel, 1}),
             nullptr,
             {.kernel = kernel, .padding = kernel / 2, .groups = heads, .trailing_axes = 1});
  const Value context = g.Add(g.MatMul(g.Softmax(g.Add(scores, mask)), values), spread);
  return g.Reshape(g.Transpose(context, {0, 2, 1, 3}), g.ints({0, 0, size}));
}

Value encode(GraphBuilder& g,
             const BertConfig& config,
             const EncoderInputs& inputs,
             std::optional<std::int64_t> kernel) {
  const auto scope = g.scope(config.scope);
  const Value x = bert_embeddings(g, config, inputs, {.first_position = kFirstPosition});
  const Value mask = padding_mask(g, inputs.attention_mask);
  const EncoderLayerSpec layer = config.layer();
  return bert_layers(g, config, layer, x, [&](const Value& input, const std::string& key) {
    return kernel ? attention(g, config, input, key, mask, *kernel)
                  : plain_attention(g, layer, input, key, mask);
  });
}

std::vector<BuiltGraph> build_nystromformer(const BuildContext& context) {
  const BertConfig config(context, "nystromformer", kDefaults);
  const auto kernel = read_kernel(config.source);
  TextEncoder encoder = with_bert_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
    return encode(g, config, inputs, kernel);
  });
  encoder.sequence = classification_head(config.hidden_size, config.activation);
  encoder.choice =
      first_token_pooling("pre_classifier", "pre_classifier", config.hidden_size, relu_activation);
  return build_text_encoder(context, encoder);
}

constexpr std::string_view kIgnoredTensors[] = {"cls.*",
                                                "classifier.*",
                                                "pre_classifier.*",
                                                "qa_outputs.*",
                                                "*embeddings.position_ids",
                                                "*embeddings.token_type_ids"};

}  // namespace

extern const Architecture kNystromformer;
const Architecture kNystromformer{.model_type = "nystromformer",
                                  .tasks = kTextEncoderTasks,
                                  .ignored_tensors = kIgnoredTensors,
                                  .build = build_nystromformer,
                                  .tasks_that_see_padding = kTextEncoderTasks};

}  // namespace onnxferry
