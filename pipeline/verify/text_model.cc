#include "pipeline/verify/text_model.h"

#include <algorithm>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/verify/compare.h"
#include "pipeline/verify/symbols.h"

namespace onnxferry {
namespace {

constexpr std::string_view kPastPrefix = "past_key_values.";
constexpr std::string_view kPresentPrefix = "present.";
constexpr std::size_t kPastRank = 4;  // batch, heads, past length, head size
constexpr std::size_t kCacheLengthAxis = 2;
constexpr std::int64_t kNumChoices = 3;
// What generate() writes at masked positions; any valid position does.
constexpr std::int64_t kPaddedPosition = 1;

// splitmix64: the same sequence everywhere, unlike the standard library's distributions.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31U);
  }

 private:
  std::uint64_t state_;
};

bool is_integer(std::int32_t type) {
  return type == static_cast<std::int32_t>(ElementType::kInt64) ||
         type == static_cast<std::int32_t>(ElementType::kInt32);
}

bool is_cache_type(std::int32_t type) {
  return type == static_cast<std::int32_t>(ElementType::kFloat) ||
         type == static_cast<std::int32_t>(ElementType::kFloat16);
}

std::size_t last_axis(const Tensor& tensor) {
  return tensor.dims.size() - 1;
}

// Row `row` of a tensor replaced.
Tensor with_row(const Tensor& tensor, std::int64_t row, const Tensor& replacement) {
  const Tensor head = concat(slice(tensor, 0, 0, row), replacement, 0);
  return concat(head, slice(tensor, 0, row + 1, tensor.dims.front()), 0);
}

// One row with `count` elements of `fill` at one side of its last axis; its own last ones go.
Tensor padded_row(const Tensor& row, PadSide side, std::int64_t count, std::int64_t fill) {
  const std::size_t axis = last_axis(row);
  std::vector<std::int64_t> dims = row.dims;
  dims[axis] = count;
  const std::vector<std::int64_t> values(static_cast<std::size_t>(count_elements(dims)), fill);
  const Tensor padding = from_integers(row.name, row.type, dims, values);
  const Tensor kept = slice(row, axis, 0, row.dims[axis] - count);
  return side == PadSide::kLeft ? concat(padding, kept, axis) : concat(kept, padding, axis);
}

// The positions that generate() derives from a mask: the count of real tokens before each one.
std::vector<std::int64_t> positions_of(const Tensor& mask, std::int64_t length) {
  const std::vector<std::int64_t> values = to_integers(mask);
  const std::int64_t total = mask.dims.back();
  std::vector<std::int64_t> positions;
  std::int64_t seen = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::int64_t column = static_cast<std::int64_t>(i) % total;
    seen = column == 0 ? values[i] : seen + values[i];
    if (column >= total - length) {
      positions.push_back(values[i] == 0 ? kPaddedPosition : seen - 1);
    }
  }
  return positions;
}

// Longformer's global attention: the first of every four tokens has it.
std::vector<std::int64_t> some_are_global(const Tensor& ids) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(count_elements(ids.dims)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::int64_t>(i) % ids.dims.back() % 4 == 0 ? 1 : 0;
  }
  return values;
}

bool is_xpath(std::string_view name) {
  return name == "xpath_tags_seq" || name == "xpath_subs_seq";
}

// Ids below `limit`, `depth` for each token: anything that only the token itself decides.
std::vector<std::int64_t> xpaths_of(const Tensor& ids, std::int64_t depth, std::int64_t limit) {
  std::vector<std::int64_t> values;
  for (const std::int64_t id : to_integers(ids)) {
    for (std::int64_t level = 0; level < depth; ++level) {
      values.push_back((id * 31 + level * 7) % limit);
    }
  }
  return values;
}

ElementType declared_type(const ValueInfo& info) {
  return static_cast<ElementType>(info.type);
}

Tensor as_input(const ValueInfo& info, const Tensor& tensor) {
  return from_integers(info.name, declared_type(info), tensor.dims, to_integers(tensor));
}

}  // namespace

Tokens Tokens::rows(std::int64_t begin, std::int64_t end) const {
  return {slice(ids, 0, begin, end), slice(types, 0, begin, end), slice(mask, 0, begin, end)};
}

Tokens Tokens::piece(std::int64_t begin, std::int64_t end) const {
  const std::size_t axis = last_axis(ids);
  return {slice(ids, axis, begin, end), slice(types, axis, begin, end), slice(mask, axis, 0, end)};
}

