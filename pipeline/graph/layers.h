#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "pipeline/checkpoint/model_config.h"
#include "pipeline/graph/builder.h"

namespace onnxferry {

// Blocks of several nodes that more than one architecture uses. Shapes in comments: B batch_size, S
// sequence_length, T total_sequence_length, H hidden_size, n heads, d head_dim.

/// The node scope of a checkpoint key: dots become slashes, except before an index
/// ("encoder.layer.0.attention" → "encoder/layer.0/attention").
std::string module_path(std::string_view key);

enum class Bias : std::uint8_t { kNo, kYes };

/// x [..., in] → [..., out]: Add(MatMul(x, W_t), bias), the form that quantizers and fusions look
/// for. Reads `<key>.weight` [out, in] (stored transposed) and `<key>.bias` [out]. Opens no scope.
Value linear(GraphBuilder& g,
             const Value& x,
             std::string_view key,
             std::int64_t in,
             std::int64_t out,
             Bias bias);

/// x [B, in] → [B, out] as one Gemm, for heads on pooled vectors. Names the result `output` if not
/// empty.
Value dense(GraphBuilder& g,
            const Value& x,
            std::string_view key,
            std::int64_t in,
            std::int64_t out,
            Bias bias);

/// LayerNormalization over the last axis. Reads `<key>.weight` and `<key>.bias`, or the old names
/// `<key>.gamma` and `<key>.beta`.
Value layer_norm(
    GraphBuilder& g, const Value& x, std::string_view key, std::int64_t size, double epsilon);

/// x / sqrt(mean(x²) + epsilon) * weight in the form that ONNX Runtime fuses to
/// SimplifiedLayerNormalization. The statistics stay float32. Source: Qwen2RMSNorm, LlamaRMSNorm in
/// transformers.
Value rms_norm(
    GraphBuilder& g, const Value& x, std::string_view key, std::int64_t size, double epsilon);

/// As `linear` for GPT-2's Conv1D, whose `<key>.weight` is stored [in, out].
Value linear_in_out(GraphBuilder& g,
                    const Value& x,
                    std::string_view key,
                    std::int64_t in,
                    std::int64_t out,
                    Bias bias);

/// One of `linear` and `linear_in_out`.
using Linear = decltype(&linear);

/// The normalization layers of decoders.
enum class NormKind : std::uint8_t {
  kRms,                ///< rms_norm
  kRmsOnePlus,         ///< rms_norm with 1 + weight (Gemma)
  kLayer,              ///< layer_norm
  kLayerOnePlus,       ///< layer_norm with 1 + weight (Nemotron)
  kLayerWithoutBias,   ///< layer_norm, no `<key>.bias`
  kLayerWithoutAffine  ///< layer_norm, no tensors at all (OLMo)
};
struct NormSpec {
  NormKind kind = NormKind::kRms;
  double epsilon = 1e-6;
};
/// Normalize the last axis, `size` long. Opens no scope.
Value normalize(
    GraphBuilder& g, const Value& x, std::string_view key, std::int64_t size, const NormSpec& spec);

/// Table lookup: ids [B, S] → [B, S, H]. Reads `<key>.weight` [rows, H].
Value embedding(
    GraphBuilder& g, const Value& ids, std::string_view key, std::int64_t rows, std::int64_t size);

/// As `embedding`, from the transposed table [H, rows] that `linear` reads, too: for decoders whose
/// head shares the table. A head with a table of its own layout needs no copy of the logits at the
/// end, as Gemm(transB) on the embedding's does.
Value tied_embedding(
    GraphBuilder& g, const Value& ids, std::string_view key, std::int64_t rows, std::int64_t size);

using Activation = Value (*)(GraphBuilder& g, const Value& x);
/// Activations of classes that do not ask the config; gelu is 0.5 x (1 + erf(x / √2)).
Value gelu(GraphBuilder& g, const Value& x);
Value gelu_tanh_activation(GraphBuilder& g, const Value& x);
Value relu_activation(GraphBuilder& g, const Value& x);
Value tanh_activation(GraphBuilder& g, const Value& x);
/// The activation that a config key names, of transformers.activations.ACT2FN.
/// \throws Error{kUnsupportedModel} naming `config_key` when the name is unknown
Activation read_activation(const ModelConfig& config,
                           std::string_view config_key,
                           std::string_view when_absent);

/// The same, applied.
Value activation(GraphBuilder& g,
                 const Value& x,
                 const ModelConfig& config,
                 std::string_view config_key,
                 std::string_view when_absent);

/// An embedding's table that a head shares.
struct TiedTable {
  std::string_view key;  ///< without ".weight"
  std::int64_t rows = 0;
  std::int64_t size = 0;
  std::string_view bias_key;  ///< may be empty
};

/// Logits over the vocabulary from a shared table: Gemm(transB) without a copy of it.
/// x [B, S, size] → [B, S, rows]. `ids` supplies B and S.
Value tied_head(GraphBuilder& g, const Value& x, const Value& ids, const TiedTable& table);

}  // namespace onnxferry
