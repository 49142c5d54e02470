#include "pipeline/graph/feed_forward.h"

#include <fmt/format.h>

namespace onnxferry {

Value feed_forward(GraphBuilder& g,
                   const Value& x,
                   const FeedForwardSpec& spec,
                   const std::string& key) {
  const auto project =
      [&](const Value& input, std::string_view name, std::int64_t in, std::int64_t out) {
        const auto scope = g.scope(name);
        return spec.linear(g, input, fmt::format("{}.{}", key, name), in, out, spec.bias);
      };
  const auto activate = [&](const Value& input) {
    const auto scope = g.scope("act_fn");
    return spec.activation(g, input);
  };
  const Value inner = [&] {
    switch (spec.form) {
      case FeedForwardSpec::Form::kGated: {
        const Value gate = project(x, spec.gate_name, spec.hidden_size, spec.intermediate_size);
        const Value up = project(x, spec.up_name, spec.hidden_size, spec.intermediate_size);
        return g.Mul(activate(gate), up);
      }
      case FeedForwardSpec::Form::kGatedFused: {
        const auto [gate, up] =
            g.Split(project(x, spec.up_name, spec.hidden_size, 2 * spec.intermediate_size), -1);
        return g.Mul(activate(gate), up);
      }
      case FeedForwardSpec::Form::kPlain:
        break;
    }
    return activate(project(x, spec.up_name, spec.hidden_size, spec.intermediate_size));
  }();
  return project(inner, spec.down_name, spec.intermediate_size, spec.hidden_size);
}

}  // namespace onnxferry