TextModel::TextModel(const CheckedModel& model,
                     const VerifyRequest& request,
                     Session& session,
                     const StageScope& scope)
    : signature_(model.signature),
      file_(model.file.filename().string()),
      request_(request),
      session_(session),
      scope_(scope) {
  for (const ValueInfo& output : signature_.outputs) {
    output_names_.push_back(output.name);
  }
  classify_inputs();
  if (request_.vocab_size <= 0) {
    throw Error(ErrorCode::kUnsupportedOption,
                "running a model needs its vocabulary size; config.json has no vocab_size, verify "
                "with level load",
                file_);
  }
}

void TextModel::classify_inputs() {
  for (const ValueInfo& input : signature_.inputs) {
    const bool is_past = input.name.starts_with(kPastPrefix);
    const bool is_token_input = input.name == "input_ids" || input.name == "attention_mask" ||
                                input.name == "token_type_ids" || input.name == "position_ids" ||
                                input.name == "global_attention_mask" || is_xpath(input.name);
    const bool fits = is_past ? is_cache_type(input.type) && input.dims.size() == kPastRank
                              : is_token_input && is_integer(input.type) && input.dims.size() >= 2;
    if (!fits) {
      throw Error(ErrorCode::kUnsupportedOption,
                  fmt::format("there is no generator for graph input {} ({}, rank {}); verify with "
                              "level load",
                              input.name,
                              element_name(input.type),
                              input.dims.size()),
                  file_);
    }
    if (is_past) {
      past_.push_back(input);
    }
  }
  if (find_input("input_ids") == nullptr) {
    throw Error(ErrorCode::kUnsupportedOption,
                "the graph has no input input_ids, so no inputs can be generated; verify with "
                "level load",
                file_);
  }
  for (ValueInfo& past : past_) {
    const std::string present =
        fmt::format("{}{}", kPresentPrefix, past.name.substr(kPastPrefix.size()));
    const auto found = std::ranges::find(signature_.outputs, present, &ValueInfo::name);
    if (found == signature_.outputs.end()) {
      throw Error(ErrorCode::kVerificationFailed,
                  fmt::format("graph input {} has no output {}", past.name, present),
                  file_);
    }
    present_of_[past.name] = static_cast<std::size_t>(found - signature_.outputs.begin());
    resolve_past_dims(past);
  }
}

// Head count and head size can be symbolic in the past (so that consumers with wrong formulas can
// feed their empty cache); the present then states the real ones.
void TextModel::resolve_past_dims(ValueInfo& past) const {
  const ValueInfo& present = signature_.outputs[present_of_.at(past.name)];
  if (present.dims.size() != kPastRank || past.dims[kCacheLengthAxis].is_static()) {
    throw Error(ErrorCode::kUnsupportedOption,
                fmt::format("{} and {} are not a cache [batch, heads, length, size] of any length; "
                            "verify with level load",
                            past.name,
                            present.name),
                file_);
  }
  for (const std::size_t axis : {std::size_t{1}, std::size_t{3}}) {
    if (past.dims[axis].is_static()) {
      continue;
    }
    if (!present.dims[axis].is_static()) {
      throw Error(ErrorCode::kUnsupportedOption,
                  fmt::format("dimension {} of graph input {} is unknown: neither it nor {} has a "
                              "number there; verify with level load",
                              axis,
                              past.name,
                              present.name),
                  file_);
    }
    past.dims[axis] = present.dims[axis];
  }
}

const ValueInfo* TextModel::find_input(std::string_view name) const {
  const auto found = std::ranges::find(signature_.inputs, name, &ValueInfo::name);
  return found == signature_.inputs.end() ? nullptr : &*found;
}

std::optional<std::int64_t> TextModel::fixed_batch() const {
  const Dim& dim = ids().dims.front();
  return dim.is_static() ? std::optional(dim.size) : std::nullopt;
}

std::optional<std::int64_t> TextModel::fixed_length() const {
  const Dim& dim = ids().dims.back();
  return dim.is_static() ? std::optional(dim.size) : std::nullopt;
}

std::int64_t TextModel::token_id(std::uint64_t random) const {
  const std::int64_t vocab = request_.vocab_size;
  const std::int64_t pad = request_.pad_token_id.value_or(-1);
  if (pad < 0 || pad >= vocab || vocab < 2) {
    return static_cast<std::int64_t>(random % static_cast<std::uint64_t>(vocab));
  }
  const auto id = static_cast<std::int64_t>(random % static_cast<std::uint64_t>(vocab - 1));
  return id < pad ? id : id + 1;
}

