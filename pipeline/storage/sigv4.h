#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipeline/storage/credentials.h"
#include "pipeline/storage/digest.h"

namespace onnxferry {

using NameValue = std::pair<std::string, std::string>;

/// How the path becomes the canonical URI. kS3: the raw key path is encoded exactly once and never
/// normalised ("//", "." and ".." are legal in keys); that encoded path is also what is sent.
/// kNormalized: the path as sent (other services, e.g. STS) has its dot and empty segments removed
/// and is encoded once more.
enum class PathRule : std::uint8_t { kS3, kNormalized };

/// What is signed. Names and values are raw: the signer encodes, sorts and trims.
struct SigningRequest {
  std::string method;
  std::string path;                ///< begins with '/', see PathRule
  std::vector<NameValue> query;    ///< decoded
  std::vector<NameValue> headers;  ///< all are signed; must hold "host", never Expect or Connection
  std::string payload_hash;        ///< hex SHA-256 or UNSIGNED-PAYLOAD
};

/// Header value "x-amz-content-sha256" for bodies that only TLS protects.
inline constexpr std::string_view kUnsignedPayload = "UNSIGNED-PAYLOAD";
inline constexpr std::string_view kEmptySha256 =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// AWS Signature Version 4. libcurl 7.88's own signer encodes neither path nor query and signs
/// headers that it does not send, hence this one.
/// Keeps the signing key of the day. Thread: any.
/// Source: "Signature Version 4 for API requests" (AWS), S3 API reference "Authenticating Requests"
class SigV4Signer {
 public:
  SigV4Signer(std::string service, PathRule path_rule)
      : service_(std::move(service)), path_rule_(path_rule) {}

  /// The headers to add: x-amz-date, x-amz-security-token (if any) and Authorization.
  std::vector<NameValue> sign(const SigningRequest& request,
                              const Credentials& credentials,
                              std::string_view region,
                              SystemTime now);

  /// The complete query string, X-Amz-Signature last, of a URL that works without headers.
  /// \param expires  at most 7 days
  std::string presign(const SigningRequest& request,
                      const Credentials& credentials,
                      std::string_view region,
                      SystemTime now,
                      std::chrono::seconds expires);

  /// The text whose hash is signed; public for tests.
  [[nodiscard]] std::string canonical_request(const SigningRequest& request) const;

 private:
  Sha256 signing_key(const Credentials& credentials, std::string_view day, std::string_view region);
  std::string signature(const SigningRequest& request,
                        const Credentials& credentials,
                        std::string_view region,
                        std::string_view timestamp);

  std::string service_;
  PathRule path_rule_;
  std::mutex mutex_;
  std::string cached_for_;  ///< day, region and key id
  Sha256 cached_secret_{};  ///< of the secret key: a renewed secret may keep its key id
  Sha256 cached_key_{};
};

/// "name=value&..." encoded and sorted as signatures want it; also what is sent.
std::string canonical_query(const std::vector<NameValue>& query);

/// 20130524T000000Z
std::string amz_timestamp(SystemTime time);

}  // namespace onnxferry
