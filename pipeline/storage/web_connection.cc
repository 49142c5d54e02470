#include <memory>

#include <curl/curl.h>
#include <fmt/format.h>

#include "pipeline/storage/address_rules.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/web_store.h"

namespace onnxferry {
namespace {

constexpr std::string_view kModifiedPrefix = "last-modified:";

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
struct FreeText {
  void operator()(char* text) const { curl_free(text); }
};

/// `location` as a reader of `base` understands it; empty when it makes no URL.
std::string resolve(const std::string& base, const std::string& location) {
  const std::unique_ptr<CURLU, FreeUrl> url(curl_url());
  char* text = nullptr;
  if (url == nullptr || curl_url_set(url.get(), CURLUPART_URL, base.c_str(), 0) != CURLUE_OK ||
      curl_url_set(url.get(), CURLUPART_URL, location.c_str(), 0) != CURLUE_OK ||
      curl_url_get(url.get(), CURLUPART_URL, &text, 0) != CURLUE_OK) {
    return {};
  }
  const std::unique_ptr<char, FreeText> owned(text);
  return text;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool is_refusal(int status) {
  return status == 400 || status == 401 || status == 403 || status == 404 || status == 410;
}

std::string url_of(const ObjectUri& uri) {
  return uri.bucket + uri.key;
}

}  // namespace

WebConnection::WebConnection(const StoreConfig& config,
                             const ProxySettings& proxies,
                             std::string origin)
    : Connection(config, proxies), origin_(std::move(origin)), last_origin_(origin_) {}

std::string WebConnection::uri(std::string_view key) const {
  return ObjectUri{.scheme = ObjectUri::Scheme::kWeb, .bucket = origin_, .key = std::string(key)}
      .to_string();
}

std::string WebConnection::endpoint() const {
  return last_origin_;
}

ObjectUri WebConnection::target_of(const std::string& key) const {
  const auto found = redirected_.find(key);
  return found != redirected_.end()
             ? found->second
             : ObjectUri{.scheme = ObjectUri::Scheme::kWeb, .bucket = origin_, .key = key};
}

HttpRequest WebConnection::make(const S3Request& request, bool /*expect_continue*/) {
  const ObjectUri target = target_of(request.key);
  last_origin_ = target.bucket;
  HttpRequest http{.method = request.method, .url = url_of(target)};
  for (const auto& [name, value] : request.headers) {
    http.headers.push_back(fmt::format("{}: {}", name, value));
  }
  http.sink = request.sink;
  http.max_body_bytes = request.max_body_bytes;
  http.patience = request.patience;
  http.refuse_local_addresses = must_check_addresses(target.bucket, config());
  return http;
}

std::optional<FailureKind> WebConnection::decide(const HttpReply& reply,
                                                 const S3Request& request,
                                                 const std::string& sent) const {
  if (!reply.refused_address.empty()) {
    return FailureKind::kPermanent;
  }
  if (reply.transport != 0) {
    return std::nullopt;
  }
  // The place that a redirect named can be gone later: its links expire, too. Then the first
  // address is asked for a new one.
  const bool was_redirected = redirected_.contains(request.key) || sent != origin_ + request.key;
  if (is_redirect(reply.status) || (was_redirected && is_refusal(reply.status))) {
    return FailureKind::kRedirect;
  }
  return std::nullopt;
}

bool WebConnection::repair(FailureKind kind,
                           const HttpReply& reply,
                           const S3Request& request,
                           const std::string& sent) {
  if (kind != FailureKind::kRedirect) {
    return false;  // there is nothing of ours in the request that could be mended
  }
  if (sent != url_of(target_of(request.key))) {
    return true;  // another range has moved on meanwhile: follow it
  }
  if (!is_redirect(reply.status)) {
    redirected_.erase(request.key);
    return true;
  }
  const std::string location(reply.headers.find("location"));
  const std::string resolved = location.empty() ? "" : resolve(sent, location);
  if (resolved.empty()) {
    refusal_ = "it does not say where to";
    return false;
  }
  try {
    ObjectUri target = ObjectUri::parse(resolved);
    refusal_ = target.scheme != ObjectUri::Scheme::kWeb ? "it leads away from https://"
               : sent.starts_with("https://") && !target.bucket.starts_with("https://")
                   ? fmt::format("it leads from https to {}", target.bucket)
                   : refusal_of(target, config());
    if (!refusal_.empty()) {
      return false;
    }
    redirected_.insert_or_assign(request.key, std::move(target));
    return true;
  } catch (const Error& error) {
    refusal_ = error.message();
    return false;
  }
}

ErrorCode WebConnection::error_code(const HttpReply& reply,
                                    const S3ErrorInfo& error,
                                    Access /*access*/) const {
  const int status = reply.status;
  if (status == 401 || status == 403 || status == 407 || error.code == "ExpiredToken" ||
      error.code == "InvalidToken") {
    return ErrorCode::kPermissionDenied;
  }
  if (status == 404 || status == 410) {
    return ErrorCode::kSourceNotFound;
  }
  if (status == 501) {
    return ErrorCode::kUnsupportedOption;
  }
  return status >= 500 ? ErrorCode::kUnavailable : ErrorCode::kInvalidRequest;
}

std::string WebConnection::hint(const HttpReply& reply, const S3ErrorInfo& /*error*/) const {
  if (reply.transport != 0) {
    return {};
  }
  if (is_redirect(reply.status)) {
    return "; the redirect is not followed: " +
           (refusal_.empty() ? std::string("there were too many") : mask_secrets(refusal_));
  }
  if (reply.status == 401 || reply.status == 403) {
    return "; a presigned url may have expired: make a new one (nothing is signed for https://)";
  }
  return {};
}

std::string WebConnection::identity(const HttpHeaders& headers) const {
  std::string etag = unquote_etag(headers.find("etag"));
  const std::string_view modified = headers.find("last-modified");
  if (!etag.empty() || modified.empty()) {
    return etag;
  }
  return std::string(kModifiedPrefix).append(modified);
}

std::optional<NameValue> WebConnection::pin(const std::string& identity) const {
  // A weak ETag never matches If-Match (RFC 9110, 13.1.1); the replies' own ETags are compared.
  if (identity.empty() || identity.starts_with("W/")) {
    return std::nullopt;
  }
  if (identity.starts_with(kModifiedPrefix)) {
    return NameValue("If-Unmodified-Since", identity.substr(kModifiedPrefix.size()));
  }
  return NameValue("If-Match", fmt::format("\"{}\"", identity));
}

}  // namespace onnxferry
