#include "pipeline/verify/checks.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "pipeline/error.h"

namespace onnxferry {
namespace {

constexpr std::int64_t kBatch = 2;
constexpr std::int64_t kShort = 1;
constexpr std::int64_t kLong = 7;
constexpr std::int64_t kPast = 3;
constexpr std::int64_t kRightPads = 2;
constexpr std::int64_t kFullLength = 9;
constexpr std::int64_t kChunk = 3;
constexpr std::int64_t kPads = 3;
constexpr std::uint64_t kSeed = 20240;
constexpr std::size_t kCacheLengthAxis = 2;

std::int64_t clamp_to_positions(std::int64_t length, const VerifyRequest& request) {
  return request.max_positions > 0 ? std::min(length, request.max_positions) : length;
}

std::set<std::int64_t> run_lengths(const TextModel& model, const VerifyRequest& request) {
  if (const auto fixed = model.fixed_length()) {
    return {*fixed};
  }
  return {kShort, clamp_to_positions(kLong, request)};
}

// The axis of an output along which tokens are cut: the sequence, or in a cache past and sequence.
std::optional<std::size_t> token_axis(const TextModel& model, std::size_t output) {
  return model.is_present(output) ? std::optional(kCacheLengthAxis) : model.sequence_axis(output);
}

/// Everything one agreement check of a graph needs.
class Agreements {
 public:
  Agreements(TextModel& model,
             const VerifyRequest& request,
             Ledger& ledger,
             std::vector<std::string>& notes)
      : model_(model), request_(request), ledger_(ledger), notes_(notes) {}

  void with_past();
  void without_past();

 private:
  [[nodiscard]] Cache empty_cache(std::int64_t batch) const {
    return model_.random_cache(batch, 0);
  }
  void require_sequence_outputs() const;
  void require_batch_outputs(const Outputs& outputs) const;
  void check_steps(const Tokens& tokens, const Outputs& whole);
  void check_chunk(const Tokens& tokens, const Outputs& whole, const Cache& cache);
  void check_rows(const Tokens& tokens, const Outputs& whole);
  void check_left_padding(const Tokens& tokens);
  void check_right_padding(const Tokens& tokens);
  void check_prefix(const Tokens& tokens, const Outputs& whole);
  void note(std::string_view text) { notes_.push_back(fmt::format("{}: {}", model_.file(), text)); }

