#include "pipeline/graph/rotary.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

// torch: base ** (arange(0, dim, 2).float() / dim), the power in double, rounded to float once.
std::vector<float> position_frequencies(double theta, std::int64_t dim) {
  std::vector<float> result;
  for (std::int64_t i = 0; i < dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(dim);
    result.push_back(static_cast<float>(std::pow(theta, static_cast<double>(exponent))));
  }
  return result;
}

std::vector<float> default_frequencies(double theta, std::int64_t dim) {
  std::vector<float> result = position_frequencies(theta, dim);
  for (float& value : result) {
    value = 1.0F / value;
  }
  return result;
}

/// What a reader of one rope type looks at.
struct RopeSource {
  const ModelConfig& config;
  const ModelConfig& scaling;  ///< rope_scaling or rope_parameters
  double theta;
};

void read_linear(const RopeSource& source, RopeConfig& rope) {
  const double factor = source.scaling.number("factor");
  for (float& value : rope.frequencies) {
    value /= static_cast<float>(factor);
  }
}

void read_dynamic(const RopeSource& source, RopeConfig& rope) {
  rope.kind = RopeConfig::Kind::kDynamic;
  rope.theta = source.theta;
  rope.factor = source.scaling.number("factor");
  // transformers ignores rope_scaling.original_max_position_embeddings here and says so in a TODO.
  static_cast<void>(source.scaling.find_integer("original_max_position_embeddings"));
  rope.original_length = source.config.dimension("max_position_embeddings");
}

double yarn_scale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const ModelConfig& scaling, double factor) {
  const auto given = scaling.find_number("attention_factor");
  const double mscale = scaling.number("mscale", 0);
  const double mscale_all_dim = scaling.number("mscale_all_dim", 0);
  if (given) {
    return *given;
  }
  return mscale != 0 && mscale_all_dim != 0
             ? yarn_scale(factor, mscale) / yarn_scale(factor, mscale_all_dim)
             : yarn_scale(factor, 1);
}

void read_yarn(const RopeSource& source, RopeConfig& rope) {
  const ModelConfig& scaling = source.scaling;
  const double factor = scaling.number("factor");
  rope.attention_factor = yarn_attention_factor(scaling, factor);
  const auto or_default = [](std::optional<double> value, double otherwise) {
    return value && *value != 0 ? *value : otherwise;
  };
  const double beta_fast = or_default(scaling.find_number("beta_fast"), 32);
  const double beta_slow = or_default(scaling.find_number("beta_slow"), 1);
  const bool truncate = scaling.boolean("truncate", true);
  const std::int64_t length = scaling.integer("original_max_position_embeddings",
                                              source.config.dimension("max_position_embeddings"));
  const auto dim = static_cast<double>(rope.rotary_dim);
  const auto correction_dim = [&](double rotations) {
    return dim * std::log(static_cast<double>(length) / (rotations * 2 * std::numbers::pi)) /
           (2 * std::log(source.theta));
  };
  double low = correction_dim(beta_fast);
  double high = correction_dim(beta_slow);
  if (truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) {
    high += 0.001;  // transformers: prevent singularity
  }
  const std::vector<float> positions = position_frequencies(source.theta, rope.rotary_dim);
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const float ramp = std::clamp(
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low),
        0.0F,
        1.0F);
    const float extrapolation = 1.0F - ramp;
    rope.frequencies[i] =
        1.0F / (static_cast<float>(factor) * positions[i]) * (1.0F - extrapolation) +
        1.0F / positions[i] * extrapolation;
  }
}

void read_longrope(const RopeSource& source, RopeConfig& rope) {
  const ModelConfig& scaling = source.scaling;
  rope.kind = RopeConfig::Kind::kLongRope;
  const auto half = static_cast<std::size_t>(rope.rotary_dim / 2);
  const auto factors = [&](std::string_view key) {
    auto values = scaling.find_numbers(key);
    if (!values || values->size() != half) {
      scaling.refuse(key, "expected one factor per pair of rotary dimensions");
    }
    return std::move(*values);
  };
  const std::vector<double> short_factors = factors("short_factor");
  const std::vector<double> long_factors = factors("long_factor");
  const std::int64_t max_length = source.config.dimension("max_position_embeddings");
  double factor = scaling.number("factor", 1);
  const auto original = source.config.find_integer("original_max_position_embeddings");
  if (original && *original > 0) {
    factor = static_cast<double>(max_length) / static_cast<double>(*original);
  } else if (!scaling.has("factor")) {
    scaling.refuse("factor", "longrope needs it when original_max_position_embeddings is absent");
  }
  rope.original_length = original && *original > 0 ? *original : max_length;
  const double computed =
      factor <= 1
          ? 1.0
          : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(rope.original_length)));
  rope.attention_factor = scaling.number("attention_factor", computed);
  const std::vector<float> positions = position_frequencies(source.theta, rope.rotary_dim);
  rope.long_frequencies.resize(half);
  for (std::size_t i = 0; i < half; ++i) {
    rope.frequencies[i] = 1.0F / (static_cast<float>(short_factors[i]) * positions[i]);
    rope.long_frequencies[i] = 1.0F / (static_cast<float>(long_factors[i]) * positions[i]);
  }
}

