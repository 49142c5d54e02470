#include "pipeline/architectures/encoder.h"

#include "pipeline/graph/heads.h"

namespace onnxferry {
namespace {

void require_heads(const BuildContext& context, const TextEncoder& encoder) {
  if (context.task == "fill-mask") {
    context.require_head(encoder.masked_lm_tensor);
  } else if (context.task == "question-answering") {
    context.require_head("qa_outputs.weight");
  } else if (context.task != "feature-extraction") {
    context.require_head("classifier.weight");
  }
  if (context.task == "text-classification" || context.task == "multiple-choice") {
    context.require_head(encoder.pool_tensor);
  }
}

EncoderInputs declare_inputs(GraphBuilder& g, const TextEncoder& encoder, const Dims& dims) {
  EncoderInputs inputs{.input_ids = g.input("input_ids", Dtype::kInt64, dims),
                       .attention_mask = g.input("attention_mask", Dtype::kInt64, dims)};
  if (encoder.has_token_types) {
    inputs.token_type_ids = g.input("token_type_ids", Dtype::kInt64, dims);
  }
  return inputs;
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
  const Value pooled = encoder.pool(g, encoder.encode(g, flat));
  multiple_choice_head(g, pooled, num_choices, "classifier", encoder.hidden_size);
}

void single_sequence(GraphBuilder& g, const TextEncoder& encoder, const BuildContext& context) {
  const EncoderInputs inputs = declare_inputs(g, encoder, {"batch_size", "sequence_length"});
  const Value x = encoder.encode(g, inputs);
  const std::int64_t hidden_size = encoder.hidden_size;
  const std::int64_t num_labels = context.config.num_labels();
  if (context.task == "feature-extraction") {
    hidden_state_output(g, x, hidden_size);
  } else if (context.task == "fill-mask") {
    encoder.masked_lm(g, x, inputs.input_ids);
  } else if (context.task == "text-classification") {
    text_classification_head(g, encoder.pool(g, x), "classifier", hidden_size, num_labels);
  } else if (context.task == "token-classification") {
    token_classification_head(g, x, "classifier", hidden_size, num_labels);
  } else {
    question_answering_head(g, x, "qa_outputs", hidden_size);
  }
}

}  // namespace

std::vector<BuiltGraph> build_text_encoder(const BuildContext& context,
                                           const TextEncoder& encoder) {
  require_heads(context, encoder);
  GraphBuilder g(context.tensors, context.opset);
  if (context.task == "multiple-choice") {
    multiple_choice(g, encoder);
  } else {
    single_sequence(g, encoder, context);
  }
  std::vector<BuiltGraph> graphs;
  graphs.push_back({"model.onnx", std::move(g).finish()});
  return graphs;
}

}  // namespace onnxferry