  TextModel& model_;
  const VerifyRequest& request_;
  Ledger& ledger_;
  std::vector<std::string>& notes_;
};

// Without a declared sequence dimension no step could be compared, and the level would check
// nothing.
void Agreements::require_sequence_outputs() const {
  const Outputs probe = model_.run(model_.random_tokens(1, 1, 0, kSeed), empty_cache(1));
  for (std::size_t i = 0; i < probe.size(); ++i) {
    if (!model_.is_present(i) && model_.sequence_axis(i)) {
      return;
    }
  }
  throw Error(ErrorCode::kVerificationFailed,
              fmt::format("no output besides the cache has the sequence dimension of input_ids, so "
                          "prefill and decoding cannot be compared; first output: {}",
                          probe.front().name),
              model_.file());
}

void Agreements::require_batch_outputs(const Outputs& outputs) const {
  for (const Tensor& output : outputs) {
    if (output.dims.empty() || output.dims.front() != kBatch) {
      throw Error(ErrorCode::kVerificationFailed,
                  fmt::format("{}: dimension 0 is not the batch: shape {} for batch size {}",
                              output.name,
                              dims_text(output.dims),
                              kBatch),
                  model_.file());
    }
  }
}

void Agreements::with_past() {
  // One position is left for the token after the prompt.
  const std::int64_t length = clamp_to_positions(kFullLength + 1, request_) - 1;
  if (length < 2) {
    note(fmt::format("prefill and decoding not compared: max_positions is {}",
                     request_.max_positions));
    return;
  }
  require_sequence_outputs();
  const Tokens tokens = model_.random_tokens(kBatch, length, 0, kSeed);
  const Outputs whole = model_.run(tokens, empty_cache(kBatch));
  require_batch_outputs(whole);
  check_steps(tokens, whole);
  check_rows(tokens, whole);
  if (model_.has_mask()) {
    check_left_padding(model_.random_tokens(kBatch, length + 1, 0, kSeed));
  } else {
    note("left padding not checked: the graph has no attention_mask");
  }
}

void Agreements::check_steps(const Tokens& tokens, const Outputs& whole) {
  const std::int64_t length = tokens.length();
  const std::int64_t chunk_at = std::max<std::int64_t>(1, length - kChunk);
  Cache cache = empty_cache(kBatch);
  Outputs steps;
  for (std::int64_t i = 0; i < length; ++i) {
    if (i == chunk_at) {
      check_chunk(tokens, whole, cache);
    }
    Outputs step = model_.run(tokens.piece(i, i + 1), cache);
    cache = model_.cache_of(step);
    if (steps.empty()) {
      steps = std::move(step);
      continue;
    }
    for (std::size_t k = 0; k < steps.size(); ++k) {
      const auto axis = model_.sequence_axis(k);
      const bool grows = axis && !model_.is_present(k);
      steps[k] = grows ? concat(steps[k], step[k], *axis) : std::move(step[k]);
    }
  }
  for (std::size_t k = 0; k < steps.size(); ++k) {
    ledger_.compare("prefill and step-by-step", whole[k], steps[k]);
  }
}

// Several tokens on a cache: neither prefill nor single steps see masks of this form.
void Agreements::check_chunk(const Tokens& tokens, const Outputs& whole, const Cache& cache) {
  const std::int64_t begin = cache.front().dims[kCacheLengthAxis];
  const std::int64_t end = tokens.length();
  const Outputs chunk = model_.run(tokens.piece(begin, end), cache);
  for (std::size_t k = 0; k < chunk.size(); ++k) {
    const auto axis = model_.sequence_axis(k);
    if (model_.is_present(k) || !axis) {
      ledger_.compare("prefill and a chunk on a cache", whole[k], chunk[k]);
      continue;
    }
    std::vector<std::int64_t> origin(*axis + 1, 0);
    origin[*axis] = begin;
    ledger_.compare(
        "prefill and a chunk on a cache", slice(whole[k], *axis, begin, end), chunk[k], origin);
  }
}

void Agreements::check_rows(const Tokens& tokens, const Outputs& whole) {
  for (std::int64_t row = 0; row < tokens.batch(); ++row) {
    const Outputs alone =
        model_.run(tokens.rows(row, row + 1), model_.has_past() ? empty_cache(1) : Cache());
    for (std::size_t k = 0; k < alone.size(); ++k) {
      ledger_.compare(
          "a row in a batch and alone", alone[k], slice(whole[k], 0, row, row + 1), {row});
    }
  }
}

// `tokens` holds one token more than the prompt: row 1 is padded on the left, and both rows decode
// one token after it.
void Agreements::check_left_padding(const Tokens& tokens) {
  const std::int64_t prompt = tokens.length() - 1;
  const std::int64_t pads = std::min(kPads, prompt - 1);
  const std::int64_t real = prompt - pads;
  const Tokens padded = model_.with_padding(tokens, PadSide::kLeft, 1, pads);
  const Tokens plain = tokens.rows(1, 2);
  const auto compare = [&](std::string_view what, const Outputs& expected, const Outputs& actual) {
    for (std::size_t k = 0; k < expected.size(); ++k) {
      if (model_.is_present(k) && !model_.has_position_ids()) {
        continue;  // the graph counts padding as positions: keys turn further, results stay
      }
      const Tensor row = slice(actual[k], 0, 1, 2);
      const auto axis = token_axis(model_, k);
      const bool is_padded = axis && row.dims[*axis] == expected[k].dims[*axis] + pads;
      std::vector<std::int64_t> origin = {1};
      if (is_padded) {
        origin.resize(*axis + 1, 0);
        origin[*axis] = pads;
      }
      ledger_.compare(
          what, expected[k], is_padded ? slice(row, *axis, pads, row.dims[*axis]) : row, origin);
    }
  };
  const Outputs expected = model_.run(plain.piece(0, real), empty_cache(1));
  const Outputs actual = model_.run(padded.piece(0, prompt), empty_cache(kBatch));
  compare("a row with left padding and without", expected, actual);
  const Outputs next = model_.run(plain.piece(real, real + 1), model_.cache_of(expected));
  const Outputs padded_next = model_.run(padded.piece(prompt, prompt + 1), model_.cache_of(actual));
  compare("the token after left padding and without", next, padded_next);
}

void Agreements::without_past() {
  const std::int64_t length = clamp_to_positions(kFullLength, request_);
  const Tokens tokens = model_.random_tokens(kBatch, length, 0, kSeed);
  const Outputs whole = model_.run(tokens, {});
  require_batch_outputs(whole);
  check_rows(tokens, whole);
  if (length < 2) {
    note(fmt::format("padding not checked: max_positions is {}", request_.max_positions));
    return;
  }
  if (!model_.has_mask()) {
    note("right padding not checked: the graph has no attention_mask");
  } else if (request_.sees_padding) {
    note("right padding not checked: in this model type tokens see the padding beside them");
  } else {
    check_right_padding(tokens);
  }
  if (request_.causal) {
    check_prefix(tokens, whole);
  }
}

void Agreements::check_right_padding(const Tokens& tokens) {
  const std::int64_t pads = std::min(kPads, tokens.length() - 1);
  const std::int64_t real = tokens.length() - pads;
  const Outputs expected = model_.run(tokens.rows(1, 2).piece(0, real), {});
  const Outputs actual = model_.run(model_.with_padding(tokens, PadSide::kRight, 1, pads), {});
  for (std::size_t k = 0; k < expected.size(); ++k) {
    const Tensor row = slice(actual[k], 0, 1, 2);
    const auto axis = model_.sequence_axis(k);
    if (!axis && !request_.pad_token_id) {
      note(fmt::format("{} not compared under right padding: no pad_token_id", row.name));
      continue;
    }
    ledger_.compare("a row with right padding and without",
                    expected[k],
                    axis ? slice(row, *axis, 0, real) : row,
                    {1});
  }
}

void Agreements::check_prefix(const Tokens& tokens, const Outputs& whole) {
  const std::int64_t length = std::max<std::int64_t>(1, tokens.length() - kChunk);
  const Outputs prefix = model_.run(tokens.piece(0, length), {});
  for (std::size_t k = 0; k < prefix.size(); ++k) {
    if (const auto axis = model_.sequence_axis(k)) {
      ledger_.compare("a prompt and its prefix", prefix[k], slice(whole[k], *axis, 0, length));
    }
  }
}

}  // namespace

void check_runs(TextModel& model, const VerifyRequest& request) {
  const std::int64_t batch = model.fixed_batch().value_or(kBatch);
  for (const std::int64_t length : run_lengths(model, request)) {
    const Tokens prompt = model.random_tokens(batch, length, 0, kSeed);
    model.run(prompt, model.random_cache(batch, 0));
    if (model.has_past()) {
      const std::int64_t past = clamp_to_positions(length + kPast, request) - length;
      if (past > 0) {
        model.run(model.random_tokens(batch, length, past, kSeed), model.random_cache(batch, past));
      }
    }
    if (model.has_mask() && length > kRightPads) {
      model.run(model.with_padding(prompt, PadSide::kRight, batch - 1, kRightPads),
                model.random_cache(batch, 0));
    }
  }
}

void check_agreements(TextModel& model,
                      const VerifyRequest& request,
                      Ledger& ledger,
                      std::vector<std::string>& notes) {
  if (model.fixed_batch() || model.fixed_length()) {
    throw Error(ErrorCode::kUnsupportedOption,
                "level full compares runs of several lengths and batch sizes, but the graph fixes "
                "them; verify with level run",
                model.file());
  }
  Agreements agreements(model, request, ledger, notes);
  if (model.has_past()) {
    agreements.with_past();
  } else {
    agreements.without_past();
  }
}

}  // namespace onnxferry
