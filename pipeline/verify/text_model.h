#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/stage.h"
#include "pipeline/verify/session.h"
#include "pipeline/verify/tensor.h"
#include "pipeline/verify/verify.h"

namespace onnxferry {

/// The tokens of one run: ids and types [batch, (choices,) sequence], mask [.., past + sequence].
/// Pieces are cut with `first`, `rows` and so on, so that related runs see the same tokens.
struct Tokens {
  Tensor ids;
  Tensor types;
  Tensor mask;

  [[nodiscard]] std::int64_t length() const { return ids.dims.back(); }
  [[nodiscard]] std::int64_t batch() const { return ids.dims.front(); }
  /// Rows [begin, end) of the batch.
  [[nodiscard]] Tokens rows(std::int64_t begin, std::int64_t end) const;
  /// Tokens [begin, end) with a mask of ones over everything up to `end`.
  [[nodiscard]] Tokens piece(std::int64_t begin, std::int64_t end) const;
};

/// Past keys and values, one tensor per past input in graph order; empty for graphs without past.
using Cache = std::vector<Tensor>;

/// The outputs of one run in graph order.
using Outputs = std::vector<Tensor>;

enum class PadSide : std::uint8_t { kLeft, kRight };

/// A language model seen through its declared graph: makes inputs by name, runs, and holds every
/// result to what the graph declares.
class TextModel {
 public:
  /// \throws Error{kUnsupportedOption} naming a graph input that it cannot make
  TextModel(const CheckedModel& model,
            const VerifyRequest& request,
            Session& session,
            const StageScope& scope);

  [[nodiscard]] bool has_past() const { return !past_.empty(); }
  [[nodiscard]] bool has_mask() const { return find_input("attention_mask") != nullptr; }
  [[nodiscard]] bool has_position_ids() const { return find_input("position_ids") != nullptr; }
  [[nodiscard]] const std::string& file() const { return file_; }
  /// The batch size or sequence length that the graph fixes; nullopt: any.
  [[nodiscard]] std::optional<std::int64_t> fixed_batch() const;
  [[nodiscard]] std::optional<std::int64_t> fixed_length() const;

  /// Random ids (always the same for the same shape and `seed`), mask of ones.
  [[nodiscard]] Tokens random_tokens(std::int64_t batch,
                                     std::int64_t length,
                                     std::int64_t past,
                                     std::uint64_t seed) const;
  /// `tokens` with `count` padded positions at one side of row `row`, which loses as many of its
  /// tokens at its end.
  [[nodiscard]] Tokens with_padding(const Tokens& tokens,
                                    PadSide side,
                                    std::int64_t row,
                                    std::int64_t count) const;
  [[nodiscard]] Cache random_cache(std::int64_t batch, std::int64_t length) const;
  /// The past of the next run: the `present.*` outputs of this one.
  [[nodiscard]] Cache cache_of(const Outputs& outputs) const;

  /// Run, then check that every output is finite and has the declared type, rank and dims (dims of
  /// one symbol agree across inputs and outputs; sums of symbols are evaluated).
  /// \throws Error{kVerificationFailed} naming output, finding and the run's lengths
  Outputs run(const Tokens& tokens, const Cache& cache);

  /// The output's dimension that runs along the tokens of this run; nullopt: none.
  [[nodiscard]] std::optional<std::size_t> sequence_axis(std::size_t output) const;
  /// Whether an output is the cache of the next run (its axis 2 runs along past and tokens).
  [[nodiscard]] bool is_present(std::size_t output) const;

 private:
  [[nodiscard]] const ValueInfo* find_input(std::string_view name) const;
  [[nodiscard]] const ValueInfo& ids() const { return *find_input("input_ids"); }
  void classify_inputs();
  void resolve_past_dims(ValueInfo& past) const;
  [[nodiscard]] std::int64_t token_id(std::uint64_t random) const;
  [[nodiscard]] std::vector<Tensor> feeds(const Tokens& tokens, const Cache& cache) const;
  void check_outputs(const std::vector<Tensor>& inputs,
                     const Outputs& outputs,
                     std::string_view lengths) const;

  Signature signature_;
  std::vector<ValueInfo> past_;
  std::map<std::string, std::size_t> present_of_;  ///< past input → output index
  std::vector<std::string> output_names_;
  std::string file_;
  const VerifyRequest& request_;
  Session& session_;
  const StageScope& scope_;
};

}  // namespace onnxferry
