// Which config keys matter. Both tables hold names across all architectures: an architecture that
// reads a key consumes it, so only keys that nobody read are looked up here.

#include <algorithm>
#include <array>
#include <string_view>

#include <fmt/format.h>

#include "pipeline/checkpoint/model_config.h"
#include "pipeline/error.h"

namespace onnxferry {
namespace {

struct MathKey {
  std::string_view name;  // first path component
  std::string_view why;
};

constexpr std::string_view kChangesMath =
    "it changes the model's math and is not implemented for this model type";

// Source: the `config.` reads of transformers 4.57's modeling files, and PretrainedConfig.
constexpr std::array kMathKeys = {
    MathKey{"adapter_config", "merge the adapter into the base model first"},
    MathKey{"attention_bias", kChangesMath},
    MathKey{"attention_multiplier", kChangesMath},
    MathKey{"attn_logit_softcapping", kChangesMath},
    MathKey{"clip_qkv", kChangesMath},
    MathKey{"cross_attention_hidden_size", kChangesMath},
    MathKey{"embedding_multiplier", kChangesMath},
    MathKey{"embedding_size", kChangesMath},
    MathKey{"final_logit_softcapping", kChangesMath},
    MathKey{"layer_scale_init_value", kChangesMath},
    MathKey{"layernorm_embedding", kChangesMath},
    MathKey{"logit_scale", kChangesMath},
    MathKey{"logits_scaling", kChangesMath},
    MathKey{"mlp_bias", kChangesMath},
    MathKey{"moe_intermediate_size", kChangesMath},
    MathKey{"no_rope_layers", kChangesMath},
    MathKey{"num_experts", kChangesMath},
    MathKey{"num_experts_per_tok", kChangesMath},
    MathKey{"num_local_experts", kChangesMath},
    MathKey{"partial_rotary_factor", kChangesMath},
    MathKey{"position_embedding_type", kChangesMath},
    MathKey{"pruned_heads", kChangesMath},
    MathKey{"qk_layernorm", kChangesMath},
    MathKey{"qkv_bias", kChangesMath},
    MathKey{"quantization_config",
            "the checkpoint is quantized; export the original 16- or 32-bit weights"},
    MathKey{"compression_config",
            "the checkpoint is quantized; export the original 16- or 32-bit weights"},
    MathKey{"query_pre_attn_scalar", kChangesMath},
    MathKey{"quantization",
            "the checkpoint is quantized; export the original 16- or 32-bit weights"},
    MathKey{"relative_attention", kChangesMath},
    MathKey{"residual_multiplier", kChangesMath},
    MathKey{"rope_interleaved", kChangesMath},
    MathKey{"rope_parameters", kChangesMath},
    MathKey{"rope_scaling", kChangesMath},
    MathKey{"rotary_dim", kChangesMath},
    MathKey{"rotary_pct", kChangesMath},
    MathKey{"scale_attn_by_inverse_layer_idx", kChangesMath},
    MathKey{"scale_embedding", kChangesMath},
    MathKey{"sliding_window_pattern", kChangesMath},
    MathKey{"use_mrope", kChangesMath},
    MathKey{"use_parallel_residual", kChangesMath},
    MathKey{"use_qk_norm", kChangesMath},
};

// Training, generation, labels and bookkeeping: PretrainedConfig's own attributes and what
// checkpoints commonly carry. They cannot change a forward pass in eval mode.
constexpr std::array<std::string_view, 117> kHarmlessKeys = {"_attn_implementation",
                                                             "_attn_implementation_autoset",
                                                             "_commit_hash",
                                                             "_flash_attn_2_enabled",
                                                             "_name_or_path",
                                                             "_num_labels",
                                                             "activation_dropout",
                                                             "architectures",
                                                             "attention_dropout",
                                                             "attention_probs_dropout_prob",
                                                             "attn_implementation",
                                                             "attn_pdrop",
                                                             "aux_loss_alpha",
                                                             "bad_words_ids",
                                                             "begin_suppress_tokens",
                                                             "bos_token_id",
                                                             "cache_dir",
                                                             "chunk_size_feed_forward",
                                                             "classifier_dropout",
                                                             "cls_token_id",
                                                             "decoder_start_token_id",
                                                             "directionality",
                                                             "diversity_penalty",
                                                             "do_sample",
                                                             "dropout",
                                                             "dtype",
                                                             "early_stopping",
                                                             "emb_pdrop",
                                                             "embd_pdrop",
                                                             "embed_dropout",
                                                             "embedding_dropout",
                                                             "encoder_no_repeat_ngram_size",
                                                             "eos_token_id",
                                                             "ep_size",
                                                             "exponential_decay_length_penalty",
                                                             "finetuning_task",
                                                             "forced_bos_token_id",
                                                             "forced_eos_token_id",
                                                             "gradient_checkpointing",
                                                             "hidden_dropout",
                                                             "hidden_dropout_prob",
                                                             "id2label",
                                                             "init_std",
                                                             "initializer_cutoff_factor",
                                                             "initializer_factor",
                                                             "initializer_range",
                                                             "input_jitter_noise",
                                                             "is_encoder_decoder",
                                                             "keep_accents",
                                                             "label2id",
                                                             "layerdrop",
                                                             "length_penalty",
                                                             "max_length",
                                                             "max_position_embeddings",
                                                             "max_seq_len",
                                                             "min_length",
                                                             "mlp_dropout",
                                                             "model_max_length",
                                                             "model_type",
                                                             "n_ctx",
                                                             "n_positions",
                                                             "name_or_path",
                                                             "no_repeat_ngram_size",
                                                             "num_beam_groups",
                                                             "num_beams",
                                                             "num_labels",
                                                             "num_nextn_predict_layers",
                                                             "num_return_sequences",
                                                             "output_attentions",
                                                             "output_hidden_states",
                                                             "output_past",
                                                             "output_router_logits",
                                                             "output_scores",
                                                             "pad_token_id",
                                                             "pooler_fc_size",
                                                             "pooler_num_attention_heads",
                                                             "pooler_num_fc_layers",
                                                             "pooler_size_per_head",
                                                             "pooler_type",
                                                             "prefix",
                                                             "pretraining_tp",
                                                             "problem_type",
                                                             "qa_dropout",
                                                             "remove_invalid_values",
                                                             "repetition_penalty",
                                                             "resid_dropout",
                                                             "resid_pdrop",
                                                             "residual_dropout",
                                                             "return_dict",
                                                             "return_dict_in_generate",
                                                             "router_aux_loss_coef",
                                                             "router_jitter_noise",
                                                             "sep_token_id",
                                                             "seq_aux",
                                                             "seq_classif_dropout",
                                                             "sinusoidal_pos_embds",
                                                             "summary_activation",
                                                             "suppress_tokens",
                                                             "task_specific_params",
                                                             "temperature",
                                                             "tf_legacy_loss",
                                                             "tie_encoder_decoder",
                                                             "tie_weights_",
                                                             "tie_word_embeddings",
                                                             "tokenizer_class",
                                                             "top_k",
                                                             "top_p",
                                                             "torch_dtype",
                                                             "torchscript",
                                                             "transformers",
                                                             "transformers_version",
                                                             "typical_p",
                                                             "unsloth_fixed",
                                                             "unsloth_version",
                                                             "use_bfloat16",
                                                             "use_cache",
                                                             "vocab_size"};

std::string_view first_component(std::string_view path) {
  return path.substr(0, path.find('.'));
}

}  // namespace

std::vector<std::string> check_config_consumed(const ModelConfig& config) {
  std::vector<std::string> unknown;
  for (const auto& leftover : config.leftovers()) {
    const std::string_view name = first_component(leftover.path);
    const auto* const math = std::ranges::find(kMathKeys, name, &MathKey::name);
    if (math != kMathKeys.end()) {
      throw Error(
          ErrorCode::kUnsupportedModel,
          fmt::format("config.json: {} is {}; {}", leftover.path, leftover.value, math->why),
          leftover.path);
    }
    if (std::ranges::find(kHarmlessKeys, name) == kHarmlessKeys.end()) {
      unknown.push_back(leftover.path);
    }
  }
  return unknown;
}

}  // namespace onnxferry