Tokens TextModel::random_tokens(std::int64_t batch,
                                std::int64_t length,
                                std::int64_t past,
                                std::uint64_t seed) const {
  std::vector<std::int64_t> dims = {batch};
  for (std::size_t i = 1; i + 1 < ids().dims.size(); ++i) {
    dims.push_back(ids().dims[i].is_static() ? ids().dims[i].size : kNumChoices);
  }
  dims.push_back(length);
  const auto count = static_cast<std::size_t>(count_elements(dims));
  Random random(seed);
  std::vector<std::int64_t> id_values(count);
  std::vector<std::int64_t> type_values(count);
  for (std::size_t i = 0; i < count; ++i) {
    id_values[i] = token_id(random.next());
    const bool second_half = static_cast<std::int64_t>(i) % length >= (length + 1) / 2;
    type_values[i] = second_half && request_.type_vocab_size > 1 ? 1 : 0;
  }
  std::vector<std::int64_t> mask_dims = dims;
  mask_dims.back() = past + length;
  const std::vector<std::int64_t> ones(static_cast<std::size_t>(count_elements(mask_dims)), 1);
  return {from_integers("input_ids", ElementType::kInt64, dims, id_values),
          from_integers("token_type_ids", ElementType::kInt64, dims, type_values),
          from_integers("attention_mask", ElementType::kInt64, mask_dims, ones)};
}

Tokens TextModel::with_padding(const Tokens& tokens,
                               PadSide side,
                               std::int64_t row,
                               std::int64_t count) const {
  const std::int64_t pad = request_.pad_token_id.value_or(0);
  const std::int64_t fill = pad >= 0 && pad < request_.vocab_size ? pad : 0;
  const auto padded = [&](const Tensor& tensor, std::int64_t value) {
    return with_row(tensor, row, padded_row(slice(tensor, 0, row, row + 1), side, count, value));
  };
  return {padded(tokens.ids, fill), padded(tokens.types, 0), padded(tokens.mask, 0)};
}

Cache TextModel::random_cache(std::int64_t batch, std::int64_t length) const {
  Cache cache;
  Random random(0xCAC4E);
  for (const ValueInfo& past : past_) {
    Tensor tensor = zeros(
        past.name, declared_type(past), {batch, past.dims[1].size, length, past.dims[3].size});
    const auto count = static_cast<std::size_t>(count_elements(tensor.dims));
    for (std::size_t i = 0; i < count; ++i) {
      // Multiples of 1/64 in [-1, 1): exact in every float type.
      set_element(tensor, i, static_cast<double>(random.next() % 128) / 64.0 - 1.0);
    }
    cache.push_back(std::move(tensor));
  }
  return cache;
}

Cache TextModel::cache_of(const Outputs& outputs) const {
  Cache cache;
  for (const ValueInfo& past : past_) {
    Tensor tensor = outputs[present_of_.at(past.name)];
    tensor.name = past.name;
    if (tensor.type != declared_type(past)) {
      throw Error(ErrorCode::kVerificationFailed,
                  fmt::format("{} is {}, its output is {}",
                              past.name,
                              element_name(past.type),
                              element_name(static_cast<std::int32_t>(tensor.type))),
                  file_);
    }
    cache.push_back(std::move(tensor));
  }
  return cache;
}

std::vector<Tensor> TextModel::feeds(const Tokens& tokens, const Cache& cache) const {
  std::vector<Tensor> inputs;
  for (const ValueInfo& input : signature_.inputs) {
    if (input.name == "input_ids") {
      inputs.push_back(as_input(input, tokens.ids));
    } else if (input.name == "attention_mask") {
      inputs.push_back(as_input(input, tokens.mask));
    } else if (input.name == "token_type_ids") {
      inputs.push_back(as_input(input, tokens.types));
    } else if (input.name == "position_ids") {
      inputs.push_back(from_integers(input.name,
                                     declared_type(input),
                                     tokens.ids.dims,
                                     positions_of(tokens.mask, tokens.length())));
    } else if (input.name == "global_attention_mask") {
      inputs.push_back(from_integers(
          input.name, declared_type(input), tokens.ids.dims, some_are_global(tokens.ids)));
    } else if (is_xpath(input.name)) {
      const VerifyRequest::Xpath& xpath = request_.xpath;
      const std::int64_t limit = input.name == "xpath_tags_seq" ? xpath.tags : xpath.subscripts;
      std::vector<std::int64_t> dims = tokens.ids.dims;
      dims.push_back(xpath.max_depth);
      inputs.push_back(from_integers(
          input.name, declared_type(input), dims, xpaths_of(tokens.ids, xpath.max_depth, limit)));
    }
  }
  inputs.insert(inputs.end(), cache.begin(), cache.end());
  return inputs;
}

