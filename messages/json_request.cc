// Builds a request from JSON by walking it against the message's descriptor, so that every problem
// is reported with its path at once (protobuf's own parser stops at the first and does not say
// where).
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include <fmt/format.h>
#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

#include "messages/codec.h"
#include "messages/json_scan.h"
#include "messages/text.h"
#include "messages/timestamps.h"

namespace onnxferry::messages {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using nlohmann::json;

std::string describe(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    case json::value_t::string:
      return "the string " + quote(value.get_ref<const std::string&>());
    case json::value_t::array:
      return "an array";
    case json::value_t::object:
      return "an object";
    default:
      return "the number " + value.dump();
  }
}

/// Proto3 JSON accepts 17, 17.0 and "17" for an integer.
std::optional<std::int32_t> find_int32(const json& value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    std::int32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(number)
                                                                    : std::nullopt;
  }
  if (!value.is_number()) {
    return std::nullopt;
  }
  const auto number = value.get<double>();
  if (number != std::trunc(number) || number < std::numeric_limits<std::int32_t>::min() ||
      number > std::numeric_limits<std::int32_t>::max()) {
    return std::nullopt;
  }
  return static_cast<std::int32_t>(number);
}

std::optional<double> find_double(const json& value) {
  if (value.is_number()) {
    return value.get<double>();
  }
  if (!value.is_string()) {
    return std::nullopt;
  }
  const auto& text = value.get_ref<const std::string&>();
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(number)) {
    return std::nullopt;
  }
  return number;
}

class Builder {
 public:
  std::vector<v1::FieldProblem> problems;

  void fill(const json& object, const std::string& path, Message& message) {
    if (!object.is_object()) {
      expected("an object", object, path);
      return;
    }
    for (const auto& [key, value] : object.items()) {
      const std::string at = join_path(path, key);
      const FieldDescriptor* field = find_field(*message.GetDescriptor(), key);
      if (field == nullptr) {
        add(at, "unknown field" + suggest(*message.GetDescriptor(), key));
      } else if (key != field->name() && object.contains(field->name())) {
        add(at, fmt::format("given twice, also as \"{}\"; give each field once", field->name()));
      } else if (!value.is_null()) {  // proto3 JSON: null means absent
        set(value, at, *field, message);
      }
    }
  }

 private:
  void add(const std::string& path, const std::string& text) {
    if (problems.size() < kMaxProblems) {
      problems.push_back(make_problem(path, text));
    }
  }

  void expected(std::string_view what, const json& found, const std::string& path) {
    add(path, fmt::format("expected {}, found {}", what, describe(found)));
  }

  static const FieldDescriptor* find_field(const Descriptor& type, const std::string& key) {
    const FieldDescriptor* field = type.FindFieldByName(key);
    return field != nullptr ? field : type.FindFieldByCamelcaseName(key);
  }

  static std::string suggest(const Descriptor& type, std::string_view key) {
    std::vector<std::string_view> names;
    names.reserve(static_cast<std::size_t>(type.field_count()));
    for (int i = 0; i < type.field_count(); ++i) {
      names.emplace_back(type.field(i)->name());
    }
    return did_you_mean(key, names);
  }

  void set(const json& value,
           const std::string& path,
           const FieldDescriptor& field,
           Message& message) {
    if (field.is_map()) {
      set_map(value, path, field, message);
    } else if (!field.is_repeated()) {
      set_one(value, path, field, message);
    } else if (!value.is_array()) {
      expected("an array", value, path);
    } else {
      for (std::size_t i = 0; i < value.size(); ++i) {
        set_one(value[i], fmt::format("{}[{}]", path, i), field, message);
      }
    }
  }

  void set_map(const json& value,
               const std::string& path,
               const FieldDescriptor& field,
               Message& message) {
    if (!value.is_object()) {
      expected("an object", value, path);
      return;
    }
    for (const auto& [key, element] : value.items()) {
      Message& entry = *message.GetReflection()->AddMessage(&message, &field);
      const Descriptor& type = *entry.GetDescriptor();
      entry.GetReflection()->SetString(&entry, type.map_key(), key);
      set_one(element, join_path(path, key), *type.map_value(), entry);
    }
  }

  /// One value of a singular field, or one more of a repeated field.
  void set_one(const json& value,
               const std::string& path,
               const FieldDescriptor& field,
               Message& message) {
    const auto& reflection = *message.GetReflection();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        if (!value.is_string()) {
          expected("a string", value, path);
        } else if (field.is_repeated()) {
          reflection.AddString(&message, &field, value.get<std::string>());
        } else {
          reflection.SetString(&message, &field, value.get<std::string>());
        }
        return;
      case FieldDescriptor::CPPTYPE_BOOL:
        if (!value.is_boolean()) {
          expected("true or false", value, path);
        } else {
          reflection.SetBool(&message, &field, value.get<bool>());
        }
        return;
      case FieldDescriptor::CPPTYPE_INT32:
        set_int32(value, path, field, message);
        return;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        if (const auto number = find_double(value)) {
          reflection.SetDouble(&message, &field, *number);
        } else {
          expected("a number", value, path);
        }
        return;
      case FieldDescriptor::CPPTYPE_MESSAGE:
        set_message(value, path, field, message);
        return;
      default:
        throw std::logic_error("a request field of a type that JSON requests do not know yet: " +
                               field.full_name());
    }
  }

  void set_int32(const json& value,
                 const std::string& path,
                 const FieldDescriptor& field,
                 Message& message) {
    const auto number = find_int32(value);
    if (!number) {
      expected("a 32-bit integer", value, path);
    } else if (field.is_repeated()) {
      message.GetReflection()->AddInt32(&message, &field, *number);
    } else {
      message.GetReflection()->SetInt32(&message, &field, *number);
    }
  }

  void set_message(const json& value,
                   const std::string& path,
                   const FieldDescriptor& field,
                   Message& message) {
    Message& child = *message.GetReflection()->MutableMessage(&message, &field);
    if (field.message_type()->full_name() != "google.protobuf.Timestamp") {
      fill(value, path, child);
      return;
    }
    google::protobuf::Timestamp time;
    if (!value.is_string() || !parse_rfc3339(value.get_ref<const std::string&>(), time)) {
      expected("an RFC 3339 time such as \"2026-12-01T00:00:00Z\"", value, path);
      return;
    }
    child.CopyFrom(time);
  }
};

}  // namespace

std::vector<v1::FieldProblem> parse_request_json(std::string_view text,
                                                 v1::ExportRequest& request) {
  request.Clear();
  auto [problems, complete] = scan_json(text);
  if (!complete) {
    return problems;
  }
  const json tree = json::parse(text);
  if (!tree.is_object()) {
    problems.push_back(
        make_problem("", fmt::format("expected an object, found {}", describe(tree))));
    return problems;
  }
  Builder builder;
  builder.fill(tree, "", request);
  problems.insert(problems.end(), builder.problems.begin(), builder.problems.end());
  return problems;
}

}  // namespace onnxferry::messages
