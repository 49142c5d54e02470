#include "pipeline/storage/web_store.h"

#include <charconv>
#include <random>

#include <fmt/format.h>

#include "pipeline/storage/s3_transfer.h"

namespace onnxferry {
namespace {

std::optional<std::uint64_t> number_of(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_number = problem == std::errc{} && end == text.data() + text.size();
  return is_number ? std::optional(number) : std::nullopt;
}

/// The size of the whole object: behind the '/' of Content-Range, or the length of a whole reply.
std::optional<std::uint64_t> size_of(const HttpReply& reply) {
  const std::string_view range = reply.headers.find("content-range");
  const std::size_t slash = range.find('/');
  if (slash != std::string_view::npos) {
    return number_of(range.substr(slash + 1));
  }
  return reply.status == 200 ? number_of(reply.headers.find("content-length")) : std::nullopt;
}

}  // namespace

WebStore::WebStore(const StoreConfig& config, const ProxySettings& proxies, std::string origin)
    : connection_(config, proxies, std::move(origin)) {
  std::random_device random;
  fallback_identity_ = fmt::format("unidentified-{:08x}{:08x}", random(), random());
}

ObjectInfo WebStore::identified(ObjectInfo info) const {
  if (info.etag.empty()) {
    info.etag = fallback_identity_;
  }
  return info;
}

std::optional<ObjectInfo> WebStore::head(const std::string& key, StageScope& scope) {
  // Not HEAD: the signature of a presigned URL covers the method, and it is made for GET.
  S3Exchange exchange(
      connection_,
      {.method = "GET", .key = key, .access = Access::kRead, .headers = {{"Range", "bytes=0-0"}}},
      {404, 410, 416});
  connection_.run(exchange, scope);
  const HttpReply& reply = exchange.reply();
  if (reply.status == 404 || reply.status == 410) {
    return std::nullopt;
  }
  const std::optional<std::uint64_t> bytes =
      reply.status == 416 ? size_of(reply).value_or(0) : size_of(reply);
  if (!bytes) {
    throw Error(ErrorCode::kUnsupportedOption,
                fmt::format("{}: the server does not tell the size (no Content-Range and no "
                            "Content-Length); put the archive where it is a plain file",
                            connection_.uri(key)),
                connection_.uri(key));
  }
  return identified({.bytes = *bytes,
                     .etag = connection_.identity(reply.headers),
                     .version = std::string(reply.headers.find("x-amz-version-id"))});
}

ObjectInfo WebStore::download(const std::string& key,
                              const std::filesystem::path& to,
                              StageScope& scope) {
  return identified(download_object(connection_, key, to, scope));
}

std::optional<std::string> WebStore::get(const std::string& key,
                                         std::uint64_t max_bytes,
                                         StageScope& scope) {
  S3Exchange exchange(
      connection_,
      {.method = "GET", .key = key, .access = Access::kRead, .max_body_bytes = max_bytes},
      {404, 410});
  connection_.run(exchange, scope);
  const HttpReply& reply = exchange.reply();
  if (reply.status == 404 || reply.status == 410) {
    return std::nullopt;
  }
  if (reply.is_body_cut) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("{} has more than {} bytes", connection_.uri(key), max_bytes),
                connection_.uri(key));
  }
  scope.add_bytes(reply.body.size());
  return reply.body;
}

void WebStore::refuse(const std::string& key, std::string_view what) const {
  throw Error(ErrorCode::kInvalidRequest,
              fmt::format("{}: nothing can be {} over https://; use s3://bucket/prefix/",
                          connection_.uri(key),
                          what),
              connection_.uri(key));
}

void WebStore::put_file(const std::string& key,
                        const std::filesystem::path& /*from*/,
                        std::string_view /*content_type*/,
                        StageScope& /*scope*/) {
  refuse(key, "written");
}

PutResult WebStore::put(const std::string& key,
                        std::string_view /*bytes*/,
                        std::string_view /*content_type*/,
                        PutCondition /*condition*/,
                        StageScope& /*scope*/) {
  refuse(key, "written");
}

void WebStore::remove(const std::string& key, StageScope& /*scope*/) {
  refuse(key, "removed");
}

std::vector<std::string> WebStore::list(const std::string& prefix, StageScope& /*scope*/) {
  refuse(prefix, "listed");
}

void WebStore::abort_stale_uploads(const std::string& key, StageScope& /*scope*/) {
  refuse(key, "written");
}

}  // namespace onnxferry
