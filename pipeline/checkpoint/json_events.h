#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "pipeline/quote.h"

namespace onnxferry {

/// SAX handler that refuses every event; a reader overrides what its format allows. We read with
/// SAX because the DOM keeps the last of two equal keys silently and needs about ten times the
/// text's size in memory.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return refuse("null"); }
  bool boolean(bool /*value*/) override { return refuse("a boolean"); }
  bool number_integer(number_integer_t /*value*/) override { return refuse("a negative number"); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return refuse("a number"); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override {
    return refuse("a number that is no 64-bit integer");
  }
  bool string(string_t& /*value*/) override { return refuse("a string"); }
  bool binary(binary_t& /*value*/) override { return refuse("binary data"); }
  bool start_array(std::size_t /*size*/) override { return refuse("an array"); }
  bool parse_error(std::size_t position,
                   const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override;

  /// Throw Error: the text is wrong as a whole; `text` continues a sentence that names it.
  [[noreturn]] virtual void fail(const std::string& text) = 0;

 protected:
  /// Throw Error: a value of this kind has no place here.
  [[noreturn]] virtual bool refuse(std::string_view found) = 0;
};

/// Parse exactly one JSON object with only white space around it; `events` throws on what it does
/// not accept. NUL bytes and a byte order mark, which the library would take as end and start of
/// the text, are refused too.
/// \throws whatever `events` throws
void parse_json_object(std::string_view json, JsonEvents& events);

}  // namespace onnxferry