void read_llama3(const RopeSource& source, RopeConfig& rope) {
  const ModelConfig& scaling = source.scaling;
  const double factor = scaling.number("factor");
  const double low = scaling.number("low_freq_factor");
  const double high = scaling.number("high_freq_factor");
  const auto length = static_cast<double>(scaling.dimension("original_max_position_embeddings"));
  const double low_wavelength = length / low;
  const double high_wavelength = length / high;
  for (float& frequency : rope.frequencies) {
    const float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    const float scaled = frequency / static_cast<float>(factor);
    if (wavelength > static_cast<float>(low_wavelength)) {
      frequency = scaled;
    } else if (wavelength >= static_cast<float>(high_wavelength)) {
      const float smooth = (static_cast<float>(length) / wavelength - static_cast<float>(low)) /
                           static_cast<float>(high - low);
      frequency = (1 - smooth) * scaled + smooth * frequency;
    }
  }
}

/// A factor of 0, a NaN or an overflow in config.json would make a graph whose every output is NaN.
void check_frequencies(const RopeConfig& rope) {
  const auto is_usable = [](double value) { return std::isfinite(value) && value > 0; };
  if (!std::ranges::all_of(rope.frequencies, is_usable) ||
      !std::ranges::all_of(rope.long_frequencies, is_usable) || !is_usable(rope.factor) ||
      !std::isfinite(rope.attention_factor)) {
    throw Error(ErrorCode::kUnsupportedModel,
                "config.json: the rope parameters give frequencies that are not positive finite "
                "numbers; check rope_theta and factor",
                "rope_scaling");
  }
}

/// inv_freq of a dynamic NTK rope for the current length, or the constants up to the original
/// length.
Value dynamic_frequencies(GraphBuilder& g, const RopeConfig& rope, const Value& length) {
  const auto number = [&](double value) { return g.float_scalar(static_cast<float>(value)); };
  const auto dim = static_cast<double>(rope.rotary_dim);
  std::vector<float> exponents;
  for (std::int64_t i = 0; i < rope.rotary_dim; i += 2) {
    exponents.push_back(static_cast<float>(i) / static_cast<float>(rope.rotary_dim));
  }
  const Value stretch = g.Sub(
      g.Div(g.Mul(length, number(rope.factor)), number(static_cast<double>(rope.original_length))),
      number(rope.factor - 1));
  // Up to the original length the result is not used; Max keeps the power's base positive there.
  const Value base =
      g.Mul(g.Pow(g.Max(stretch, number(1)), number(dim / (dim - 2))), number(rope.theta));
  const Value stretched = g.Div(number(1), g.Pow(base, g.floats(exponents)));
  const Value is_long = g.Greater(length, number(static_cast<double>(rope.original_length)));
  return g.Where(is_long, stretched, g.floats(rope.frequencies));
}

Value current_frequencies(GraphBuilder& g, const RopeConfig& rope, const Value& position_ids) {
  if (rope.kind == RopeConfig::Kind::kStatic) {
    return g.floats(rope.frequencies);
  }
  // transformers: seq_len = max(position_ids) + 1, over the whole batch
  const Value last = g.ReduceMax(g.Cast(position_ids, Dtype::kFloat32));
  const Value length = g.Add(last, g.float_scalar(1.0F));
  if (rope.kind == RopeConfig::Kind::kDynamic) {
    return dynamic_frequencies(g, rope, length);
  }
  const Value is_long = g.Greater(length, g.float_scalar(static_cast<float>(rope.original_length)));
  return g.Where(is_long, g.floats(rope.long_frequencies), g.floats(rope.frequencies));
}

}  // namespace

RopeConfig unscaled_rope(double theta, std::int64_t rotary_dim) {
  RopeConfig rope;
  rope.rotary_dim = rotary_dim;
  rope.frequencies = default_frequencies(theta, rotary_dim);
  check_frequencies(rope);
  return rope;
}

