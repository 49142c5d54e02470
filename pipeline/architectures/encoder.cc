#include "pipeline/architectures/encoder.h"

#include <fmt/format.h>

#include "pipeline/architectures/sentence.h"
#include "pipeline/graph/heads.h"

namespace onnxferry {
namespace {

void require_pooling(const BuildContext& context, const Pooling& pooling) {
  context.require_head(pooling.classifier + ".weight");
  if (!pooling.tensor.empty()) {
    context.require_head(pooling.tensor);
  }
}

void require_heads(const BuildContext& context, const TextEncoder& encoder) {
  if (context.task == "fill-mask") {
    context.require_head(encoder.masked_lm_tensor);
  } else if (context.task == "question-answering") {
    context.require_head(encoder.span_classifier + ".weight");
  } else if (context.task == "token-classification") {
    context.require_head("classifier.weight");
  } else if (context.task == "text-classification") {
    require_pooling(context, encoder.sequence);
  } else if (context.task == "multiple-choice") {
    require_pooling(context, encoder.choice);
  }
}

EncoderInputs declare_inputs(GraphBuilder& g, const TextEncoder& encoder, const Dims& dims) {
  EncoderInputs inputs{.input_ids = g.input("input_ids", Dtype::kInt64, dims),
                       .attention_mask = g.input("attention_mask", Dtype::kInt64, dims)};
  if (encoder.has_token_types) {
    inputs.token_type_ids = g.input("token_type_ids", Dtype::kInt64, dims);
  }
  for (const FurtherInput& further : encoder.further_inputs) {
    Dims all = dims;
    if (!further.axis.empty()) {
      all.emplace_back(further.axis);
    }
    inputs.further.push_back(g.input(further.name, Dtype::kInt64, all));
  }
  return inputs;
}

std::int64_t width(const TextEncoder& encoder, const Pooling& pooling) {
  return pooling.size > 0 ? pooling.size : encoder.hidden_size;
}

// [B, C, S] → [B · C, S], and back for the scores.
void multiple_choice(GraphBuilder& g, const TextEncoder& encoder) {
  const EncoderInputs inputs =
      declare_inputs(g, encoder, {"batch_size", "num_choices", "sequence_length"});
  const Value num_choices = g.Shape(inputs.input_ids, 1, 2);
  const Value shape = g.Concat({g.ints({-1}), g.Shape(inputs.input_ids, 2, 3)}, 0);
  EncoderInputs flat{.input_ids = g.Reshape(inputs.input_ids, shape),
                     .attention_mask = g.Reshape(inputs.attention_mask, shape)};
  if (inputs.token_type_ids) {
    flat.token_type_ids = g.Reshape(*inputs.token_type_ids, shape);
  }
  for (const Value& further : inputs.further) {
    flat.further.push_back(g.Reshape(further, shape));
  }
  const Pooling& pooling = encoder.choice;
  const Value pooled = pooling.build(g, encoder.encode(g, flat), flat);
  multiple_choice_head(g, pooled, num_choices, pooling.classifier, width(encoder, pooling));
}

// Token types are no input of this task: all tokens are of the first type. Nor is anything further.
void sentence_similarity(GraphBuilder& g, const TextEncoder& encoder, const BuildContext& context) {
  const Dims dims = {"batch_size", "sequence_length"};
  EncoderInputs inputs{.input_ids = g.input("input_ids", Dtype::kInt64, dims),
                       .attention_mask = g.input("attention_mask", Dtype::kInt64, dims)};
  if (encoder.has_token_types) {
    inputs.token_type_ids = g.Sub(inputs.input_ids, inputs.input_ids);
  }
  const Value x = encoder.encode(g, inputs);
  sentence_outputs(g, context, x, inputs.attention_mask, encoder.hidden_size);
}

void single_sequence(GraphBuilder& g, const TextEncoder& encoder, const BuildContext& context) {
  const EncoderInputs inputs = declare_inputs(g, encoder, {"batch_size", "sequence_length"});
  const Value x = encoder.encode(g, inputs);
  const std::int64_t hidden_size = encoder.hidden_size;
  const auto tokens = [&] { return encoder.token_transform ? encoder.token_transform(g, x) : x; };
  if (context.task == "feature-extraction") {
    hidden_state_output(g, x, hidden_size);
  } else if (context.task == "fill-mask") {
    encoder.masked_lm(g, x, inputs.input_ids);
  } else if (context.task == "question-answering" && encoder.spans) {
    encoder.spans(g, x, inputs);
  } else if (context.task == "question-answering") {
    question_answering_head(g, tokens(), encoder.span_classifier, hidden_size);
  } else if (context.task == "token-classification") {
    token_classification_head(g, tokens(), "classifier", hidden_size, context.config.num_labels());
  } else {
    const Pooling& pooling = encoder.sequence;
    const Value pooled = pooling.build(g, x, inputs);
    text_classification_head(
        g, pooled, pooling.classifier, width(encoder, pooling), context.config.num_labels());
  }
}

}  // namespace

Pooling first_token_pooling(std::string key,
                            std::string scope,
                            std::int64_t hidden_size,
                            Activation activation) {
  const std::string tensor = key + ".weight";
  const auto build = [key = std::move(key), scope = std::move(scope), hidden_size, activation](
                         GraphBuilder& g, const Value& hidden_state, const EncoderInputs&) {
    const auto guard = g.scope(scope);
    const Value first = g.Gather(hidden_state, g.int_scalar(0), 1);
    return activation(g, dense(g, first, key, hidden_size, hidden_size, Bias::kYes));
  };
  return {.build = build, .tensor = tensor};
}

Pooling classification_head(std::int64_t hidden_size, Activation activation) {
  Pooling head = first_token_pooling("classifier.dense", "classifier", hidden_size, activation);
  head.classifier = "classifier.out_proj";
  return head;
}

Value mean_of_tokens(GraphBuilder& g, const Value& hidden_state, const Value& attention_mask) {
  const Value mask = g.Cast(attention_mask, Dtype::kFloat32);        // [B, S]
  const Value sum = g.MatMul(g.Unsqueeze(mask, {1}), hidden_state);  // [B, 1, H]
  const Value one = g.ints({1});
  return g.Div(g.Squeeze(sum, &one), g.ReduceSum(mask, 1));
}

Pooling sequence_summary(const ModelConfig& config,
                         std::int64_t hidden_size,
                         const SummaryDefaults& defaults) {
  constexpr std::string_view kKey = "sequence_summary.summary";
  const std::string type = config.text("summary_type", defaults.type);
  if (type != "first" && type != "last") {
    config.refuse("summary_type", "only summaries of the first or last token are implemented");
  }
  if (config.boolean("summary_proj_to_labels", false)) {
    config.refuse("summary_proj_to_labels", "only projections to hidden_size are implemented");
  }
  const bool projects = config.boolean("summary_use_proj", defaults.use_projection);
  const bool activates = config.has("summary_activation") || !defaults.activation.empty();
  const Activation activation =
      activates ? read_activation(config, "summary_activation", defaults.activation) : nullptr;
  const std::int64_t index = type == "first" ? 0 : -1;
  const auto build = [=](GraphBuilder& g, const Value& hidden_state, const EncoderInputs&) {
    const auto scope = g.scope("sequence_summary");
    Value x = g.Gather(hidden_state, g.int_scalar(index), 1);
    if (projects) {
      x = dense(g, x, kKey, hidden_size, hidden_size, Bias::kYes);
    }
    return activation == nullptr ? x : activation(g, x);
  };
  return {.build = build, .tensor = projects ? fmt::format("{}.weight", kKey) : ""};
}

std::vector<BuiltGraph> build_text_encoder(const BuildContext& context,
                                           const TextEncoder& encoder) {
  require_heads(context, encoder);
  GraphBuilder g(context.tensors, context.opset);
  if (context.task == "multiple-choice") {
    multiple_choice(g, encoder);
  } else if (context.task == kSentenceSimilarity) {
    sentence_similarity(g, encoder, context);
  } else {
    single_sequence(g, encoder, context);
  }
  std::vector<BuiltGraph> graphs;
  graphs.push_back({"model.onnx", std::move(g).finish()});
  return graphs;
}

}  // namespace onnxferry
