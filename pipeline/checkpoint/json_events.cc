#include "pipeline/checkpoint/json_events.h"

#include <fmt/format.h>

namespace onnxferry {

bool JsonEvents::parse_error(std::size_t position,
                             const std::string& /*last_token*/,
                             const nlohmann::detail::exception& error) {
  // "[json.exception.parse_error.101] parse error at line 1, column 5: <what is wrong>; last read:
  // '<input>'": only the middle is ours to show.
  std::string_view what = error.what();
  const std::size_t begin = what.find(": ");
  what.remove_prefix(begin == std::string_view::npos ? 0 : begin + 2);
  what = what.substr(0, what.find("; last read"));
  fail(fmt::format("is not valid JSON at byte {}: {}", position, what));
  return false;  // not reached
}

void parse_json_object(std::string_view json, JsonEvents& events) {
  const std::size_t nul = json.find('\0');
  if (nul != std::string_view::npos) {
    events.fail(fmt::format("is not valid JSON at byte {}: a NUL byte", nul + 1));
  }
  const std::size_t begin = json.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || json[begin] != '{') {
    events.fail("does not hold a JSON object");
  }
  nlohmann::json::sax_parse(json, &events);
}

}  // namespace onnxferry
