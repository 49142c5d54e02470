#pragma once

#include <string>
#include <string_view>

#include "pipeline/graph/layers.h"

namespace onnxferry {

/// The feed-forward block of a decoder layer. Tensor names are below the layer's mlp module.
struct FeedForwardSpec {
  enum class Form : std::uint8_t {
    kGated,       ///< down(act(gate(x)) · up(x)) (Llama)
    kGatedFused,  ///< the same; gate and up are the halves of one matrix, gate first (Phi-3)
    kPlain        ///< down(act(up(x))) (GPT-2)
  };
  Form form = Form::kGated;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::string_view gate_name = "gate_proj";  ///< kGated
  std::string_view up_name = "up_proj";      ///< kGatedFused: the matrix of both
  std::string_view down_name = "down_proj";
  Activation activation = nullptr;
  Bias bias = Bias::kNo;
  Linear linear = onnxferry::linear;
};

/// x [..., H] → [..., H]. `key` is the module's, "model.layers.0.mlp". Opens no scope for it.
Value feed_forward(GraphBuilder& g,
                   const Value& x,
                   const FeedForwardSpec& spec,
                   const std::string& key);

}  // namespace onnxferry
