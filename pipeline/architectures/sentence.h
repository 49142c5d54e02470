#pragma once

#include <cstdint>
#include <string_view>

#include "pipeline/architectures/architecture.h"
#include "pipeline/graph/builder.h"

namespace onnxferry {

/// The task of sentence-transformers directories, in Optimum's name.
inline constexpr std::string_view kSentenceSimilarity = "sentence-similarity";

/// The outputs of that task, on top of any text model: token_embeddings [B, S, hidden_size] is the
/// hidden state, sentence_embedding [B, D] what the directory's modules.json makes of it: pooling,
/// then Dense and Normalize in its order.
///
/// \param attention_mask  [B, S] int64
/// \param context         whose model_root holds modules.json
/// \throws Error{kUnsupportedModel} naming a module or setting that is not implemented;
///         Error{kCorruptCheckpoint}
/// Source: Pooling, Dense and Normalize of sentence-transformers 5.1.
void sentence_outputs(GraphBuilder& g,
                      const BuildContext& context,
                      const Value& hidden_state,
                      const Value& attention_mask,
                      std::int64_t hidden_size);

}  // namespace onnxferry
