#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/architectures/architecture.h"
#include "pipeline/architectures/sentence.h"
#include "pipeline/graph/feed_forward.h"
#include "pipeline/graph/self_attention.h"

namespace onnxferry {

/// What a checkpoint calls a decoder's parts. Those of a layer stand below "<base>.<layers>.N".
/// A norm with an empty name does not exist.
struct DecoderNames {
  /// Module of embedding and layers; its first parts, or all of it, are absent in a base model's
  /// checkpoint. Most ForQuestionAnswering classes call it "transformer".
  std::string_view base = "model";
  std::string_view embedding = "embed_tokens";
  std::string_view layers = "layers";
  std::string_view final_norm = "norm";
  std::string_view head = "lm_head";
  std::string_view token_classifier = "score";  ///< has a bias
  std::string_view sequence_classifier = "score";
  std::string_view attention = "self_attn";
  std::string_view mlp = "mlp";  ///< empty: its projections stand directly in the layer
  std::string_view pre_attention_norm = "input_layernorm";
  std::string_view post_attention_norm;  ///< of the attention's result, before it is added
  std::string_view pre_mlp_norm = "post_attention_layernorm";
  std::string_view post_mlp_norm;  ///< of the feed-forward's result, before it is added
};

/// Which way a layer's results reach the residual stream.
enum class Residual : std::uint8_t {
  kSequential,  ///< the feed-forward block sees the attention's result (Llama)
  kParallel,    ///< both see the layer's input; without pre_mlp_norm both see the same norm (GPT-J)
  kFromNorm,    ///< sequential; results are added to what the norm gave, not to what it got (BLOOM)
  kNormAfter    ///< sequential; the norms stand behind each addition (OPT-350m)
};

/// What differs between the layers of a decoder.
struct DecoderLayer {
  std::int64_t window = 0;         ///< keys a query sees, itself included; 0: all
  int rope = 0;                    ///< index into DecoderSpec::ropes, if there are any
  bool has_attention_norm = true;  ///< names.pre_attention_norm stands in this layer
};
inline constexpr int kNoRope = -1;

/// `count` layers with full attention and the first rope.
/// \throws Error{kUnsupportedModel} above 4096: real models have a hundred, and a damaged config
/// must not take the memory of a host
std::vector<DecoderLayer> plain_layers(std::int64_t count);

/// A decoder-only language model as data: what an architecture's file fills in from config.json.
/// Where data does not say it, a function takes a block's place.
struct DecoderSpec {
  DecoderNames names;
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  NormSpec norm;
  Residual residual = Residual::kSequential;
  SelfAttentionSpec attention;
  FeedForwardSpec mlp;
  std::vector<DecoderLayer> layers;
  std::vector<RopeConfig> ropes;
  RotaryLayout rotary_layout = RotaryLayout::kHalves;

  double embedding_multiplier = 1.0;
  double residual_multiplier = 1.0;
  double logits_multiplier = 1.0;
  double logits_softcap = 0.0;  ///< 0: none
  bool is_tied = false;         ///< the head reads the embedding's table
  Bias head_bias = Bias::kNo;
  Bias sequence_classifier_bias = Bias::kNo;

  /// Optimum's decision per model type.
  PositionInput position_input = PositionInput::kYes;
  /// In tasks that never have the input.
  PositionInput classifier_positions = PositionInput::kNo;
  ClassifiedToken classified_token = ClassifiedToken::kLastReal;
  /// The config class's own, for a config.json without the key.
  std::optional<std::int64_t> pad_token_id;
  /// Where pad_token_id stands, if not at config.json's top level.
  std::optional<ModelConfig> text_config;
  /// Which values ORTModelForCausalLM takes from config.json for the empty past (else num_heads
  /// and hidden_size / num_heads); see CacheShape.
  bool ort_model_reads_key_value_heads = false;
  bool ort_model_reads_head_dim = false;

  /// Of the table's rows where after_embedding widens them, and of the hidden state where
  /// after_layers narrows it again; 0: hidden_size.
  std::int64_t embedding_size = 0;

