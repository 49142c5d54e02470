// The JSON Schemas and the AsyncAPI document against export.proto, in both directions.
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "messages/codec.h"
#include "tests/support/tests_dir.h"
#include "tests/unit/messages/fill.h"

namespace onnxferry::messages {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using nlohmann::json;
using testing::IsEmpty;

const std::string kMessages = tests_dir().string() + "/../messages/";

std::string read_text(const std::string& path) {
  std::ifstream file(kMessages + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

json read_json(const std::string& path) {
  return json::parse(read_text(path));
}

struct Document {
  const char* file;
  const Descriptor* root;
  bool is_sent_to_us;
};

std::vector<Document> documents() {
  return {{"onnxferry/v1/export_request.schema.json", v1::ExportRequest::descriptor(), true},
          {"onnxferry/v1/export_reply.schema.json", v1::ExportReply::descriptor(), false},
          {"onnxferry/v1/progress_event.schema.json", v1::ProgressEvent::descriptor(), false},
          {"onnxferry/v1/cancel_request.schema.json", v1::CancelRequest::descriptor(), true}};
}

// ---- the schema of a field, as proto3's JSON mapping says ---------------------------------------

json value_schema(const FieldDescriptor& field, bool is_sent_to_us) {
  switch (field.type()) {
    case FieldDescriptor::TYPE_STRING:
      return {{"type", "string"}};
    case FieldDescriptor::TYPE_BOOL:
      return {{"type", "boolean"}};
    case FieldDescriptor::TYPE_INT32:
      return {{"type", "integer"}, {"minimum", -2147483648LL}, {"maximum", 2147483647}};
    case FieldDescriptor::TYPE_UINT32:
      return {{"type", "integer"}, {"minimum", 0}, {"maximum", 4294967295}};
    case FieldDescriptor::TYPE_UINT64:
      return {{"type", "string"}, {"pattern", "^[0-9]{1,20}$"}};
    case FieldDescriptor::TYPE_DOUBLE:
      return is_sent_to_us
                 ? json{{"type", "number"}}
                 : json{{"anyOf",
                         {{{"type", "number"}}, {{"enum", {"NaN", "Infinity", "-Infinity"}}}}}};
    case FieldDescriptor::TYPE_ENUM: {
      json names = json::array();
      for (int i = 1; i < field.enum_type()->value_count(); ++i) {
        names.push_back(field.enum_type()->value(i)->name());
      }
      return {{"enum", names}};
    }
    case FieldDescriptor::TYPE_MESSAGE:
      if (field.message_type()->full_name() == "google.protobuf.Timestamp") {
        return {{"type", "string"}, {"format", "date-time"}};
      }
      return {{"$ref", "#/$defs/" + field.message_type()->name()}};
    default:
      throw std::logic_error("a field type that the schemas do not know yet: " + field.full_name());
  }
}

json field_schema(const FieldDescriptor& field, bool is_sent_to_us) {
  if (field.is_map()) {
    return {
        {"type", "object"},
        {"additionalProperties", value_schema(*field.message_type()->map_value(), is_sent_to_us)}};
  }
  json value = value_schema(field, is_sent_to_us);
  return field.is_repeated() ? json{{"type", "array"}, {"items", value}} : value;
}

void find_messages(const Descriptor& type, std::set<const Descriptor*>& found) {
  for (int i = 0; i < type.field_count(); ++i) {
    const Descriptor* next = type.field(i)->message_type();
    const bool is_ours = next != nullptr && !type.field(i)->is_map() &&
                         next->file() == v1::ExportRequest::descriptor()->file();
    if (is_ours && found.insert(next).second) {
      find_messages(*next, found);
    }
  }
}

void check_object(const json& schema, const Descriptor& type, const Document& document) {
  SCOPED_TRACE(std::string(document.file) + ", " + type.name());
  EXPECT_EQ(schema["type"], "object");
  std::set<std::string> listed;
  for (const auto& [name, property] : schema["properties"].items()) {
    listed.insert(name);
    EXPECT_NE(type.FindFieldByName(name), nullptr) << name << " is not in the proto";
  }
  std::set<std::string> always;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (!listed.contains(field.name())) {
      ADD_FAILURE() << field.name() << " is not in the schema; run tests/tools/make_schemas.py";
      continue;
    }
    json property = schema["properties"][field.name()];
    property.erase("description");
    EXPECT_EQ(property, field_schema(field, document.is_sent_to_us)) << field.name();
    if (field.is_repeated() || !field.has_presence()) {
      always.insert(field.name());
    }
  }
  if (document.is_sent_to_us) {
    EXPECT_EQ(schema["additionalProperties"], false) << "a misspelt field is an error";
  } else {
    EXPECT_FALSE(schema.contains("additionalProperties")) << "newer workers may add fields";
    EXPECT_EQ(schema["required"].get<std::set<std::string>>(), always);
  }
}

TEST(Schema, HasEveryFieldOfTheProtoAndNoOther) {
  for (const Document& document : documents()) {
    const json schema = read_json(document.file);
    EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    check_object(schema, *document.root, document);
    std::set<const Descriptor*> reached;
    find_messages(*document.root, reached);
    const json definitions = schema.value("$defs", json::object());
    EXPECT_EQ(definitions.size(), reached.size()) << document.file;
    for (const Descriptor* type : reached) {
      ASSERT_TRUE(definitions.contains(type->name())) << type->name();
      check_object(definitions[type->name()], *type, document);
    }
  }
}

// ---- values against a schema: the keywords that ours use ----------------------------------------

class Validator {
 public:
  explicit Validator(json schema) : root_(std::move(schema)) {}

  /// \return what is wrong, "" when the value conforms
  std::string check(const json& value) const { return check(value, root_, "$"); }

 private:
  static bool has_type(const json& value, const std::string& type) {
    return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
           (type == "string" && value.is_string()) || (type == "boolean" && value.is_boolean()) ||
           (type == "number" && value.is_number()) ||
           (type == "integer" && value.is_number_integer());
  }

  [[nodiscard]] std::string check(const json& value,
                                  const json& schema,
                                  const std::string& path) const {
    if (schema.contains("$ref")) {
      const auto target = schema["$ref"].get<std::string>().substr(1);
      return check(value, root_.at(json::json_pointer(target)), path);
    }
    if (schema.contains("type") && !has_type(value, schema["type"])) {
      return path + " is no " + schema["type"].get<std::string>();
    }
    if (schema.contains("enum") &&
        std::ranges::find(schema["enum"], value) == schema["enum"].end()) {
      return path + " is none of " + schema["enum"].dump();
    }
    const auto count_of = [&](const char* keyword) {
      return std::ranges::count_if(
          schema[keyword], [&](const json& part) { return check(value, part, path).empty(); });
    };
    if (schema.contains("anyOf") && count_of("anyOf") == 0) {
      return path + " fits none of anyOf";
    }
    if (schema.contains("oneOf") && count_of("oneOf") != 1) {
      return path + " does not fit exactly one of oneOf";
    }
    for (const json& name : schema.value("required", json::array())) {
      if (!value.contains(name.get<std::string>())) {
        return path + " lacks " + name.get<std::string>();
      }
    }
    return value.is_structured() ? check_parts(value, schema, path) : "";
  }

  [[nodiscard]] std::string check_parts(const json& value,
                                        const json& schema,
                                        const std::string& path) const {
    for (const auto& [key, part] : value.items()) {
      const std::string at = path + "." + key;
      std::string problem;
      if (value.is_array()) {
        problem = check(part, schema.value("items", json::object()), at);
      } else if (schema.contains("properties") && schema["properties"].contains(key)) {
        problem = check(part, schema["properties"][key], at);
      } else if (schema.contains("additionalProperties")) {
        const json& others = schema["additionalProperties"];
        problem = others.is_object() ? check(part, others, at)
                                     : (others.get<bool>() ? "" : at + " is unknown");
      }
      if (!problem.empty()) {
        return problem;
      }
    }
    return "";
  }

  json root_;
};

template <typename Message>
json as_json(const Message& message) {
  return json::parse(encode_value(message, Encoding::kJson));
}

TEST(Schema, AcceptsWhatTheWorkerWrites) {
  const Validator reply(read_json("onnxferry/v1/export_reply.schema.json"));
  auto message = filled<v1::ExportReply>();
  EXPECT_EQ(reply.check(as_json(message)), "");
  Filler().fill(*message.mutable_failure());
  EXPECT_EQ(reply.check(as_json(message)), "");
  v1::ExportReply plain;
  plain.mutable_failure()->set_code(v1::CANCELLED);
  EXPECT_EQ(reply.check(as_json(plain)), "");
  EXPECT_EQ(reply.check(as_json(v1::ExportReply())), "$ does not fit exactly one of oneOf");

  const Validator progress(read_json("onnxferry/v1/progress_event.schema.json"));
  EXPECT_EQ(progress.check(as_json(filled<v1::ProgressEvent>())), "");
  EXPECT_EQ(progress.check(as_json(v1::ProgressEvent())), "");
}

TEST(Schema, AgreesWithTheDecoderOnRequests) {
  const Validator request(read_json("onnxferry/v1/export_request.schema.json"));
  auto full = filled<v1::ExportRequest>();
  full.clear_source_uri();
  EXPECT_EQ(request.check(as_json(full)), "");
  const auto is_refused_by_both = [&](const char* text) {
    v1::ExportRequest decoded;
    return !request.check(json::parse(text)).empty() && !parse_request_json(text, decoded).empty();
  };
  EXPECT_TRUE(is_refused_by_both(R"({"output_dir": "s3://b/o/", "minio_tar_uri": 7})"));
  EXPECT_TRUE(is_refused_by_both(
      R"({"output_dir": "s3://b/o/", "minio_tar_uri": "s3://b/a", "dtpye": "fp16"})"));
  EXPECT_TRUE(is_refused_by_both(
      R"({"output_dir": "s3://b/o/", "minio_tar_uri": "s3://b/a", "verify": {"levle": "load"}})"));
}

/// The ```json blocks of the README.
std::vector<json> readme_examples() {
  const std::string text = read_text("README.md");
  const std::string fence = "```json\n";
  std::vector<json> examples;
  for (std::size_t at = text.find(fence); at != std::string::npos; at = text.find(fence, at)) {
    at += fence.size();
    examples.push_back(json::parse(text.substr(at, text.find("```", at) - at)));
  }
  return examples;
}

TEST(Schema, AcceptsTheExamplesOfTheReadme) {
  const std::vector<json> examples = readme_examples();
  ASSERT_FALSE(examples.empty());
  for (const json& example : examples) {
    const json& data = example.contains("specversion") ? example["data"] : example;
    const bool is_request = data.contains("output_dir");
    const Validator validator(read_json(is_request ? "onnxferry/v1/export_request.schema.json"
                                                   : "onnxferry/v1/progress_event.schema.json"));
    EXPECT_EQ(validator.check(data), "") << data.dump();
  }
}

// ---- AsyncAPI ----------------------------------------------------------------------------------

TEST(AsyncApi, PointsAtThingsThatExist) {
  const json document = read_json("asyncapi.json");
  EXPECT_EQ(document["asyncapi"], "3.0.0");
  std::set<std::string> schemas;
  const std::function<void(const json&)> walk = [&](const json& node) {
    if (node.is_object() && node.contains("$ref")) {
      const auto target = node["$ref"].get<std::string>();
      if (target.starts_with("#/")) {
        EXPECT_TRUE(document.contains(json::json_pointer(target.substr(1)))) << target;
      } else {
        schemas.insert(target);
        EXPECT_TRUE(std::filesystem::exists(kMessages + target)) << target;
      }
    }
    if (node.is_structured()) {
      for (const json& part : node) {
        walk(part);
      }
    }
  };
  walk(document);
  for (const Document& schema : documents()) {
    EXPECT_TRUE(schemas.contains(schema.file)) << schema.file;
  }
}

TEST(AsyncApi, NamesEveryEventType) {
  std::set<std::string_view> types = {kTypeRequested,
                                      kTypeCompleted,
                                      kTypeFailed,
                                      kTypeCancelled,
                                      kTypeProgress,
                                      kTypeCancelRequested};
  const json messages = read_json("asyncapi.json")["components"]["messages"];
  for (const json& message : messages) {
    for (const json& type : message["headers"]["properties"]["ce_type"]["enum"]) {
      EXPECT_EQ(types.erase(type.get<std::string>()), 1U) << type;
    }
    const auto file = message["payload"]["$ref"].get<std::string>();
    for (const json& example : message.value("examples", json::array())) {
      EXPECT_EQ(Validator(read_json(file)).check(example["payload"]), "");
    }
  }
  EXPECT_THAT(types, IsEmpty());
}

}  // namespace
}  // namespace onnxferry::messages
