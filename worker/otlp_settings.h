#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipeline/error.h"

namespace onnxferry {

/// Where spans go and who they say they are from. The endpoint has a flag; the rest is read from
/// OpenTelemetry's own variables, as every exporter does.
struct OtlpSettings {
  using List = std::vector<std::pair<std::string, std::string>>;

  std::string endpoint;         ///< base URL; empty: none
  std::string environment_url;  ///< what the OTEL_ variables say, complete; `endpoint` goes first
  std::string service_name;     ///< empty: that of `resource`, else onnxferry
  List resource;                ///< OTEL_RESOURCE_ATTRIBUTES
  List headers;                 ///< of each request; secrets
};

/// The URL that spans are posted to; empty: tracing is off.
std::string traces_url(const OtlpSettings& settings);

struct OtlpTarget {
  std::string origin;  ///< scheme://host[:port]
  std::string path;
};

/// \pre check_otlp_settings found nothing and the URL is not empty
OtlpTarget split_url(const std::string& url);

/// Take the OTEL_ variables. \param environment  NAME=VALUE strings, as in `environ`
/// Source: OpenTelemetry specification 1.40, "OpenTelemetry Protocol Exporter" and "Environment
/// Variable Specification".
void read_otlp_environment(const std::vector<std::string>& environment,
                           OtlpSettings& settings,
                           std::vector<FieldProblem>& problems);

/// Every problem of the settings as a whole, with the flag or variable it is in.
std::vector<FieldProblem> check_otlp_settings(const OtlpSettings& settings);

}  // namespace onnxferry
