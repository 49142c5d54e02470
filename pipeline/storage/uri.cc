#include <algorithm>
#include <charconv>
#include <filesystem>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/object_store.h"

namespace onnxferry {
namespace {

constexpr std::size_t kMaxKeyBytes = 1024;
constexpr std::size_t kMinBucketBytes = 3;
constexpr std::size_t kMaxBucketBytes = 63;
constexpr unsigned int kMaxPort = 65'535;

bool is_web(std::string_view uri) {
  const std::string scheme = to_lower(uri.substr(0, uri.find("://")));
  return scheme == "https" || scheme == "http";
}

[[noreturn]] void refuse(std::string_view uri, std::string_view why) {
  const std::size_t query = is_web(uri) ? uri.find('?') : std::string_view::npos;
  std::string shown = mask_secrets(uri.substr(0, query));
  shown += query == std::string_view::npos ? "" : "?***";
  std::ranges::replace_if(shown, [](char c) { return has_control_characters({&c, 1}); }, '?');
  throw Error(ErrorCode::kInvalidRequest, fmt::format("uri \"{}\": {}", shown, why), shown);
}

bool is_lower_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool looks_like_ip_address(std::string_view name) {
  return std::ranges::count(name, '.') == 3 &&
         std::ranges::all_of(name, [](char c) { return c == '.' || (c >= '0' && c <= '9'); });
}

void check_bucket(std::string_view uri, std::string_view bucket) {
  if (bucket.empty()) {
    refuse(uri, "no bucket name; expected s3://bucket/key");
  }
  const bool has_valid_characters = std::ranges::all_of(
      bucket, [](char c) { return is_lower_or_digit(c) || c == '-' || c == '.'; });
  if (bucket.size() < kMinBucketBytes || bucket.size() > kMaxBucketBytes || !has_valid_characters ||
      !is_lower_or_digit(bucket.front()) || !is_lower_or_digit(bucket.back()) ||
      bucket.find("..") != std::string_view::npos || looks_like_ip_address(bucket)) {
    refuse(uri,
           "the bucket name is not valid; expected 3 to 63 lower-case letters, digits, '-' or '.', "
           "with a letter or digit at both ends");
  }
}

ObjectUri parse_s3(std::string_view uri, std::string_view rest) {
  const std::size_t slash = rest.find('/');
  ObjectUri parsed{
      .scheme = ObjectUri::Scheme::kS3,
      .bucket = std::string(rest.substr(0, slash)),
      .key = slash == std::string_view::npos ? "" : std::string(rest.substr(slash + 1))};
  check_bucket(uri, parsed.bucket);
  if (parsed.key.size() > kMaxKeyBytes) {
    refuse(uri, fmt::format("the key has {} bytes; at most 1024 are possible", parsed.key.size()));
  }
  return parsed;
}

ObjectUri parse_file(std::string_view uri, std::string_view rest) {
  if (rest.starts_with("localhost/")) {
    rest.remove_prefix(std::string_view("localhost").size());
  }
  if (!rest.starts_with('/')) {
    refuse(uri, "file:// takes an absolute path on this machine, as in file:///data/model.tar");
  }
  std::optional<std::string> path = uri_decode(rest);
  if (!path) {
    refuse(uri, "'%' is not followed by two hex digits; write it as %25");
  }
  if (has_control_characters(*path)) {
    refuse(uri, "it holds a percent-encoded control character");
  }
  return {.scheme = ObjectUri::Scheme::kFile, .bucket = {}, .key = std::move(*path)};
}

bool is_host_character(char c) {
  return is_lower_or_digit(c) || c == '.' || c == '-' || c == '_';
}

/// Lower-case "host" or "[v6]", with ":port" unless it is the scheme's own.
std::string parse_authority(std::string_view uri,
                            std::string_view scheme,
                            std::string_view authority) {
  if (authority.find('@') != std::string_view::npos) {
    refuse(uri, "it holds a user name or password; give a presigned url instead");
  }
  const bool is_v6 = authority.starts_with('[');
  const std::size_t close = is_v6 ? authority.find(']') : 0;
  if (close == std::string_view::npos) {
    refuse(uri, "the host begins with '[' but has no ']'");
  }
  const std::size_t colon = authority.find(':', close);
  std::string host = to_lower(authority.substr(0, colon));
  const std::string_view inner =
      is_v6 ? std::string_view(host).substr(1, host.size() - 2) : std::string_view(host);
  const bool is_valid =
      !inner.empty() &&
      (is_v6 ? host.ends_with(']') &&
                   inner.find_first_not_of("0123456789abcdef:.") == std::string_view::npos
             : std::ranges::all_of(inner, is_host_character));
  if (!is_valid) {
    refuse(uri, "the host is not valid; expected a name, an IPv4 address or [an IPv6 address]");
  }
  if (colon == std::string_view::npos) {
    return host;
  }
  const std::string_view port = authority.substr(colon + 1);
  unsigned int number = 0;
  const auto [end, problem] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (problem != std::errc{} || end != port.data() + port.size() || number == 0 ||
      number > kMaxPort) {
    refuse(uri, "the port is not a number from 1 to 65535");
  }
  const bool is_default = number == (scheme == "https" ? 443 : 80);
  return is_default ? host : fmt::format("{}:{}", host, number);
}

ObjectUri parse_web(std::string_view uri, std::string_view scheme, std::string_view rest) {
  rest = rest.substr(0, rest.find('#'));
  const std::size_t end = std::min(rest.find_first_of("/?\\"), rest.size());
  const std::string host = parse_authority(uri, scheme, rest.substr(0, end));
  std::string key(rest.substr(end));
  const bool is_sendable = std::ranges::all_of(key, [](char c) {
    return c > ' ' && c < 0x7F && std::string_view("\"<>\\^`{|}").find(c) == std::string_view::npos;
  });
  if (!is_sendable) {
    refuse(uri, "it holds a character that a url must have percent-encoded");
  }
  if (!key.starts_with('/')) {
    key.insert(0, "/");
  }
  return {.scheme = ObjectUri::Scheme::kWeb,
          .bucket = fmt::format("{}://{}", scheme, host),
          .key = std::move(key)};
}

bool is_scheme(std::string_view text) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !text.empty() && is_letter(text.front()) && std::ranges::all_of(text, [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
  });
}

}  // namespace

