#include "pipeline/options.h"

#include <array>
#include <utility>

#include <nlohmann/json.hpp>

namespace onnxferry {
namespace {

constexpr std::array<std::string_view, 2> kDevices = {"cpu", "cuda"};
constexpr std::array<std::string_view, 2> kFloatDtypes = {"fp32", "fp16"};
constexpr std::array<std::string_view, 5> kVerifyLevels = {
    "none", "structure", "load", "run", "full"};

template <typename Enum, std::size_t size>
std::optional<Enum> find_name(const std::array<std::string_view, size>& names,
                              std::string_view name) {
  for (std::size_t i = 0; i < size; ++i) {
    if (names.at(i) == name) {
      return static_cast<Enum>(i);
    }
  }
  return std::nullopt;
}

}  // namespace

std::string canonical_options(const ExportOptions& options) {
  // nlohmann's object keeps its keys sorted. Verification and the place of the result do not change
  // bytes.
  const nlohmann::json json = {
      {"clean_onnx", options.clean_onnx},
      {"dtype", to_string(options.dtype)},
      {"export_strategy", options.export_strategy},
      {"model_id", options.model_id},
      {"no_config", options.no_config},
      {"opset", options.opset},
      {"task", options.task},
  };
  return json.dump();
}

std::string_view to_string(Device device) {
  return kDevices.at(static_cast<std::size_t>(device));
}
std::string_view to_string(FloatDtype dtype) {
  return kFloatDtypes.at(static_cast<std::size_t>(dtype));
}
std::string_view to_string(VerifyLevel level) {
  return kVerifyLevels.at(static_cast<std::size_t>(level));
}
std::optional<Device> find_device(std::string_view name) {
  return find_name<Device>(kDevices, name);
}
std::optional<FloatDtype> find_float_dtype(std::string_view name) {
  return find_name<FloatDtype>(kFloatDtypes, name);
}
std::optional<VerifyLevel> find_verify_level(std::string_view name) {
  return find_name<VerifyLevel>(kVerifyLevels, name);
}

}  // namespace onnxferry
