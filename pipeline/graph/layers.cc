#include "pipeline/graph/layers.h"

#include <array>
#include <cctype>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

// 0.5 x (1 + erf(x / √2)); Gelu itself exists from opset 20 on.
Value gelu_erf(GraphBuilder& g, const Value& x) {
  const Value erf = g.Erf(g.Div(x, g.float_scalar(std::numbers::sqrt2_v<float>)));
  return g.Mul(g.Mul(x, g.Add(erf, g.float_scalar(1.0F))), g.float_scalar(0.5F));
}

// 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))
Value gelu_tanh(GraphBuilder& g, const Value& x) {
  const Value cube = g.Pow(x, g.float_scalar(3.0F));
  const Value inner = g.Add(x, g.Mul(cube, g.float_scalar(0.044715F)));
  const auto factor = static_cast<float>(std::sqrt(2.0 / std::numbers::pi));
  const Value tanh = g.Tanh(g.Mul(inner, g.float_scalar(factor)));
  return g.Mul(g.Mul(x, g.float_scalar(0.5F)), g.Add(tanh, g.float_scalar(1.0F)));
}

Value quick_gelu(GraphBuilder& g, const Value& x) {
  return g.Mul(x, g.Sigmoid(g.Mul(x, g.float_scalar(1.702F))));
}

Value silu(GraphBuilder& g, const Value& x) {
  return g.Mul(x, g.Sigmoid(x));
}

Value relu(GraphBuilder& g, const Value& x) {
  return g.Relu(x);
}

Value tanh(GraphBuilder& g, const Value& x) {
  return g.Tanh(x);
}

struct NamedActivation {
  std::string_view name;
  Activation build;
};

Value relu_squared(GraphBuilder& g, const Value& x) {
  const Value y = g.Relu(x);
  return g.Mul(y, y);
}

// Source: ACT2FN in transformers/activations.py.
constexpr std::array kActivations = {
    NamedActivation{"gelu", gelu_erf},
    NamedActivation{"gelu_fast", gelu_tanh},
    NamedActivation{"gelu_new", gelu_tanh},
    NamedActivation{"gelu_python", gelu_erf},
    NamedActivation{"gelu_pytorch_tanh", gelu_tanh},
    NamedActivation{"quick_gelu", quick_gelu},
    NamedActivation{"relu", relu},
    NamedActivation{"relu2", relu_squared},
    NamedActivation{"silu", silu},
    NamedActivation{"swish", silu},
    NamedActivation{"tanh", tanh},
};

std::string with(std::string_view key, std::string_view suffix) {
  return std::string(key).append(suffix);
}

/// 1 + weight, added in float32 when the weights are written.
Value one_plus_weight(GraphBuilder& g, std::string_view key, std::int64_t size) {
  const std::string name = with(key, ".weight");
  return g.initializer(name + "_plus_one",
                       affine(cast(view(g.tensor(name, {size})), Dtype::kFloat32), 1.0, 1.0));
}

/// x / √(mean(x²) + epsilon)
Value rms_normalized(GraphBuilder& g, const Value& x, double epsilon) {
  const auto keep = g.float32_scope("");
  const Value mean = g.ReduceMean(g.Pow(x, g.float_scalar(2.0F)));
  const Value root = g.Sqrt(g.Add(mean, g.float_scalar(static_cast<float>(epsilon))));
  return g.Mul(x, g.Div(g.float_scalar(1.0F), root));
}

}  // namespace

std::string module_path(std::string_view key) {
  std::string path(key);
  for (std::size_t i = 0; i + 1 < path.size(); ++i) {
    if (path[i] == '.' && std::isdigit(static_cast<unsigned char>(path[i + 1])) == 0) {
      path[i] = '/';
    }
  }
  return path;
}

Value linear(GraphBuilder& g,
             const Value& x,
             std::string_view key,
             std::int64_t in,
             std::int64_t out,
             Bias bias) {
  Value product = g.MatMul(x, g.transposed_weight(with(key, ".weight"), {out, in}));
  if (bias == Bias::kNo) {
    return product;
  }
  return g.Add(product, g.weight(with(key, ".bias"), {out}));
}

Value linear_in_out(GraphBuilder& g,
                    const Value& x,
                    std::string_view key,
                    std::int64_t in,
                    std::int64_t out,
                    Bias bias) {
  const Value product = g.MatMul(x, g.weight(with(key, ".weight"), {in, out}));
  return bias == Bias::kNo ? product : g.Add(product, g.weight(with(key, ".bias"), {out}));
}

