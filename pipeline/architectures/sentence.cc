#include "pipeline/architectures/sentence.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "pipeline/checkpoint/sentence_modules.h"
#include "pipeline/error.h"
#include "pipeline/graph/layers.h"
#include "pipeline/weights/evaluate.h"

namespace onnxferry {
namespace {

constexpr std::uint64_t kMaxDenseBytes = 256U << 20;

/// One pooling after another over the same tokens: hidden state [B, S, H], mask [B, S] → [B, H].
class Pooler {
 public:
  Pooler(GraphBuilder& g, const Value& hidden_state, const Value& attention_mask)
      : g_(g), hidden_state_(hidden_state), attention_mask_(attention_mask) {}

  Value pool(PoolingMode mode) {
    switch (mode) {
      case PoolingMode::kFirstToken:
        return g_.Gather(hidden_state_, g_.int_scalar(0), 1);
      case PoolingMode::kMax:
        return max();
      case PoolingMode::kMean:
        return mean(mask());
      case PoolingMode::kMeanSqrtLength: {
        const Value weights = mask();
        const Value total = sum(weights);
        return g_.Div(total, g_.Sqrt(count(weights)));
      }
      case PoolingMode::kWeightedMean: {
        const Value places = g_.Cast(positions(1), Dtype::kFloat32);
        return mean(g_.Mul(mask(), places));
      }
      case PoolingMode::kLastToken:
        return last();
    }
    EXPORT_CHECK(false, "an unknown pooling mode");
  }

 private:
  Value mask() { return g_.Cast(attention_mask_, Dtype::kFloat32); }

  /// first, first + 1, …: [S] int64
  Value positions(std::int64_t first) {
    const Value zero_axis = g_.ints({0});
    const Value length = g_.Squeeze(g_.Shape(attention_mask_, 1, 2), &zero_axis);
    const Value limit = first == 0 ? length : g_.Add(length, g_.int_scalar(first));
    return g_.Range(g_.int_scalar(first), limit, g_.int_scalar(1));
  }

  /// Σ weight · token: weights [B, S] → [B, H]
  Value sum(const Value& weights) {
    const Value middle = g_.ints({1});
    return g_.Squeeze(g_.MatMul(g_.Unsqueeze(weights, {1}), hidden_state_), &middle);
  }

  /// Σ weights [B, 1], at least 1: the library's 1e-9 guards a row without tokens, whose sum is 0,
  /// and weights are whole numbers.
  Value count(const Value& weights) { return g_.Max(g_.ReduceSum(weights, 1), g_.float_scalar(1)); }

  Value mean(const Value& weights) {
    const Value total = sum(weights);
    return g_.Div(total, count(weights));
  }

  Value max() {
    const Value middle = g_.ints({1});
    const Value is_token = g_.Cast(g_.Unsqueeze(attention_mask_, {2}), Dtype::kBool);
    return g_.Squeeze(g_.ReduceMax(g_.Where(is_token, hidden_state_, g_.lowest()), 1), &middle);
  }

  Value last() {
    const Value places = positions(0);
    const Value index = g_.ReduceMax(g_.Mul(attention_mask_, places), 1);  // [B, 1]
    return g_.GatherND(hidden_state_, index, 1);
  }

  GraphBuilder& g_;
  const Value& hidden_state_;
  const Value& attention_mask_;
};

/// A small tensor of a module's own weight file, as float32 in memory: an export reads one set of
/// weight files, and this is not one of them.
Recipe load_tensor(const SentenceDense& dense,
                   const WeightFiles& weights,
                   std::string_view key,
                   const Shape& shape) {
  const TensorInfo* const tensor = weights.find(key);
  if (tensor == nullptr || tensor->shape != shape) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{} {} the tensor {} that its config.json describes",
                            dense.name,
                            tensor == nullptr ? "lacks" : "has another shape for",
                            key),
                dense.name);
  }
  const Recipe recipe = cast(view(*tensor), Dtype::kFloat32);
  if (byte_size(recipe) > kMaxDenseBytes) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("{} has {} bytes of weights, expected at most {}",
                            dense.name,
                            byte_size(recipe),
                            kMaxDenseBytes),
                dense.name);
  }
  std::string bytes;
  bytes.reserve(byte_size(recipe));
  evaluate(recipe, weights, [&](std::span<const std::byte> piece) {
    bytes.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  });
  return literal(Dtype::kFloat32, shape, std::move(bytes));
}