Outputs TextModel::run(const Tokens& tokens, const Cache& cache) {
  scope_.check_cancelled();
  const std::vector<Tensor> inputs = feeds(tokens, cache);
  std::string lengths =
      fmt::format("batch size {}, sequence length {}", tokens.batch(), tokens.length());
  if (has_past()) {
    lengths += fmt::format(", past length {}", cache.front().dims[kCacheLengthAxis]);
  }
  Outputs outputs = session_.run(inputs, output_names_);
  check_outputs(inputs, outputs, lengths);
  return outputs;
}

namespace {

// Gives symbols their values from what is fed, and holds inputs and outputs to them.
class DimChecker {
 public:
  DimChecker(const std::string& file, std::string_view lengths) : file_(file), lengths_(lengths) {}

  void bind(const ValueInfo& info, const Tensor& tensor) {
    for (std::size_t axis = 0; axis < info.dims.size(); ++axis) {
      const Dim& dim = info.dims[axis];
      if (!dim.is_static() && dim.symbol.find('+') == std::string::npos) {
        symbols_.bind(dim.symbol, tensor.dims[axis]);
      }
    }
  }

  void check(const ValueInfo& info, const Tensor& tensor) {
    if (tensor.dims.size() != info.dims.size()) {
      fail(info,
           fmt::format("has rank {}, shape {}; declared is rank {}",
                       tensor.dims.size(),
                       dims_text(tensor.dims),
                       info.dims.size()));
    }
    for (std::size_t axis = 0; axis < info.dims.size(); ++axis) {
      const Dim& dim = info.dims[axis];
      const std::int64_t expected =
          dim.is_static() ? dim.size : symbols_.bind(dim.symbol, tensor.dims[axis]);
      if (tensor.dims[axis] != expected) {
        fail(info,
             fmt::format("has shape {}; declared dimension {} is {}{}",
                         dims_text(tensor.dims),
                         axis,
                         dim.is_static() ? std::string() : dim.symbol + " = ",
                         expected));
      }
    }
  }

 private:
  [[noreturn]] void fail(const ValueInfo& info, const std::string& finding) const {
    throw Error(ErrorCode::kVerificationFailed,
                fmt::format("{}: {} for {}", info.name, finding, lengths_),
                file_);
  }

  const std::string& file_;
  std::string_view lengths_;
  Symbols symbols_;
};

}  // namespace

void TextModel::check_outputs(const std::vector<Tensor>& inputs,
                              const Outputs& outputs,
                              std::string_view lengths) const {
  DimChecker dims(file_, lengths);
  for (const Tensor& input : inputs) {
    dims.bind(*find_input(input.name), input);
  }
  for (const Tensor& input : inputs) {
    dims.check(*find_input(input.name), input);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const ValueInfo& info = signature_.outputs[i];
    if (static_cast<std::int32_t>(outputs[i].type) != info.type) {
      throw Error(ErrorCode::kVerificationFailed,
                  fmt::format("{}: is {}; declared is {}",
                              info.name,
                              element_name(static_cast<std::int32_t>(outputs[i].type)),
                              element_name(info.type)),
                  file_);
    }
    dims.check(info, outputs[i]);
    check_finite(file_, outputs[i], lengths);
  }
}

std::optional<std::size_t> TextModel::sequence_axis(std::size_t output) const {
  const Dim& sequence = ids().dims.back();
  if (sequence.is_static() || sequence.symbol.empty()) {
    return std::nullopt;
  }
  const std::vector<Dim>& dims = signature_.outputs[output].dims;
  for (std::size_t axis = 0; axis < dims.size(); ++axis) {
    if (dims[axis].symbol == sequence.symbol) {
      return axis;
    }
  }
  return std::nullopt;
}

bool TextModel::is_present(std::size_t output) const {
  return std::ranges::any_of(present_of_,
                             [output](const auto& entry) { return entry.second == output; });
}

}  // namespace onnxferry
