#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace onnxferry {

/// Values of symbolic dimensions within one run. A symbol keeps the value it was first seen with.
class Symbols {
 public:
  /// The value of a symbol or of a sum such as "past_sequence_length + sequence_length"; nullopt
  /// while a part of it is unknown.
  [[nodiscard]] std::optional<std::int64_t> find(std::string_view expression) const;
  /// Give a symbol its value unless it has one (a sum with an unknown part counts as one symbol).
  /// \return the value that it has now
  std::int64_t bind(const std::string& symbol, std::int64_t value);

 private:
  std::map<std::string, std::int64_t, std::less<>> values_;
};

}  // namespace onnxferry
