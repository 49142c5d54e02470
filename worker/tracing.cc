#include "worker/tracing.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <openssl/rand.h>

#include "pipeline/error.h"
#include "pipeline/version.h"

namespace onnxferry {
namespace {

using nlohmann::json;

constexpr std::uint8_t kSampled = 0x01;
constexpr std::uint8_t kRandom = 0x02;  ///< of level 2: to be passed on
constexpr std::size_t kLength = 55;     ///< of version 00: 2 + 32 + 16 + 2 digits, 3 dashes

// Flags of an OTLP span beside the trace flags: whether its parent was remote, and that we know.
constexpr std::uint32_t kHasIsRemote = 0x100;
constexpr std::uint32_t kIsRemote = 0x200;
constexpr int kStatusError = 2;

std::optional<std::uint8_t> hex_digit(char c) {
  if (c >= '0' && c <= '9') {
    return static_cast<std::uint8_t>(c - '0');
  }
  if (c >= 'a' && c <= 'f') {  // capitals are invalid
    return static_cast<std::uint8_t>(c - 'a' + 10);
  }
  return std::nullopt;
}

/// \pre text has two digits for each byte
bool read_hex(std::string_view text, std::span<std::uint8_t> bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const auto high = hex_digit(text[2 * i]);
    const auto low = hex_digit(text[2 * i + 1]);
    if (!high || !low) {
      return false;
    }
    bytes[i] = static_cast<std::uint8_t>(*high << 4U | *low);
  }
  return true;
}

bool is_zero(std::span<const std::uint8_t> bytes) {
  return std::ranges::all_of(bytes, [](std::uint8_t byte) { return byte == 0; });
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::string to_nanoseconds(std::chrono::system_clock::time_point time) {
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch());
  return std::to_string(std::max<std::int64_t>(0, since.count()));
}

json to_json(std::string_view key, const AttributeValue& value) {
  json any;
  if (const auto* text = std::get_if<std::string>(&value)) {
    any["stringValue"] = *text;
  } else {
    any["intValue"] = std::to_string(std::get<std::int64_t>(value));
  }
  return {{"key", std::string(key)}, {"value", std::move(any)}};
}

json to_json(const Span& span) {
  const bool is_remote = span.parent_origin == ParentOrigin::kRemote;
  json made = {{"traceId", to_hex(span.context.trace_id)},
               {"spanId", to_hex(span.context.span_id)},
               {"flags", span.context.flags | kHasIsRemote | (is_remote ? kIsRemote : 0U)},
               {"name", span.name},
               {"kind", static_cast<int>(span.kind)},
               {"startTimeUnixNano", to_nanoseconds(span.start)},
               {"endTimeUnixNano", to_nanoseconds(std::max(span.start, span.end))},
               {"attributes", json::array()}};
  if (span.parent) {
    made["parentSpanId"] = to_hex(*span.parent);
  }
  if (!span.trace_state.empty()) {
    made["traceState"] = span.trace_state;
  }
  for (const auto& [key, value] : span.attributes) {
    made["attributes"].push_back(to_json(key, value));
  }
  if (!span.error.empty()) {
    made["attributes"].push_back(to_json(attribute::kErrorType, span.error));
    made["status"] = {{"code", kStatusError}};
  }
  return made;
}

template <typename Id>
Id make_id(const RandomBytes& random) {
  Id id{};
  while (is_zero(id)) {
    random(id);
  }
  return id;
}

}  // namespace

bool TraceContext::is_sampled() const {
  return (flags & kSampled) != 0;
}

std::optional<TraceContext> parse_traceparent(std::string_view text) {
  std::array<std::uint8_t, 1> version{};
  std::array<std::uint8_t, 1> flags{};
  TraceContext context;
  const bool has_form =
      text.size() >= kLength && text[2] == '-' && text[35] == '-' && text[52] == '-' &&
      read_hex(text, version) && read_hex(text.substr(3), context.trace_id) &&
      read_hex(text.substr(36), context.span_id) && read_hex(text.substr(53), flags);
  if (!has_form || version[0] == 0xff || is_zero(context.trace_id) || is_zero(context.span_id)) {
    return std::nullopt;
  }
  // Later versions may append fields, each with its dash.
  if (text.size() > kLength && (version[0] == 0 || text[kLength] != '-')) {
    return std::nullopt;
  }
  context.flags = flags[0] & (kSampled | kRandom);
  return context;
}

std::string to_traceparent(const TraceContext& context) {
  return fmt::format(
      "00-{}-{}-{:02x}", to_hex(context.trace_id), to_hex(context.span_id), context.flags);
}

std::string to_otlp_json(std::span<const Span> spans, const ResourceAttributes& resource) {
  json attributes = json::array();
  for (const auto& [key, value] : resource) {
    attributes.push_back(to_json(key, value));
  }
  json list = json::array();
  for (const Span& span : spans) {
    list.push_back(to_json(span));
  }
  const std::string schema(attribute::kSchemaUrl);
  json scope_spans = {{"scope", {{"name", "onnxferry"}, {"version", std::string(version())}}},
                      {"spans", std::move(list)},
                      {"schemaUrl", schema}};
  json resource_spans = {{"resource", {{"attributes", std::move(attributes)}}},
                         {"scopeSpans", json::array({std::move(scope_spans)})},
                         {"schemaUrl", schema}};
  const json request = {{"resourceSpans", json::array({std::move(resource_spans)})}};
  return request.dump(-1, ' ', false, json::error_handler_t::replace);
}

void fill_random(std::span<std::uint8_t> bytes) {
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) {
    throw Error(ErrorCode::kInternal, "no random bytes from the system");
  }
}

TraceId make_trace_id(const RandomBytes& random) {
  return make_id<TraceId>(random);
}

SpanId make_span_id(const RandomBytes& random) {
  return make_id<SpanId>(random);
}

}  // namespace onnxferry
