#include "pipeline/verify/symbols.h"

#include <charconv>

namespace onnxferry {
namespace {

std::string_view trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) {
    return {};
  }
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

}  // namespace

std::optional<std::int64_t> Symbols::find(std::string_view expression) const {
  const auto whole = values_.find(expression);
  if (whole != values_.end()) {
    return whole->second;
  }
  std::int64_t sum = 0;
  for (std::string_view rest = expression; !rest.empty();) {
    const std::size_t plus = rest.find('+');
    const std::string_view term = trim(rest.substr(0, plus));
    rest = plus == std::string_view::npos ? std::string_view() : rest.substr(plus + 1);
    const auto known = values_.find(term);
    std::int64_t value = 0;
    if (known != values_.end()) {
      value = known->second;
    } else {
      const auto result = std::from_chars(term.data(), term.data() + term.size(), value);
      if (term.empty() || result.ec != std::errc() || result.ptr != term.data() + term.size()) {
        return std::nullopt;
      }
    }
    sum += value;
  }
  return expression.empty() ? std::nullopt : std::optional(sum);
}

std::int64_t Symbols::bind(const std::string& symbol, std::int64_t value) {
  if (const auto known = find(symbol)) {
    return *known;
  }
  if (!symbol.empty()) {  // a dimension without a name promises nothing
    values_.emplace(symbol, value);
  }
  return value;
}

}  // namespace onnxferry
