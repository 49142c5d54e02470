#include "pipeline/storage/sigv4.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";

/// Remove empty, "." and ".." segments; a final '/' stays.
std::string normalize_path(std::string_view path) {
  std::vector<std::string_view> segments;
  std::size_t at = 0;
  while (at < path.size()) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view segment = path.substr(at, end - at);
    at = end + 1;
    if (segment == "..") {
      if (!segments.empty()) {
        segments.pop_back();
      }
    } else if (!segment.empty() && segment != ".") {
      segments.push_back(segment);
    }
  }
  std::string normal;
  for (const std::string_view segment : segments) {
    normal.append("/").append(segment);
  }
  if (normal.empty() || path.ends_with('/')) {
    normal += '/';
  }
  return normal;
}

/// Trimmed, with every run of white space inside as one blank.
std::string collapse(std::string_view value) {
  std::string result;
  for (const char c : trim(value)) {
    const bool is_blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
    if (!is_blank) {
      result += c;
    } else if (!result.ends_with(' ')) {
      result += ' ';
    }
  }
  return result;
}

/// Lower-case name to value; repeated headers are joined in their order.
std::map<std::string, std::string> canonical_headers(const std::vector<NameValue>& headers) {
  std::map<std::string, std::string> canonical;
  for (const auto& [name, value] : headers) {
    const auto [at, is_new] = canonical.try_emplace(to_lower(name), collapse(value));
    if (!is_new) {
      at->second.append(",").append(collapse(value));
    }
  }
  return canonical;
}

std::string signed_headers(const SigningRequest& request) {
  std::string names;
  for (const auto& [name, value] : canonical_headers(request.headers)) {
    names.append(names.empty() ? "" : ";").append(name);
  }
  return names;
}

std::string credential_scope(std::string_view timestamp,
                             std::string_view region,
                             std::string_view service) {
  return fmt::format("{}/{}/{}/aws4_request", timestamp.substr(0, 8), region, service);
}

std::string_view as_text(const Sha256& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

Sha256 keyed(std::string_view key, std::string_view text) {
  return hmac_sha256({reinterpret_cast<const std::uint8_t*>(key.data()), key.size()}, text);
}

}  // namespace

std::string amz_timestamp(SystemTime time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format("{:04}{:02}{:02}T{:02}{:02}{:02}Z",
                     parts.tm_year + 1900,
                     parts.tm_mon + 1,
                     parts.tm_mday,
                     parts.tm_hour,
                     parts.tm_min,
                     parts.tm_sec);
}

std::string canonical_query(const std::vector<NameValue>& query) {
  std::vector<NameValue> encoded;
  for (const auto& [name, value] : query) {
    encoded.emplace_back(uri_encode(name, Slash::kEncode), uri_encode(value, Slash::kEncode));
  }
  std::ranges::sort(encoded);
  std::string text;
  for (const auto& [name, value] : encoded) {
    text.append(text.empty() ? "" : "&").append(name).append("=").append(value);
  }
  return text;
}

std::string SigV4Signer::canonical_request(const SigningRequest& request) const {
  const std::string path =
      path_rule_ == PathRule::kS3 ? request.path : normalize_path(request.path);
  std::string headers;
  for (const auto& [name, value] : canonical_headers(request.headers)) {
    headers.append(name).append(":").append(value).append("\n");
  }
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{}",
                     request.method,
                     uri_encode(path, Slash::kKeep),
                     canonical_query(request.query),
                     headers,
                     signed_headers(request),
                     request.payload_hash);
}

Sha256 SigV4Signer::signing_key(const Credentials& credentials,
                                std::string_view day,
                                std::string_view region) {
  const std::string wanted = fmt::format("{}/{}/{}", day, region, credentials.access_key);
  const Sha256 secret = sha256(credentials.secret_key);
  const std::scoped_lock lock(mutex_);
  if (wanted != cached_for_ || secret != cached_secret_) {
    Sha256 key = keyed("AWS4" + credentials.secret_key, day);
    key = keyed(as_text(key), region);
    key = keyed(as_text(key), service_);
    cached_key_ = keyed(as_text(key), "aws4_request");
    cached_secret_ = secret;
    cached_for_ = wanted;
  }
  return cached_key_;
}

std::string SigV4Signer::signature(const SigningRequest& request,
                                   const Credentials& credentials,
                                   std::string_view region,
                                   std::string_view timestamp) {
  const std::string string_to_sign = fmt::format("{}\n{}\n{}\n{}",
                                                 kAlgorithm,
                                                 timestamp,
                                                 credential_scope(timestamp, region, service_),
                                                 to_hex(sha256(canonical_request(request))));
  const Sha256 key = signing_key(credentials, timestamp.substr(0, 8), region);
  return to_hex(keyed(as_text(key), string_to_sign));
}

std::vector<NameValue> SigV4Signer::sign(const SigningRequest& request,
                                         const Credentials& credentials,
                                         std::string_view region,
                                         SystemTime now) {
  const std::string timestamp = amz_timestamp(now);
  std::vector<NameValue> added = {{"x-amz-date", timestamp}};
  if (!credentials.session_token.empty()) {
    added.emplace_back("x-amz-security-token", credentials.session_token);
  }
  SigningRequest complete = request;
  complete.headers.insert(complete.headers.end(), added.begin(), added.end());
  added.emplace_back("Authorization",
                     fmt::format("{} Credential={}/{}, SignedHeaders={}, Signature={}",
                                 kAlgorithm,
                                 credentials.access_key,
                                 credential_scope(timestamp, region, service_),
                                 signed_headers(complete),
                                 signature(complete, credentials, region, timestamp)));
  return added;
}

std::string SigV4Signer::presign(const SigningRequest& request,
                                 const Credentials& credentials,
                                 std::string_view region,
                                 SystemTime now,
                                 std::chrono::seconds expires) {
  EXPORT_CHECK(expires.count() > 0 && expires <= std::chrono::hours(24 * 7),
               "a presigned URL lives for 1 second to 7 days");
  const std::string timestamp = amz_timestamp(now);
  SigningRequest complete = request;
  complete.query.emplace_back("X-Amz-Algorithm", kAlgorithm);
  complete.query.emplace_back(
      "X-Amz-Credential",
      fmt::format("{}/{}", credentials.access_key, credential_scope(timestamp, region, service_)));
  complete.query.emplace_back("X-Amz-Date", timestamp);
  complete.query.emplace_back("X-Amz-Expires", std::to_string(expires.count()));
  complete.query.emplace_back("X-Amz-SignedHeaders", signed_headers(request));
  if (!credentials.session_token.empty()) {
    complete.query.emplace_back("X-Amz-Security-Token", credentials.session_token);
  }
  return canonical_query(complete.query) +
         "&X-Amz-Signature=" + signature(complete, credentials, region, timestamp);
}

}  // namespace onnxferry