Value activate(GraphBuilder& g, const Value& x, const SentenceDense& dense) {
  using Apply = Value (*)(GraphBuilder&, const Value&);
  constexpr std::array<std::pair<std::string_view, Apply>, 6> kActivations = {{
      {"Identity", [](GraphBuilder&, const Value& value) { return value; }},
      {"Tanh", [](GraphBuilder& b, const Value& value) { return b.Tanh(value); }},
      {"ReLU", [](GraphBuilder& b, const Value& value) { return b.Relu(value); }},
      {"Sigmoid", [](GraphBuilder& b, const Value& value) { return b.Sigmoid(value); }},
      {"GELU", gelu},
      {"SiLU", [](GraphBuilder& b, const Value& value) { return b.Mul(value, b.Sigmoid(value)); }},
  }};
  const auto* const found = std::ranges::find_if(
      kActivations, [&](const auto& row) { return row.first == dense.activation; });
  if (found == kActivations.end()) {
    throw Error(ErrorCode::kUnsupportedModel,
                fmt::format("{}/config.json: activation_function is {:?}, which is not implemented",
                            dense.name,
                            dense.activation),
                dense.name);
  }
  return found->second(g, x);
}

/// [B, in] → [B, out]
Value apply(GraphBuilder& g, const Value& x, const SentenceDense& dense) {
  const auto scope = g.scope(dense.name);
  const WeightFiles weights = WeightFiles::open(dense.directory);
  const Value matrix = g.initializer(
      dense.name + ".linear.weight",
      load_tensor(dense, weights, "linear.weight", {dense.out_features, dense.in_features}));
  if (!dense.has_bias) {
    return activate(g, g.GemmTransB(x, matrix, nullptr), dense);
  }
  const Value bias =
      g.initializer(dense.name + ".linear.bias",
                    load_tensor(dense, weights, "linear.bias", {dense.out_features}));
  return activate(g, g.GemmTransB(x, matrix, &bias), dense);
}

/// x / max(‖x‖₂, 1e-12), as torch.nn.functional.normalize.
Value apply(GraphBuilder& g, const Value& x, const SentenceNormalize& /*module*/) {
  const auto scope = g.float32_scope("normalize");
  const Value norm = g.Sqrt(g.ReduceSum(g.Mul(x, x), 1));
  return g.Div(x, g.Max(norm, g.float_scalar(1e-12F)));
}

Value pool(GraphBuilder& g,
           const SentenceModules& modules,
           const Value& hidden_state,
           const Value& attention_mask) {
  const auto scope = g.float32_scope("pooling");  // torch sums half precision in float32
  Pooler pooler(g, hidden_state, attention_mask);
  std::vector<Value> parts;
  parts.reserve(modules.pooling.size());
  for (const PoolingMode mode : modules.pooling) {
    parts.push_back(pooler.pool(mode));
  }
  return parts.size() == 1 ? parts.front() : g.Concat(parts, 1);
}

void check_width(std::int64_t found, std::int64_t expected, std::string_view what) {
  if (found != expected) {
    throw Error(ErrorCode::kCorruptCheckpoint,
                fmt::format("{} is {}, but what comes before it has {}", what, found, expected),
                "modules.json");
  }
}

}  // namespace

void sentence_outputs(GraphBuilder& g,
                      const BuildContext& context,
                      const Value& hidden_state,
                      const Value& attention_mask,
                      std::int64_t hidden_size) {
  const SentenceModules modules = load_sentence_modules(context.model_root);
  check_width(modules.word_embedding_dimension, hidden_size, "1_Pooling's embedding dimension");
  g.output("token_embeddings", hidden_state, {"batch_size", "sequence_length", hidden_size});
  Value x = pool(g, modules, hidden_state, attention_mask);
  std::int64_t width = std::ssize(modules.pooling) * hidden_size;
  for (const SentenceModule& module : modules.after_pooling) {
    if (const auto* const dense = std::get_if<SentenceDense>(&module)) {
      check_width(dense->in_features, width, dense->name + "'s in_features");
      width = dense->out_features;
    }
    x = std::visit([&](const auto& layer) { return apply(g, x, layer); }, module);
  }
  g.output("sentence_embedding", x, {"batch_size", width});
}

}  // namespace onnxferry
