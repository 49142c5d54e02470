#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

namespace onnxferry {

/// How the vectors of a sentence's tokens become one. Source: Pooling.forward in
/// sentence_transformers.
enum class PoolingMode : std::uint8_t {
  kFirstToken,  ///< of the padded row, as in sentence-transformers before 6
  kMax,
  kMean,
  kMeanSqrtLength,  ///< sum / √(number of tokens)
  kWeightedMean,    ///< weights 1, 2, 3, … by position
  kLastToken,       ///< the last real one
};

/// A linear layer on the sentence's vector, with weights of its own.
struct SentenceDense {
  std::filesystem::path directory;  ///< that holds its weights
  std::string name;                 ///< "2_Dense"
  std::int64_t in_features = 0;
  std::int64_t out_features = 0;
  bool has_bias = true;
  std::string activation;  ///< the class without its module: "Tanh"
};

/// To length 1.
struct SentenceNormalize {};

using SentenceModule = std::variant<SentenceDense, SentenceNormalize>;

/// What modules.json puts behind the transformer.
struct SentenceModules {
  std::vector<PoolingMode> pooling;  ///< several are concatenated in this order
  std::int64_t word_embedding_dimension = 0;
  std::vector<SentenceModule> after_pooling;
};

/// Whether the directory is one of sentence-transformers.
bool has_sentence_modules(const std::filesystem::path& model_root);

/// Read modules.json and the config.json of each module in it: a Transformer at the root, a
/// Pooling, then any number of Dense and Normalize.
/// \throws Error{kUnsupportedModel} naming any other module, order or setting;
///         Error{kCorruptCheckpoint}
SentenceModules load_sentence_modules(const std::filesystem::path& model_root);

}  // namespace onnxferry