  /// Between the table's rows [B, S, H] and the first layer (positions, a norm). `base` is "model."
  /// or "".
  std::function<Value(GraphBuilder&, DecoderInputs&, const Value& words, const std::string& base)>
      after_embedding;
  /// Behind the last norm.
  std::function<Value(GraphBuilder&, const Value& x, const std::string& base)> after_layers;
  /// Between that and the projection of text-generation and text-classification (a dense layer).
  std::function<Value(GraphBuilder&, const Value& x, std::string_view task)> before_head;
  /// Added to the scores in every layer, [B or 1, num_heads, 1 or S, T] (ALiBi).
  std::function<Value(GraphBuilder&, DecoderInputs&)> attention_bias;
  /// In place of `mlp`; `key` is the layer's mlp module.
  std::function<Value(GraphBuilder&, const Value& x, std::size_t layer, const std::string& key)>
      feed_forward;
  /// In place of `attention`.
  std::function<Value(GraphBuilder&, const Value& x, DecoderInputs&, const SelfAttentionPlace&)>
      attend;
  /// Sizes of the cache where `attend` has its own; 0: those of `attention`.
  std::int64_t cache_heads = 0, cache_key_dim = 0, cache_value_dim = 0;
};

/// Defaults of a transformers config class for the keys that Llama and its descendants share.
struct LlamaDefaults {
  std::int64_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads;
  std::int64_t num_key_value_heads = 0;  ///< 0: num_attention_heads
  std::int64_t head_dim = 0;             ///< 0: hidden_size / num_attention_heads
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000.0;
  std::string_view hidden_act = "silu";  ///< empty: the architecture reads its own key
  bool tie_word_embeddings = false;
  double partial_rotary_factor = 1.0;
  std::optional<std::int64_t> pad_token_id = {};
};

/// A Llama: pre-norm RMS layers, separate projections without biases, gated feed-forward, one rope,
/// full attention. Reads the keys of LlamaDefaults and rope_scaling; what a descendant does
/// otherwise it changes in the result.
/// \throws Error{kUnsupportedModel, kCorruptCheckpoint}
DecoderSpec read_llama(const ModelConfig& config, const LlamaDefaults& defaults);

/// Read attention_bias (of all four projections) and mlp_bias.
void read_biases(const ModelConfig& config, DecoderSpec& spec);

/// A dimension that transformers knows by two names (a config class's attribute_map): `alias` wins.
std::int64_t aliased_dimension(const ModelConfig& config,
                               std::string_view key,
                               std::string_view alias,
                               std::int64_t when_absent);

/// Give spec.attention, whose num_heads is set, as many key heads, head_dim = hidden_size /
/// num_heads and the usual scale.
/// \throws Error{kUnsupportedModel} if the heads do not divide the hidden size
void set_plain_heads(const ModelConfig& config, DecoderSpec& spec);

/// Learned positions: `<base><name>.weight` [rows, hidden_size] at position_ids + offset is added
/// to the embedding.
void add_learned_positions(DecoderSpec& spec,
                           std::string_view name,
                           std::int64_t rows,
                           std::int64_t offset = 0);

/// Give each layer the window of its entry in `layer_types`, or where that key is absent the one
/// that `is_sliding` chooses.
/// \throws Error{kUnsupportedModel} if sliding_window is missing or not positive where it is needed
void read_windows(const ModelConfig& config,
                  DecoderSpec& spec,
                  std::optional<std::int64_t> window,
                  const std::function<bool(std::int64_t layer)>& is_sliding);

/// sliding_window_pattern, the number of layers of which the last one is full; not read where
/// layer_types is given, since old checkpoints have other things than a number there.
std::int64_t read_window_pattern(const ModelConfig& config, std::int64_t when_absent);

/// read_windows as Qwen2 and its descendants: in layers from max_window_layers on, if
/// use_sliding_window says so.
void read_qwen_windows(const ModelConfig& config, DecoderSpec& spec);

/// model.onnx for the context's task, one of kAllDecoderTasks.
/// \throws Error{kUnsupportedModel} if the checkpoint lacks the task's head
std::vector<BuiltGraph> build_decoder(const BuildContext& context, const DecoderSpec& spec);

/// Every task that a decoder can have.
inline constexpr std::string_view kAllDecoderTasks[] = {"feature-extraction",
                                                        "feature-extraction-with-past",
                                                        kSentenceSimilarity,
                                                        "text-generation",
                                                        "text-generation-with-past",
                                                        "text-classification",
                                                        "token-classification",
                                                        "question-answering"};
/// The tasks by what classes a type has beside ForCausalLM: none, ForSequenceClassification, and
/// ForTokenClassification, too.
inline constexpr auto kGenerationTasks =
    std::span<const std::string_view>(kAllDecoderTasks).first(5);
inline constexpr auto kDecoderTasks = std::span<const std::string_view>(kAllDecoderTasks).first(6);
inline constexpr auto kTokenDecoderTasks =
    std::span<const std::string_view>(kAllDecoderTasks).first(7);

/// Heads that the task does not use (a tied checkpoint may still store lm_head: transformers
/// ignores it too), and a buffer of old versions.
inline constexpr std::string_view kDecoderIgnoredTensors[] = {
    "lm_head.weight", "score.*", "qa_outputs.*", "*.rotary_emb.inv_freq"};

}  // namespace onnxferry
