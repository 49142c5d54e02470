#include "pipeline/output/report_json.h"

#include <charconv>

#include <nlohmann/json.hpp>

namespace onnxferry {
namespace {

using Ordered = nlohmann::ordered_json;
using nlohmann::json;

std::uint64_t to_uint64(const json& value) {
  if (value.is_number_unsigned()) {
    return value.get<std::uint64_t>();
  }
  const auto text = value.get<std::string>();
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

Ordered value_to_json(const ValueReport& value) {
  return {{"file", value.file}, {"name", value.name}, {"dtype", value.dtype}, {"dims", value.dims}};
}

ValueReport value_from_json(const json& object) {
  return {.file = object.value("file", ""),
          .name = object.value("name", ""),
          .dtype = object.value("dtype", ""),
          .dims = object.value("dims", std::vector<std::string>{})};
}

template <typename Items, typename Function>
Ordered list_of(const Items& items, Function to_item) {
  Ordered list = Ordered::array();
  for (const auto& item : items) {
    list.push_back(to_item(item));
  }
  return list;
}

}  // namespace

Ordered report_to_json(const ExportReport& report) {
  Ordered result;
  result["output_uri"] = report.output_uri;
  result["manifest_uri"] = report.manifest_uri;
  result["files"] = list_of(report.files, [](const FileReport& file) {
    return Ordered{{"name", file.name},
                   {"bytes", std::to_string(file.bytes)},
                   {"sha256", file.sha256},
                   {"kind", file.kind}};
  });
  result["model_type"] = report.model_type;
  result["task"] = report.task;
  result["opset"] = report.opset;
  result["parameters"] = std::to_string(report.parameters);
  result["inputs"] = list_of(report.inputs, value_to_json);
  result["outputs"] = list_of(report.outputs, value_to_json);
  result["verification"] = {
      {"level", report.verification.level},
      {"outputs", list_of(report.verification.outputs, [](const OutputCheck& check) {
         return Ordered{{"output", check.output},
                        {"max_abs_diff", check.max_abs_diff},
                        {"cosine", check.cosine},
                        {"argmax_agreement", check.argmax_agreement}};
       })}};
  result["warnings"] = list_of(report.warnings, [](const Warning& warning) {
    return Ordered{{"code", warning.code}, {"text", warning.text}};
  });
  return result;
}

ExportReport report_from_json(const json& object) {
  ExportReport report;
  report.output_uri = object.value("output_uri", "");
  report.manifest_uri = object.value("manifest_uri", "");
  for (const json& file : object.value("files", json::array())) {
    report.files.push_back({.name = file.value("name", ""),
                            .bytes = to_uint64(file.value("bytes", json("0"))),
                            .sha256 = file.value("sha256", ""),
                            .kind = file.value("kind", "")});
  }
  report.model_type = object.value("model_type", "");
  report.task = object.value("task", "");
  report.opset = object.value("opset", 0);
  report.parameters = to_uint64(object.value("parameters", json("0")));
  for (const json& value : object.value("inputs", json::array())) {
    report.inputs.push_back(value_from_json(value));
  }
  for (const json& value : object.value("outputs", json::array())) {
    report.outputs.push_back(value_from_json(value));
  }
  const json verification = object.value("verification", json::object());
  report.verification.level = verification.value("level", "none");
  for (const json& check : verification.value("outputs", json::array())) {
    report.verification.outputs.push_back(
        {.output = check.value("output", ""),
         .max_abs_diff = check.value("max_abs_diff", 0.0),
         .cosine = check.value("cosine", 1.0),
         .argmax_agreement = check.value("argmax_agreement", 1.0)});
  }
  for (const json& warning : object.value("warnings", json::array())) {
    report.warnings.push_back(
        {.code = warning.value("code", ""), .text = warning.value("text", "")});
  }
  return report;
}

}  // namespace onnxferry
