#include "worker/otlp_settings.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include <fmt/format.h>

namespace onnxferry {
namespace {

constexpr std::string_view kTracesPath = "/v1/traces";
constexpr std::string_view kEndpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT";
constexpr std::string_view kTracesVariable = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

std::string with_traces_path(std::string base) {
  while (base.ends_with('/')) {
    base.pop_back();
  }
  return base.empty() || base.ends_with(kTracesPath) ? base : base + std::string(kTracesPath);
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    const bool is_escape =
        text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr ==
            text.data() + i + 3;
    decoded += is_escape ? static_cast<char>(byte) : text[i];
    i += is_escape ? 2 : 0;
  }
  return decoded;
}

/// key=value,key=value with percent-encoded values. \return nullopt when it is something else
std::optional<OtlpSettings::List> parse_list(std::string_view text) {
  OtlpSettings::List list;
  while (!text.empty()) {
    const std::string_view entry = trimmed(text.substr(0, text.find(',')));
    text.remove_prefix(
        std::min(text.size(), text.find(',') == text.npos ? text.npos : text.find(',') + 1));
    if (entry.empty()) {
      continue;
    }
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos || trimmed(entry.substr(0, equals)).empty()) {
      return std::nullopt;
    }
    list.emplace_back(trimmed(entry.substr(0, equals)),
                      percent_decoded(trimmed(entry.substr(equals + 1))));
  }
  return list;
}

bool is_token(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

bool has_control(std::string_view text) {
  return std::ranges::any_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

/// The value of the first of these variables that is set and not empty: the specification treats
/// empty ones as absent.
class Variables {
 public:
  explicit Variables(const std::vector<std::string>& environment) {
    for (const std::string& variable : environment) {
      const std::size_t equals = variable.find('=');
      if (variable.starts_with("OTEL_") && equals + 1 < variable.size()) {
        values_.emplace(variable.substr(0, equals), variable.substr(equals + 1));
      }
    }
  }
  [[nodiscard]] std::string find(std::string_view name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::string() : found->second;
  }

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

void read_list(const Variables& variables,
               std::string_view name,
               OtlpSettings::List& list,
               std::vector<FieldProblem>& problems) {
  if (auto parsed = parse_list(variables.find(name))) {
    list.insert(list.end(), parsed->begin(), parsed->end());
  } else {  // the text itself may hold a secret
    problems.push_back({std::string(name), "is not key=value[,key=value]"});
  }
}

std::string find_url_problem(std::string_view url) {
  const std::size_t scheme = url.starts_with("http://") ? 7 : url.starts_with("https://") ? 8 : 0;
  const std::string_view rest = url.substr(scheme);
  const std::string_view authority = rest.substr(0, rest.find('/'));
  if (authority.find('@') != std::string_view::npos) {
    return "holds a user; expected http(s)://host[:port], and OTEL_EXPORTER_OTLP_HEADERS for "
           "credentials";
  }
  if (scheme == 0 || authority.empty() || authority.front() == ':' ||
      url.find_first_of("?# ") != std::string_view::npos || has_control(url)) {
    return "is not a plain URL; expected http(s)://host[:port]";
  }
  const std::size_t colon =
      authority.find(':', authority.find(']') == authority.npos ? 0 : authority.find(']'));
  unsigned port = 80;
  if (colon != std::string_view::npos) {
    const std::string_view digits = authority.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error != std::errc() || end != digits.data() + digits.size() || port == 0 || port > 65535) {
      return fmt::format("has the port \"{}\"; expected 1 to 65535", digits);
    }
  }
  return {};
}

}  // namespace

std::string traces_url(const OtlpSettings& settings) {
  return settings.endpoint.empty() ? settings.environment_url : with_traces_path(settings.endpoint);
}

OtlpTarget split_url(const std::string& url) {
  const std::size_t path = url.find('/', url.find("://") + 3);
  return path == std::string::npos
             ? OtlpTarget{.origin = url, .path = "/"}
             : OtlpTarget{.origin = url.substr(0, path), .path = url.substr(path)};
}

void read_otlp_environment(const std::vector<std::string>& environment,
                           OtlpSettings& settings,
                           std::vector<FieldProblem>& problems) {
  const Variables variables(environment);
  settings.service_name = variables.find("OTEL_SERVICE_NAME");
  read_list(variables, "OTEL_RESOURCE_ATTRIBUTES", settings.resource, problems);
  const std::string_view headers = variables.find("OTEL_EXPORTER_OTLP_TRACES_HEADERS").empty()
                                       ? "OTEL_EXPORTER_OTLP_HEADERS"
                                       : "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
  read_list(variables, headers, settings.headers, problems);
  if (variables.find("OTEL_SDK_DISABLED") == "true" ||
      variables.find("OTEL_TRACES_EXPORTER") == "none") {
    return;
  }
  settings.environment_url = variables.find(kTracesVariable);
  if (settings.environment_url.empty()) {
    settings.environment_url = with_traces_path(variables.find(kEndpointVariable));
  }
  std::string protocol = variables.find("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL");
  if (protocol.empty()) {
    protocol = variables.find("OTEL_EXPORTER_OTLP_PROTOCOL");
  }
  // Collectors take JSON where they take protobuf over HTTP; gRPC has another port.
  if (!settings.environment_url.empty() && protocol == "grpc") {
    problems.push_back({"OTEL_EXPORTER_OTLP_PROTOCOL",
                        "is grpc; expected http/json or http/protobuf and an endpoint that speaks "
                        "HTTP (port 4318), or OTEL_TRACES_EXPORTER=none for no spans"});
  }
}

std::vector<FieldProblem> check_otlp_settings(const OtlpSettings& settings) {
  std::vector<FieldProblem> problems;
  const auto check_url = [&](const std::string& url, std::string_view field) {
    if (std::string problem = find_url_problem(url); !problem.empty()) {
      problems.push_back({std::string(field), std::move(problem)});
    }
  };
  if (!settings.endpoint.empty()) {
    check_url(settings.endpoint, "otlp-endpoint");
  } else if (!settings.environment_url.empty()) {
    check_url(settings.environment_url,
              fmt::format("{} or {}", kTracesVariable, kEndpointVariable));
  }
  for (const auto& [name, value] : settings.headers) {
    if (!is_token(name) || has_control(value)) {
      problems.push_back({"OTEL_EXPORTER_OTLP_HEADERS", "holds what is no HTTP header"});
    }
  }
  return problems;
}

}  // namespace onnxferry
