#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/architectures/bert_like.h"
#include "pipeline/graph/disentangled_attention.h"

namespace onnxferry {

/// The keys of config.json that DeBERTa and DeBERTa-v2 share.
struct DebertaConfig : BertConfig {
  bool position_biased_input;  ///< absolute positions are added, too
  bool relative_attention;
  std::int64_t max_relative_positions;
  std::vector<std::string> pos_att_type;
  bool legacy;  ///< which masked-LM head

  DebertaConfig(const BuildContext& context, const BertDefaults& defaults);

  [[nodiscard]] bool attends(std::string_view type) const;  ///< pos_att_type holds it
};

/// Words (+ types, + positions), projected, normalized, zero where padded.
/// \param mask  [B, S, 1] float
Value deberta_embeddings(GraphBuilder& g,
                         const DebertaConfig& config,
                         const EncoderInputs& inputs,
                         const Value& mask);

bool has_word(const std::vector<std::string>& words, std::string_view word);

/// [B, S, 1] float from attention_mask.
Value token_mask(GraphBuilder& g, const EncoderInputs& inputs);

/// x split into the heads' parts of a product: tokens [B, S, H] → [B, n, S, d], or positions
/// [width, H] → [1, n, d, width].
enum class SplitOrder : std::uint8_t { kTokens, kPositions };
Value split_for_scores(GraphBuilder& g,
                       const DebertaConfig& config,
                       const Value& x,
                       SplitOrder order);

/// The whole model around `encode`: pooler, masked-LM head, the other heads.
std::vector<BuiltGraph> build_deberta_like(
    const BuildContext& context,
    const DebertaConfig& config,
    const std::function<Value(GraphBuilder&, const EncoderInputs&)>& encode);

/// Heads that the task does not use, the second masked-LM head of Microsoft's checkpoints, and
/// positions that a model without position_biased_input does not read.
inline constexpr std::string_view kDebertaIgnoredTensors[] = {"cls.*",
                                                              "lm_predictions.*",
                                                              "mask_predictions.*",
                                                              "pooler.*",
                                                              "classifier.*",
                                                              "qa_outputs.*",
                                                              "*embeddings.position_ids",
                                                              "*embeddings.position_embeddings.*"};

}  // namespace onnxferry
