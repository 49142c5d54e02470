#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace onnxferry {

enum class Device : std::uint8_t { kCpu, kCuda };
enum class FloatDtype : std::uint8_t { kFp32, kFp16 };
/// Each level includes the ones before it. structure: onnx checker; load: an ONNX Runtime session;
/// run: outputs of generated inputs are finite and have the declared shapes; full: prefill equals
/// step by step decoding, batch rows are independent, left padding changes nothing.
enum class VerifyLevel : std::uint8_t { kNone, kStructure, kLoad, kRun, kFull };

/// Everything one export needs, checked and with defaults applied. Plain data; made from a request
/// (worker/) or from flags. Field names and meanings follow the request of messages/.
struct ExportOptions {
  std::string request_id;
  std::string model_id;    ///< a label only; empty when absent
  std::string source_uri;  ///< archive object, archive file or (command line only) directory
  std::string output_uri;  ///< destination prefix, ends with '/'
  Device device = Device::kCpu;
  FloatDtype dtype = FloatDtype::kFp32;
  bool keep_weights = true;
  std::string task = "auto";  ///< Optimum name, synonym or "auto"
  int opset = 17;             ///< 17 or 18
  bool no_config = false;     ///< leave config.json and all sidecars out
  VerifyLevel verify = VerifyLevel::kLoad;
  std::optional<double> verify_atol;  ///< absent: the architecture's own tolerance
  std::optional<double> verify_rtol;
  bool overwrite = false;
  std::string
      export_timestamp;  ///< RFC 3339 UTC; the Kafka record's time, or now on the command line
  std::string export_strategy = "htp";  ///< seed field, recorded in export_metadata.json
  bool clean_onnx = false;              ///< seed field, recorded in export_metadata.json
};

/// The options that decide the bytes of an export, as canonical JSON (sorted keys, no white space).
/// Two requests with equal source and equal canonical options have equal results.
std::string canonical_options(const ExportOptions& options);

std::string_view to_string(Device device);
std::string_view to_string(FloatDtype dtype);
std::string_view to_string(VerifyLevel level);
std::optional<Device> find_device(std::string_view name);
std::optional<FloatDtype> find_float_dtype(std::string_view name);
std::optional<VerifyLevel> find_verify_level(std::string_view name);

}  // namespace onnxferry
