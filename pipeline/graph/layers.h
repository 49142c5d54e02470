#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "pipeline/checkpoint/model_config.h"
#include "pipeline/graph/builder.h"

namespace onnxferry {

// Blocks of several nodes that more than one architecture uses. Shapes in comments: B batch_size, S
// sequence_length, T total_sequence_length, H hidden_size, n heads, d head_dim.

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

/// Table lookup: ids [B, S] → [B, S, H]. Reads `<key>.weight` [rows, H].
Value embedding(
    GraphBuilder& g, const Value& ids, std::string_view key, std::int64_t rows, std::int64_t size);

/// A named activation of transformers.activations.ACT2FN.
/// \throws Error{kUnsupportedModel} naming `config_key` when the name is unknown
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