ObjectUri ObjectUri::parse(std::string_view uri) {
  if (uri.empty()) {
    refuse(
        uri,
        "it is empty; expected s3://bucket/key, https://host/path, file:///path or a local path");
  }
  if (has_control_characters(uri)) {
    refuse(uri, "it holds a control character");
  }
  if (!is_utf8(uri)) {
    refuse("(not printable)", "it is not valid UTF-8");
  }
  const std::size_t colon = uri.find("://");
  if (colon != std::string_view::npos && is_scheme(uri.substr(0, colon))) {
    const std::string scheme_name = to_lower(uri.substr(0, colon));
    const std::string_view rest = uri.substr(colon + 3);
    if (scheme_name == "s3") {
      return parse_s3(uri, rest);
    }
    if (scheme_name == "file") {
      return parse_file(uri, rest);
    }
    if (scheme_name == "https" || scheme_name == "http") {
      return parse_web(uri, scheme_name, rest);
    }
    refuse(uri,
           fmt::format("scheme \"{}\" is not supported; use s3://bucket/key, https://host/path, "
                       "file:///path or a local path",
                       scheme_name));
  }
  return {.scheme = Scheme::kFile,
          .bucket = {},
          .key = std::filesystem::absolute(std::filesystem::path(uri)).string()};
}

std::string ObjectUri::to_string() const {
  if (scheme == Scheme::kS3) {
    return fmt::format("s3://{}/{}", bucket, key);
  }
  if (scheme == Scheme::kWeb) {
    return fmt::format("{}{}{}", bucket, path(), path().size() < key.size() ? "?***" : "");
  }
  return "file://" + uri_encode(key, Slash::kKeep);
}

std::string_view ObjectUri::path() const {
  const std::string_view whole(key);
  return scheme == Scheme::kWeb ? whole.substr(0, whole.find('?')) : whole;
}

}  // namespace onnxferry
