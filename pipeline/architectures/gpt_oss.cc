// gpt-oss (OpenAI 2025): a mixture of experts in every layer, sliding and full attention in turn.
//
// Peculiar: every softmax of the attention has one more logit per head, the sink; biases
// everywhere, in the router and the experts, too; gate and up columns alternate in one tensor
// [experts, H, 2F] for all experts; they are clamped, and the activation is
// (up + 1) · gate · sigmoid(1.702 · gate). The published checkpoints store the experts in MXFP4,
// transposed ([experts, 2F, H] in blocks of 32): they are unpacked, as transformers does on a CPU.
// Source: transformers/models/gpt_oss/modeling_gpt_oss.py, integrations/mxfp4.py.

#include <fmt/format.h>

#include "pipeline/architectures/mixture_layers.h"

namespace onnxferry {
namespace {

constexpr float kAlpha = 1.702F;
constexpr float kLimit = 7.0F;
constexpr std::int64_t kMxfp4Block = 32;  // columns that share a scale
constexpr std::int64_t kMxfp4Bytes = 16;  // of such a block

/// min(gate) · sigmoid(α · min(gate)) · (clamp(up) + 1)
Value clamped_glu(GraphBuilder& g, const Value& gate, const Value& up) {
  const Value limit = g.float_scalar(kLimit);
  const Value low = g.Min(gate, limit);
  const Value glu = g.Mul(low, g.Sigmoid(g.Mul(low, g.float_scalar(kAlpha))));
  const Value shifted = g.Add(g.Clip(up, g.float_scalar(-kLimit), limit), g.float_scalar(1.0F));
  return g.Mul(shifted, glu);
}

/// The even or odd columns of a tensor [..., 2F] from element `offset` on: [rows, F].
Value every_other(GraphBuilder& g,
                  const TensorInfo& tensor,
                  std::string_view suffix,
                  std::int64_t offset,
                  std::int64_t rows) {
  const std::int64_t columns = tensor.shape.back();
  return g.initializer(
      fmt::format("{}.{}", tensor.name, suffix),
      cast(view(tensor, offset, {rows, columns / 2}, {columns, 2}), Dtype::kFloat32));
}

struct ExpertShape {
  std::int64_t count, hidden, size;
};

ExpertWeights expert_weights(GraphBuilder& g,
                             const ExpertShape& shape,
                             const std::string& key,
                             std::int64_t expert) {
  const auto& [count, hidden, size] = shape;
  const TensorInfo& gate_up = g.tensor(key + ".experts.gate_up_proj", {count, hidden, 2 * size});
  const TensorInfo& down = g.tensor(key + ".experts.down_proj", {count, size, hidden});
  const std::int64_t first = expert * hidden * 2 * size;
  const Recipe rows = view(down, expert * size * hidden, {size, hidden}, {hidden, 1});
  return {
      .gate = every_other(g, gate_up, fmt::format("{}.gate", expert), first, hidden),
      .up = every_other(g, gate_up, fmt::format("{}.up", expert), first + 1, hidden),
      .down = g.initializer(fmt::format("{}.{}", down.name, expert), cast(rows, Dtype::kFloat32))};
}

/// A matrix [experts, rows, columns] in MXFP4: columns in blocks of 32, 16 bytes and a scale each.
struct PackedExperts {
  const TensorInfo& blocks;
  const TensorInfo& scales;
  std::int64_t rows, block_count;

  PackedExperts(GraphBuilder& g,
                const std::string& key,
                std::int64_t count,
                std::int64_t row_count,
                std::int64_t columns)
      : blocks(g.packed_tensor(key + "_blocks",
                               {count, row_count, columns / kMxfp4Block, kMxfp4Bytes})),
        scales(g.packed_tensor(key + "_scales", {count, row_count, columns / kMxfp4Block})),
        rows(row_count),
        block_count(columns / kMxfp4Block) {}