RopeConfig read_rope(const ModelConfig& config,
                     std::int64_t head_dim,
                     double default_theta,
                     std::string_view theta_key) {
  struct Reader {
    std::string_view type;
    void (*read)(const RopeSource&, RopeConfig&);
  };
  static constexpr std::array kReaders = {
      Reader{"default", [](const RopeSource&, RopeConfig&) {}},
      Reader{"linear", read_linear},
      Reader{"dynamic", read_dynamic},
      Reader{"yarn", read_yarn},
      Reader{"longrope", read_longrope},
      Reader{"llama3", read_llama3},
  };
  double theta = config.number(theta_key, default_theta);
  const auto v5 = config.find_object("rope_parameters");  // transformers 5 puts theta in here, too
  const auto scaling = v5 ? v5 : config.find_object("rope_scaling");
  if (v5) {
    theta = v5->number("rope_theta", theta);
  }
  if (theta <= 0) {
    config.refuse(theta_key, "expected a positive number");
  }
  if (head_dim % 2 != 0) {
    throw Error(
        ErrorCode::kUnsupportedModel, "rotary embeddings need an even head_dim", "head_dim");
  }
  RopeConfig rope;
  rope.rotary_dim = head_dim;
  rope.frequencies = default_frequencies(theta, head_dim);
  if (!scaling) {
    check_frequencies(rope);
    return rope;
  }
  const auto new_name = scaling->find_text("rope_type");
  const std::string type =
      scaling->text("type", new_name.value_or("default"));  // "type" wins in transformers
  const auto* const reader = std::ranges::find(kReaders, type, &Reader::type);
  if (reader == kReaders.end()) {
    scaling->refuse(scaling->has("type") ? "type" : "rope_type",
                    "known rope types are default, linear, dynamic, yarn, longrope and llama3");
  }
  reader->read({config, *scaling, theta}, rope);
  check_frequencies(rope);
  return rope;
}

RotaryTables rotary_tables(GraphBuilder& g,
                           const RopeConfig& rope,
                           const Value& position_ids,
                           RotaryLayout layout) {
  const auto scope =
      g.float32_scope("rotary_emb");  // angles lose their meaning in float16 past position 2048
  const Value positions =
      g.Unsqueeze(g.Cast(position_ids, Dtype::kFloat32), {1, 3});  // [B, 1, S, 1]
  const Value angles =
      g.Mul(positions, current_frequencies(g, rope, position_ids));  // [B, 1, S, d/2]
  Value cos = g.Cos(angles);
  Value sin = g.Sin(angles);
  if (rope.attention_factor != 1.0) {
    const Value factor = g.float_scalar(static_cast<float>(rope.attention_factor));
    cos = g.Mul(cos, factor);
    sin = g.Mul(sin, factor);
  }
  const auto twice = [&](const Value& first, const Value& second) {
    if (layout != RotaryLayout::kPairs) {
      return g.Concat({first, second}, -1);
    }
    const Value pairs = g.Concat({g.Unsqueeze(first, {4}), g.Unsqueeze(second, {4})}, -1);
    return g.Reshape(pairs, g.ints({0, 0, 0, rope.rotary_dim}));
  };
  const Value cosines = twice(cos, cos);
  return {cosines, twice(g.Neg(sin), sin), layout, rope.rotary_dim};
}

Value rotate(GraphBuilder& g, const Value& x, std::int64_t head_dim, const RotaryTables& tables) {
  if (tables.rotary_dim < head_dim) {
    const std::int64_t sizes[] = {tables.rotary_dim, head_dim - tables.rotary_dim};
    const auto parts = g.Split(x, sizes, -1);
    return g.Concat({rotate(g, parts[0], tables.rotary_dim, tables), parts[1]}, -1);
  }
  if (tables.layout == RotaryLayout::kPairsToHalves) {
    std::vector<std::int64_t> first;
    std::vector<std::int64_t> second;
    for (std::int64_t i = 0; i < tables.rotary_dim; i += 2) {
      first.push_back(i);
      second.push_back(i + 1);
    }
    const auto halves = [&](std::vector<std::int64_t> order,
                            const std::vector<std::int64_t>& rest) {
      order.insert(order.end(), rest.begin(), rest.end());
      return g.Gather(x, g.ints(order), -1);
    };
    return g.Add(g.Mul(halves(first, second), tables.cos),
                 g.Mul(halves(second, first), tables.signed_sin));
  }
  const Value partner = [&] {
    if (tables.layout == RotaryLayout::kHalves) {
      const auto [first, second] = g.Split(x, -1);
      return g.Concat({second, first}, -1);
    }
    std::vector<std::int64_t> swapped;
    for (std::int64_t i = 0; i < tables.rotary_dim; i += 2) {
      swapped.insert(swapped.end(), {i + 1, i});
    }
    return g.Gather(x, g.ints(swapped), -1);
  }();
  return g.Add(g.Mul(x, tables.cos), g.Mul(partner, tables.signed_sin));
}

}  // namespace onnxferry
