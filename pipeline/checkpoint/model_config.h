#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace onnxferry {

/// config.json with typed access that remembers which keys were asked for. A key that nobody asked
/// for and that can change a model's math is refused by check_config_consumed(): a wrong model that
/// loads is the worst result there is.
///
/// null counts as absent (as in transformers), except for `is_null`. A nested object is read
/// through `find_object`; its keys count as consumed leaf by leaf ("rope_scaling.factor"). Every
/// getter throws Error{kCorruptCheckpoint} naming key, found and expected type. Copies share the
/// record of consumed keys. Thread: one at a time.
class ModelConfig {
 public:
  /// \throws Error{kCorruptCheckpoint} if it is not a JSON object
  static ModelConfig parse(std::string_view json);
  /// Read `<directory>/config.json`, at most 16 MiB.
  static ModelConfig load(const std::filesystem::path& directory);

  [[nodiscard]] std::string model_type() const;
  /// architectures[0], e.g. "BertForMaskedLM"; empty if absent.
  [[nodiscard]] std::string architecture_class() const;

  /// The key is there and not null.
  [[nodiscard]] bool has(std::string_view key) const;
  /// The key is there and null: for the few keys where that is a choice of its own.
  [[nodiscard]] bool is_null(std::string_view key) const;

  [[nodiscard]] std::int64_t integer(std::string_view key) const;
  [[nodiscard]] std::int64_t integer(std::string_view key, std::int64_t when_absent) const;
  [[nodiscard]] double number(std::string_view key) const;
  [[nodiscard]] double number(std::string_view key, double when_absent) const;
  [[nodiscard]] bool boolean(std::string_view key, bool when_absent) const;
  [[nodiscard]] std::string text(std::string_view key, std::string_view when_absent) const;
  /// For parts that null switches off: null gives nullopt, an absent key `when_absent`.
  [[nodiscard]] std::optional<std::int64_t> nullable_integer(std::string_view key,
                                                             std::int64_t when_absent) const;
  [[nodiscard]] std::optional<double> nullable_number(std::string_view key,
                                                      double when_absent) const;
  [[nodiscard]] std::optional<std::int64_t> find_integer(std::string_view key) const;
  [[nodiscard]] std::optional<double> find_number(std::string_view key) const;
  [[nodiscard]] std::optional<std::string> find_text(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<std::string>> find_texts(std::string_view key) const;
  /// A list of strings, or one string split at '|' as older configs write it; lower case, without
  /// blanks around. Empty if absent.
  [[nodiscard]] std::vector<std::string> words(std::string_view key) const;
  [[nodiscard]] std::optional<std::vector<double>> find_numbers(std::string_view key) const;
  [[nodiscard]] std::optional<ModelConfig> find_object(std::string_view key) const;
  /// A list of integers, or one for `count` equal ones. Empty if absent.
  [[nodiscard]] std::vector<std::int64_t> integers(std::string_view key, std::size_t count) const;
  /// The same for what `dimension` reads; nullopt if absent. \throws Error{kUnsupportedModel} if
  /// one is no positive size
  [[nodiscard]] std::optional<std::vector<std::int64_t>> dimensions(std::string_view key,
                                                                    std::size_t count) const;
  /// Count a key, and all below it, as consumed: the architecture knows it and its graph does not
  /// depend on it.
  void disregard(std::string_view key) const;
  /// Entries of id2label, else num_labels, else 2 (transformers' default).
  [[nodiscard]] std::int64_t num_labels() const;

  /// A positive integer that fits a tensor dimension. \throws Error{kUnsupportedModel} otherwise
  [[nodiscard]] std::int64_t dimension(std::string_view key) const;
  [[nodiscard]] std::int64_t dimension(std::string_view key, std::int64_t when_absent) const;

  /// Refuse a value of this config: Error{kUnsupportedModel} "<path> is <value>; <why>".
  [[noreturn]] void refuse(std::string_view key, std::string_view why) const;

  /// Leaf paths whose value is not neutral (null, false, {}, []) and that no getter was asked for,
  /// with their value as JSON text; sorted.
  struct Leftover {
    std::string path;
    std::string value;
  };
  [[nodiscard]] std::vector<Leftover> leftovers() const;

 private:
  struct State;
  ModelConfig(std::shared_ptr<State> state, std::string prefix);
  std::shared_ptr<State> state_;
  std::string prefix_;  // path of this object in the document, "" or "rope_scaling."
};

/// Refuse leftover keys that change math in some architecture (quantization_config,
/// softcaps, …).
///
/// \return paths of the remaining leftovers that are not known to be harmless: worth a warning,
/// since
///         transformers ignores keys that a model class does not read
/// \throws Error{kUnsupportedModel} naming key and value
std::vector<std::string> check_config_consumed(const ModelConfig& config);

}  // namespace onnxferry