  /// Every `step`-th row of an expert from `first` on, transposed: [columns, rows / step].
  [[nodiscard]] Recipe unpacked(std::int64_t expert, std::int64_t first, std::int64_t step) const {
    const std::int64_t width = block_count * kMxfp4Bytes;
    const std::int64_t row = expert * rows + first;
    return transposed_mxfp4(
        view(blocks, row * width, {rows / step, width}, {step * width, 1}),
        view(scales, row * block_count, {rows / step, block_count}, {step * block_count, 1}));
  }
};

ExpertWeights packed_expert_weights(GraphBuilder& g,
                                    const ExpertShape& shape,
                                    const std::string& key,
                                    std::int64_t expert) {
  const auto& [count, hidden, size] = shape;
  const std::string gate_up_key = key + ".experts.gate_up_proj";
  const std::string down_key = key + ".experts.down_proj";
  const PackedExperts gate_up(g, gate_up_key, count, 2 * size, hidden);
  const PackedExperts down(g, down_key, count, hidden, size);
  return {
      .gate = g.initializer(fmt::format("{}.{}.gate", gate_up_key, expert),
                            gate_up.unpacked(expert, 0, 2)),
      .up = g.initializer(fmt::format("{}.{}.up", gate_up_key, expert),
                          gate_up.unpacked(expert, 1, 2)),
      .down = g.initializer(fmt::format("{}.{}", down_key, expert), down.unpacked(expert, 0, 1))};
}

ExpertBiases expert_biases(GraphBuilder& g, const ExpertShape& shape, const std::string& key) {
  const auto& [count, hidden, size] = shape;
  const TensorInfo& gate_up = g.tensor(key + ".experts.gate_up_proj_bias", {count, 2 * size});
  return {.gate = every_other(g, gate_up, "gate", 0, count),
          .up = every_other(g, gate_up, "up", 1, count),
          .down = g.weight(key + ".experts.down_proj_bias", {count, hidden})};
}

/// Whether the experts are stored in MXFP4.
bool read_packing(const ModelConfig& config, const ExpertShape& shape) {
  const auto quantization = config.find_object("quantization_config");
  if (!quantization) {
    return false;
  }
  if (quantization->text("quant_method", "") != "mxfp4") {
    config.refuse("quantization_config", "of quantized checkpoints only MXFP4 ones are read");
  }
  // What it does not convert is what has float tensors; its other keys are for loading.
  config.disregard("quantization_config");
  for (const std::int64_t columns : {shape.hidden, shape.size}) {
    if (columns % kMxfp4Block != 0) {
      config.refuse(
          "quantization_config",
          fmt::format(
              "MXFP4 has blocks of {}, which do not divide rows of {}", kMxfp4Block, columns));
    }
  }
  return true;
}

MixtureSpec read_mixture(const ModelConfig& config, const DecoderSpec& spec) {
  const ExpertCounts counts =
      read_expert_counts(config, "num_local_experts", "num_experts_per_tok", {128, 4});
  const ExpertShape shape{counts.count, spec.hidden_size, spec.mlp.intermediate_size};
  MixtureSpec mixture = mixture_for(spec, counts, shape.size);
  mixture.router.name = "router";
  mixture.router.bias = Bias::kYes;
  mixture.router.scores = RouterSpec::Scores::kSoftmaxOfChosen;
  const auto weights = read_packing(config, shape) ? packed_expert_weights : expert_weights;
  mixture.experts.weights = [=](GraphBuilder& g, const std::string& key, std::int64_t expert) {
    return weights(g, shape, key, expert);
  };
  mixture.experts.biases = [shape](GraphBuilder& g, const std::string& key) {
    return expert_biases(g, shape, key);
  };
  mixture.experts.combine = clamped_glu;
  return mixture;
}

std::vector<BuiltGraph> build_gpt_oss(const BuildContext& context) {
  const ModelConfig& config = context.config;
  if (!config.has("rope_scaling") && !config.has("rope_parameters")) {
    config.refuse("rope_scaling", "transformers' default for this type is yarn; write it out");
  }
  if (config.number("swiglu_limit", kLimit) != kLimit) {
    config.refuse("swiglu_limit", "transformers' model clamps at 7 whatever this says");
  }
  DecoderSpec spec = read_llama(config,
                                {.vocab_size = 201088,
                                 .hidden_size = 2880,
                                 .intermediate_size = 2880,
                                 .num_hidden_layers = 36,
                                 .num_attention_heads = 64,
                                 .num_key_value_heads = 8,
                                 .head_dim = 64,
                                 .rms_norm_eps = 1e-5,
                                 .rope_theta = 150000.0});
  spec.attention.qkv_bias = spec.attention.output_bias =
      config.boolean("attention_bias", true) ? Bias::kYes : Bias::kNo;
  spec.attention.sinks_name = "sinks";
  spec.position_input = PositionInput::kNo;
  spec.ort_model_reads_key_value_heads = true;
  spec.ort_model_reads_head_dim = true;
  read_windows(config, spec, config.integer("sliding_window", 128), [](std::int64_t layer) {
    return layer % 2 == 0;
  });
  use_mixture(spec, read_mixture(config, spec), [](std::int64_t) { return true; });
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kGptOss;
const Architecture kGptOss{.model_type = "gpt_oss",
                           .tasks = kTokenDecoderTasks,
                           .ignored_tensors = kDecoderIgnoredTensors,
                           .build = build_gpt_oss};

}  // namespace onnxferry
