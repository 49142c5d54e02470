#include "messages/structured.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include "messages/envelope.h"
#include "messages/json_scan.h"
#include "messages/text.h"

namespace onnxferry::messages {
namespace {

using nlohmann::json;

constexpr std::string_view kPrefix = "ce_";
constexpr std::array<std::string_view, 4> kRequired = {"specversion", "id", "source", "type"};

bool is_envelope_header(const Header& header) {
  return header.name.starts_with(kPrefix) ||
         find_header({{header.name, ""}}, kContentType) != nullptr;
}

/// \return false when the text is not base64 (RFC 4648 section 4, padded)
bool decode_base64(const std::string& text, std::string& bytes) {
  const std::size_t padding = text.ends_with("==") ? 2 : (text.ends_with('=') ? 1 : 0);
  const auto is_digit = [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '+' || c == '/';
  };
  if (text.size() % 4 != 0 || !std::all_of(text.begin(), text.end() - padding, is_digit)) {
    return false;
  }
  bytes.resize(text.size() / 4 * 3);
  EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                  reinterpret_cast<const unsigned char*>(text.data()),
                  static_cast<int>(text.size()));
  bytes.erase(bytes.size() - padding);
  return true;
}

std::string encode_base64(const std::string& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // EVP_EncodeBlock ends with a NUL
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                  reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size()));
  text.pop_back();
  return text;
}

/// Attributes are strings, booleans and integers; null means absent.
void take_attribute(const std::string& name, const json& value, BinaryForm& form) {
  if (value.is_null()) {
    return;
  }
  if (!value.is_string() && !value.is_boolean() && !value.is_number_integer()) {
    form.problems.push_back(make_problem(name, "expected a string"));
    return;
  }
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  form.headers.push_back(name == "datacontenttype" ? Header{std::string(kContentType), text}
                                                   : Header{std::string(kPrefix) + name, text});
}

void take_data(const json& event, BinaryForm& form) {
  const bool has_data = event.contains("data") && !event["data"].is_null();
  const bool has_base64 = event.contains("data_base64") && !event["data_base64"].is_null();
  if (has_data == has_base64) {
    form.problems.push_back(
        make_problem("data", has_data ? "given together with data_base64; give one" : "missing"));
    return;
  }
  if (has_base64) {
    form.data_field = "data_base64";
    const json& text = event["data_base64"];
    if (!text.is_string() || !decode_base64(text.get_ref<const std::string&>(), form.data)) {
      form.problems.push_back(make_problem("data_base64", "expected a base64 string with padding"));
      return;
    }
    form.is_readable = true;
    return;
  }
  const std::string* type = find_header(form.headers, kContentType);
  if (type != nullptr && type->find("json") == std::string::npos) {
    form.problems.push_back(make_problem(
        "data",
        fmt::format("datacontenttype is {}; expected JSON here or the bytes in data_base64",
                    quote(*type))));
    return;
  }
  if (!event["data"].is_object()) {
    form.problems.push_back(make_problem("data", "expected an object"));
    return;
  }
  form.data = event["data"].dump();
  form.is_readable = true;
}

}  // namespace

bool is_structured(const Headers& headers) {
  const std::string* type = find_header(headers, kContentType);
  return type != nullptr && media_type(*type) == kStructuredType;
}

BinaryForm to_binary_form(std::string_view value, const Headers& headers) {
  BinaryForm form;
  std::ranges::copy_if(headers, std::back_inserter(form.headers), [](const Header& header) {
    return !is_envelope_header(header);
  });
  if (value.size() > kMaxRequestBytes) {
    form.problems.push_back(make_problem(
        "", fmt::format("{} bytes; at most {} are read", value.size(), kMaxRequestBytes)));
    return form;
  }
  JsonScan scan = scan_json(value);
  form.problems = std::move(scan.problems);
  if (!scan.complete) {
    return form;
  }
  const json event = json::parse(value);
  if (!event.is_object()) {
    form.problems.push_back(make_problem("", "expected an object: a CloudEvent in JSON"));
    return form;
  }
  for (const std::string_view name : kRequired) {
    if (!event.contains(name) || event[std::string(name)].is_null()) {
      form.problems.push_back(make_problem(name, "missing; every CloudEvent has it"));
    }
  }
  for (const auto& [name, attribute] : event.items()) {
    if (name != "data" && name != "data_base64") {
      take_attribute(name, attribute, form);
    }
  }
  if (find_header(form.headers, kContentType) == nullptr) {
    form.headers.push_back({std::string(kContentType), std::string(kJsonType)});
  }
  take_data(event, form);
  return form;
}

std::string to_structured(const std::vector<std::pair<std::string_view, std::string>>& attributes,
                          Encoding encoding,
                          const std::string& data) {
  std::string text = "{";
  for (const auto& [name, value] : attributes) {
    if (!value.empty()) {
      text += fmt::format("{}:{},", json(name).dump(), json(to_valid_utf8(value)).dump());
    }
  }
  return text +
         (encoding == Encoding::kJson ? "\"data\":" + data
                                      : "\"data_base64\":\"" + encode_base64(data) + "\"") +
         "}";
}

std::string attribute_of(std::string_view header) {
  if (header == kContentType) {
    return "datacontenttype";
  }
  return std::string(header.starts_with(kPrefix) ? header.substr(kPrefix.size()) : header);
}

}  // namespace onnxferry::messages