Value dense(GraphBuilder& g,
            const Value& x,
            std::string_view key,
            std::int64_t in,
            std::int64_t out,
            Bias bias) {
  const Value weight = g.weight(with(key, ".weight"), {out, in});
  if (bias == Bias::kNo) {
    return g.GemmTransB(x, weight, nullptr);
  }
  const Value shift = g.weight(with(key, ".bias"), {out});
  return g.GemmTransB(x, weight, &shift);
}

Value layer_norm(
    GraphBuilder& g, const Value& x, std::string_view key, std::int64_t size, double epsilon) {
  const bool is_old = g.has_tensor(with(key, ".gamma"));  // TensorFlow-era checkpoints
  const Value scale = g.weight(with(key, is_old ? ".gamma" : ".weight"), {size});
  const Value shift = g.weight(with(key, is_old ? ".beta" : ".bias"), {size});
  return g.LayerNormalization(x, scale, shift, static_cast<float>(epsilon));
}

Value rms_norm(
    GraphBuilder& g, const Value& x, std::string_view key, std::int64_t size, double epsilon) {
  const Value normalized = rms_normalized(g, x, epsilon);
  return g.Mul(g.weight(with(key, ".weight"), {size}), normalized);
}

Value normalize(GraphBuilder& g,
                const Value& x,
                std::string_view key,
                std::int64_t size,
                const NormSpec& spec) {
  const auto epsilon = static_cast<float>(spec.epsilon);
  switch (spec.kind) {
    case NormKind::kRms:
      return rms_norm(g, x, key, size, spec.epsilon);
    case NormKind::kRmsOnePlus: {
      const Value normalized = rms_normalized(g, x, spec.epsilon);
      return g.Mul(one_plus_weight(g, key, size), normalized);
    }
    case NormKind::kLayer:
      return layer_norm(g, x, key, size, spec.epsilon);
    case NormKind::kLayerOnePlus:
      return g.LayerNormalization(
          x, one_plus_weight(g, key, size), g.weight(with(key, ".bias"), {size}), epsilon);
    case NormKind::kLayerWithoutBias:
      return g.LayerNormalization(x, g.weight(with(key, ".weight"), {size}), epsilon);
    case NormKind::kLayerWithoutAffine: {
      const std::vector<float> ones(static_cast<std::size_t>(size), 1.0F);
      return g.LayerNormalization(x, g.floats(ones), epsilon);
    }
  }
  EXPORT_CHECK(false, "unknown kind of norm");
}

Value embedding(
    GraphBuilder& g, const Value& ids, std::string_view key, std::int64_t rows, std::int64_t size) {
  return g.Gather(g.weight(with(key, ".weight"), {rows, size}), ids);
}

Value tied_embedding(
    GraphBuilder& g, const Value& ids, std::string_view key, std::int64_t rows, std::int64_t size) {
  const Value table = g.transposed_weight(with(key, ".weight"), {rows, size});
  return g.Transpose(g.Gather(table, ids, 1), {1, 2, 0});
}

Value gelu(GraphBuilder& g, const Value& x) {
  return gelu_erf(g, x);
}

Value gelu_tanh_activation(GraphBuilder& g, const Value& x) {
  return gelu_tanh(g, x);
}

Value relu_activation(GraphBuilder& g, const Value& x) {
  return g.Relu(x);
}

Value tanh_activation(GraphBuilder& g, const Value& x) {
  return g.Tanh(x);
}

Activation read_activation(const ModelConfig& config,
                           std::string_view config_key,
                           std::string_view when_absent) {
  const std::string name = config.text(config_key, when_absent);
  for (const NamedActivation& known : kActivations) {
    if (known.name == name) {
      return known.build;
    }
  }
  config.refuse(config_key, "this activation is not implemented");
}

Value activation(GraphBuilder& g,
                 const Value& x,
                 const ModelConfig& config,
                 std::string_view config_key,
                 std::string_view when_absent) {
  return read_activation(config, config_key, when_absent)(g, x);
}

Value tied_head(GraphBuilder& g, const Value& x, const Value& ids, const TiedTable& table) {
  const Value flat = g.Reshape(x, g.ints({-1, table.size}));
  const Value weight = g.weight(with(table.key, ".weight"), {table.rows, table.size});
  Value logits = g.GemmTransB(flat, weight, nullptr);
  if (!table.bias_key.empty()) {
    logits = g.Add(logits, g.weight(table.bias_key, {table.rows}));
  }
  return g.Reshape(logits, g.Concat({g.Shape(ids), g.ints({table.rows})}, 0));
}

}  // namespace onnxferry
