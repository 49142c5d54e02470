#include <algorithm>
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

[[noreturn]] void refuse(std::string_view uri, std::string_view why) {
  std::string shown = mask_secrets(uri);
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

bool is_scheme(std::string_view text) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  return !text.empty() && is_letter(text.front()) && std::ranges::all_of(text, [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
  });
}

}  // namespace

ObjectUri ObjectUri::parse(std::string_view uri) {
  if (uri.empty()) {
    refuse(uri, "it is empty; expected s3://bucket/key, file:///path or a local path");
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
    refuse(uri,
           fmt::format("scheme \"{}\" is not supported; use s3://bucket/key, file:///path or a "
                       "local path",
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
  return "file://" + uri_encode(key, Slash::kKeep);
}

}  // namespace onnxferry
