#include "messages/headers.h"

#include <algorithm>
#include <ranges>

namespace onnxferry::messages {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool matches(std::string_view found, std::string_view wanted) {
  if (wanted == kContentType) {
    return std::ranges::equal(found, wanted, {}, lower);
  }
  return found == wanted;
}

}  // namespace

const std::string* find_header(const Headers& headers, std::string_view name) {
  for (const Header& header : std::views::reverse(headers)) {
    if (matches(header.name, name)) {
      return header.value ? &*header.value : nullptr;
    }
  }
  return nullptr;
}

}  // namespace onnxferry::messages
