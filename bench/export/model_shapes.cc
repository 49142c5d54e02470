#include "bench/export/model_shapes.h"

#include <fmt/format.h>

namespace onnxferry::bench {
namespace {

struct Qwen2Dims {
  std::int64_t hidden;
  std::int64_t key_value;
  std::int64_t intermediate;
  std::int64_t vocab;
  int layers;
  bool has_lm_head;
};

std::vector<ShapedTensor> qwen2_tensors(const Qwen2Dims& dims) {
  std::vector<ShapedTensor> tensors;
  if (dims.has_lm_head) {
    tensors.push_back({"lm_head.weight", {dims.vocab, dims.hidden}});
  }
  tensors.push_back({"model.embed_tokens.weight", {dims.vocab, dims.hidden}});
  for (int layer = 0; layer < dims.layers; ++layer) {
    const auto add = [&](std::string_view name, std::vector<std::int64_t> shape) {
      tensors.push_back({fmt::format("model.layers.{}.{}", layer, name), std::move(shape)});
    };
    add("input_layernorm.weight", {dims.hidden});
    add("mlp.down_proj.weight", {dims.hidden, dims.intermediate});
    add("mlp.gate_proj.weight", {dims.intermediate, dims.hidden});
    add("mlp.up_proj.weight", {dims.intermediate, dims.hidden});
    add("post_attention_layernorm.weight", {dims.hidden});
    add("self_attn.k_proj.bias", {dims.key_value});
    add("self_attn.k_proj.weight", {dims.key_value, dims.hidden});
    add("self_attn.o_proj.weight", {dims.hidden, dims.hidden});
    add("self_attn.q_proj.bias", {dims.hidden});
    add("self_attn.q_proj.weight", {dims.hidden, dims.hidden});
    add("self_attn.v_proj.bias", {dims.key_value});
    add("self_attn.v_proj.weight", {dims.key_value, dims.hidden});
  }
  tensors.push_back({"model.norm.weight", {dims.hidden}});
  return tensors;
}

// Source: Qwen/Qwen2.5-0.5B and Qwen/Qwen2.5-7B, config.json.
constexpr std::string_view kQwen2Config = R"({{
  "architectures": ["Qwen2ForCausalLM"],
  "attention_dropout": 0.0,
  "bos_token_id": 151643,
  "eos_token_id": 151643,
  "hidden_act": "silu",
  "hidden_size": {hidden},
  "initializer_range": 0.02,
  "intermediate_size": {intermediate},
  "max_position_embeddings": {positions},
  "max_window_layers": {window_layers},
  "model_type": "qwen2",
  "num_attention_heads": {heads},
  "num_hidden_layers": {layers},
  "num_key_value_heads": {key_value_heads},
  "rms_norm_eps": 1e-06,
  "rope_theta": 1000000.0,
  "sliding_window": {positions},
  "tie_word_embeddings": {tied},
  "torch_dtype": "bfloat16",
  "transformers_version": "4.40.1",
  "use_cache": true,
  "use_mrope": false,
  "use_sliding_window": false,
  "vocab_size": {vocab}
}}
)";

std::string qwen2_config(const Qwen2Dims& dims, int heads, int key_value_heads, int positions) {
  using fmt::arg;
  return fmt::format(fmt::runtime(kQwen2Config),
                     arg("hidden", dims.hidden),
                     arg("intermediate", dims.intermediate),
                     arg("positions", positions),
                     arg("window_layers", dims.has_lm_head ? 28 : 24),
                     arg("heads", heads),
                     arg("layers", dims.layers),
                     arg("key_value_heads", key_value_heads),
                     arg("tied", !dims.has_lm_head),
                     arg("vocab", dims.vocab));
}

ModelShape qwen2_half_billion() {
  const Qwen2Dims dims{.hidden = 896,
                       .key_value = 128,
                       .intermediate = 4864,
                       .vocab = 151936,
                       .layers = 24,
                       .has_lm_head = false};
  return {.name = "qwen2.5-0.5b",
          .config_json = qwen2_config(dims, 14, 2, 32768),
          .dtype = "BF16",
          .tensors = qwen2_tensors(dims)};
}

ModelShape qwen2_seven_billion() {
  const Qwen2Dims dims{.hidden = 3584,
                       .key_value = 512,
                       .intermediate = 18944,
                       .vocab = 152064,
                       .layers = 28,
                       .has_lm_head = true};
  return {.name = "7b-sparse",
          .config_json = qwen2_config(dims, 28, 4, 131072),
          .dtype = "BF16",
          .is_sparse = true,
          .tensors = qwen2_tensors(dims)};
}

// Source: google-bert/bert-base-uncased, config.json and model.safetensors (without the
// next-sentence head, so that all of it is used).
constexpr std::string_view kBertConfig = R"({
  "architectures": ["BertForMaskedLM"],
  "attention_probs_dropout_prob": 0.1,
  "gradient_checkpointing": false,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.1,
  "hidden_size": 768,
  "initializer_range": 0.02,
  "intermediate_size": 3072,
  "layer_norm_eps": 1e-12,
  "max_position_embeddings": 512,
  "model_type": "bert",
  "num_attention_heads": 12,
  "num_hidden_layers": 12,
  "pad_token_id": 0,
  "position_embedding_type": "absolute",
  "transformers_version": "4.6.0.dev0",
  "type_vocab_size": 2,
  "use_cache": true,
  "vocab_size": 30522
}
)";

ModelShape bert_base() {
  constexpr std::int64_t kHidden = 768;
  constexpr std::int64_t kIntermediate = 3072;
  constexpr std::int64_t kVocab = 30522;
  ModelShape model{.name = "bert-base",
                   .config_json = std::string(kBertConfig),
                   .dtype = "F32",
                   .item_bytes = 4,
                   .tensors = {}};
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    model.tensors.push_back({name + ".weight", {out, in}});
    model.tensors.push_back({name + ".bias", {out}});
  };
  const auto norm = [&](const std::string& name) {
    model.tensors.push_back({name + ".weight", {kHidden}});
    model.tensors.push_back({name + ".bias", {kHidden}});
  };
  model.tensors.push_back({"bert.embeddings.word_embeddings.weight", {kVocab, kHidden}});
  model.tensors.push_back({"bert.embeddings.position_embeddings.weight", {512, kHidden}});
  model.tensors.push_back({"bert.embeddings.token_type_embeddings.weight", {2, kHidden}});
  norm("bert.embeddings.LayerNorm");
  for (int layer = 0; layer < 12; ++layer) {
    const std::string prefix = fmt::format("bert.encoder.layer.{}.", layer);
    for (const char* part : {"query", "key", "value"}) {
      linear(prefix + "attention.self." + part, kHidden, kHidden);
    }
    linear(prefix + "attention.output.dense", kHidden, kHidden);
    norm(prefix + "attention.output.LayerNorm");
    linear(prefix + "intermediate.dense", kIntermediate, kHidden);
    linear(prefix + "output.dense", kHidden, kIntermediate);
    norm(prefix + "output.LayerNorm");
  }
  model.tensors.push_back({"cls.predictions.bias", {kVocab}});
  linear("cls.predictions.transform.dense", kHidden, kHidden);
  norm("cls.predictions.transform.LayerNorm");
  return model;
}

}  // namespace

std::optional<ModelShape> find_model_shape(std::string_view name) {
  for (ModelShape& model : std::vector{qwen2_half_billion(), bert_base(), qwen2_seven_billion()}) {
    if (model.name == name) {
      return model;
    }
  }
  return std::nullopt;
}

}  // namespace onnxferry::bench
