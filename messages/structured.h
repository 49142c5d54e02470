#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "messages/codec.h"

namespace onnxferry::messages {

inline constexpr std::string_view kStructuredType = "application/cloudevents+json";

/// Whether content-type says CloudEvents structured mode in JSON.
bool is_structured(const Headers& headers);

/// A structured event as binary mode would have it.
struct BinaryForm {
  Headers headers;   ///< the record's, but ce_* and content-type are made of the attributes
  std::string data;  ///< decoded when it came as data_base64
  std::string_view data_field = "data";    ///< or "data_base64": where problems of the data are
  std::vector<v1::FieldProblem> problems;  ///< of the event itself
  bool is_readable = false;                ///< `data` may be decoded
};

/// Take a structured event apart. Source: CloudEvents 1.0.2 JSON format, sections 2 and 3.
BinaryForm to_binary_form(std::string_view value, const Headers& headers);

/// Put attributes and data into one JSON object. \param attributes  in order, empty ones left out
std::string to_structured(const std::vector<std::pair<std::string_view, std::string>>& attributes,
                          Encoding encoding,
                          const std::string& data);

/// The name in the event of a header's problem: "ce_type" → "type".
std::string attribute_of(std::string_view header);

}  // namespace onnxferry::messages
