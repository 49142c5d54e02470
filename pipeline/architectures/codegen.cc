// CodeGen (Nijkamp et al. 2022): GPT-J with one matrix for queries, keys and values.
//
// Peculiar: its rows keep the layout of the four TPU cores it was trained on: per core a block of
// queries, then values, then keys. Source: transformers/models/codegen/modeling_codegen.py.

#include "pipeline/architectures/gpt.h"

namespace onnxferry {
namespace {

constexpr std::int64_t kCores = 4;

Value codegen_attention(GraphBuilder& g,
                        const Value& x,
                        DecoderInputs& inputs,
                        const SelfAttentionSpec& spec,
                        const SelfAttentionPlace& place) {
  const Value all = [&] {
    const auto scope = g.scope("qkv_proj");
    const std::int64_t size = spec.hidden_size;
    return linear(g, x, place.key + ".qkv_proj", size, 3 * size, Bias::kNo);
  }();
  const std::int64_t block = spec.hidden_size / kCores;
  const std::int64_t sizes[] = {block, block, block};
  const auto parts = g.Split(g.Reshape(all, g.ints({0, 0, kCores, 3 * block})), sizes, -1);
  const auto heads = [&](const Value& part) {
    return split_heads(g, part, spec.num_heads, spec.head_dim);
  };
  QueryKeyValue qkv;
  qkv.query = heads(parts[0]);
  qkv.value = heads(parts[1]);
  qkv.key = heads(parts[2]);
  return attend(g, qkv, inputs, spec, place);
}

std::vector<BuiltGraph> build_codegen(const BuildContext& context) {
  DecoderSpec spec = read_gptj(context.config);
  if (spec.attention.num_heads % kCores != 0) {
    context.config.refuse("n_head", "the projection's layout needs a multiple of four");
  }
  spec.attend =
      [attention = spec.attention](
          GraphBuilder& g, const Value& x, DecoderInputs& inputs, const SelfAttentionPlace& place) {
        return codegen_attention(g, x, inputs, attention, place);
      };
  return build_decoder(context, spec);
}

constexpr std::string_view kIgnoredTensors[] = {
    "lm_head.*", "*.attn.causal_mask", "*.attn.bias", "*.attn.masked_bias"};

}  // namespace

extern const Architecture kCodegen;
const Architecture kCodegen{.model_type = "codegen",
                            .tasks = kGenerationTasks,
                            .ignored_tensors = kIgnoredTensors,
                            .build = build_codegen};

}  // namespace onnxferry
