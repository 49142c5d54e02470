// Longformer (Beltagy et al. 2020): RoBERTa whose tokens see attention_window / 2 neighbours on
// either side; tokens that global_attention_mask marks see all, with projections of their own, and
// are seen by all.
//
// Peculiar: one dense attention under a mask, and a second one for the global tokens. It costs what
// full attention does, twice, but is right for every length (Optimum's loop over chunks has the
// traced number of them, and does not run); transformers' padding to whole windows changes no
// token. A padded query sees nothing. Without global tokens the second attention is computed and
// not used. Token types are an input; the global mask is one, too, so classes that would set it
// themselves do not. sentence-similarity has no global tokens. Source:
// transformers/models/longformer/modeling_longformer.py.

#include <algorithm>
#include <map>

#include "pipeline/architectures/bert_like.h"
#include "pipeline/graph/relative_position.h"

namespace onnxferry {
namespace {

constexpr EncoderLayerKeys kGlobalKeys = [] {
  EncoderLayerKeys keys = kBertLayerKeys;
  keys.query = "attention.self.query_global";
  keys.key = "attention.self.key_global";
  keys.value = "attention.self.value_global";
  return keys;
}();

// One per layer.
std::vector<std::int64_t> read_windows(const BertConfig& config) {
  const auto count = static_cast<std::size_t>(config.num_hidden_layers);
  auto windows = config.source.integers("attention_window", count);
  if (windows.empty()) {
    windows.assign(count, 512);
  }
  if (windows.size() != count || std::ranges::any_of(windows, [](std::int64_t width) {
        return width < 2 || width % 2 != 0;
      })) {
    config.source.refuse("attention_window", "expected an even, positive number for every layer");
  }
  return windows;
}

// Who is seen: real tokens near enough, and the global ones, which the one further input marks.
// [B, 1, S, S] by window.
std::map<std::int64_t, Value> window_masks(GraphBuilder& g,
                                           const std::vector<std::int64_t>& windows,
                                           const EncoderInputs& inputs) {
  const auto seen_by_row = [&](const Value& mask) {
    return g.Unsqueeze(g.Cast(mask, Dtype::kBool), {1, 2});  // [B, 1, 1, S]
  };
  const Value real = seen_by_row(inputs.attention_mask);
  const PositionRanges positions = position_ranges(g, inputs.input_ids);
  std::optional<Value> global;
  if (!inputs.further.empty()) {
    global = seen_by_row(inputs.further.front());
  }
  std::map<std::int64_t, Value> masks;
  for (const std::int64_t width : windows) {
    if (!masks.contains(width)) {
      const Value near = near_pairs(g, positions, width / 2);
      const Value visible = g.And(real, global ? g.Or(near, *global) : near);
      masks.emplace(width, g.Where(visible, g.float_scalar(0.0F), g.lowest()));
    }
  }
  return masks;
}

Value encode(GraphBuilder& g,
             const BertConfig& config,
             const std::vector<std::int64_t>& windows,
             const EncoderInputs& inputs) {
  const auto scope = g.scope(config.scope);
  const std::int64_t padding_id = config.source.integer("pad_token_id", 1);
  const Value x = bert_embeddings(
      g, config, inputs, {.positions = Positions::kFromIds, .padding_id = padding_id});
  const auto masks = window_masks(g, windows, inputs);
  EncoderLayerSpec local = config.layer();
  local.scale_on = ScaleOn::kQuery;
  EncoderLayerSpec global = local;
  global.keys = kGlobalKeys;
  const Value real = g.Unsqueeze(g.Cast(inputs.attention_mask, Dtype::kFloat32), {2});  // [B, S, 1]
  std::optional<Value> is_global, seen_by_global;  // [B, S, 1] bool, [B, 1, 1, S]
  if (!inputs.further.empty()) {
    const Value global_and_real = g.Mul(inputs.attention_mask, inputs.further.front());
    is_global = g.Unsqueeze(g.Cast(global_and_real, Dtype::kBool), {2});
    seen_by_global = padding_mask(g, inputs.attention_mask);
  }
  auto window = windows.begin();
  return bert_layers(g, config, local, x, [&](const Value& input, const std::string& key) {
    const Value seen = g.Mul(plain_attention(g, local, input, key, masks.at(*window++)), real);
    return is_global
               ? g.Where(*is_global, plain_attention(g, global, input, key, *seen_by_global), seen)
               : seen;
  });
}

std::vector<BuiltGraph> build_longformer(const BuildContext& context) {
  const BertConfig config(context, "longformer");
  const auto windows = read_windows(config);
  config.source.disregard("onnx_export");  // how transformers cuts chunks
  TextEncoder encoder =
      with_roberta_heads(config, [&](GraphBuilder& g, const EncoderInputs& inputs) {
        return encode(g, config, windows, inputs);
      });
  encoder.has_token_types = true;
  encoder.further_inputs = {{.name = "global_attention_mask"}};
  return build_text_encoder(context, encoder);
}

constexpr std::string_view kIgnoredTensors[] = {"*pooler.*",
                                                "lm_head.*",
                                                "classifier.*",
                                                "qa_outputs.*",
                                                "*embeddings.position_ids",
                                                "*_global.weight",
                                                "*_global.bias"};

}  // namespace

extern const Architecture kLongformer;
const Architecture kLongformer{.model_type = "longformer",
                               .tasks = kTextEncoderTasks,
                               .ignored_tensors = kIgnoredTensors,
                               .build = build_longformer};

}  // namespace onnxferry
