#include "pipeline/storage/s3_store.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/digest.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/part_digests.h"
#include "pipeline/storage/s3_multipart.h"
#include "pipeline/storage/s3_transfer.h"

namespace onnxferry {
namespace {

constexpr std::size_t kMaxListBytes = 16U << 20U;
constexpr int kMaxPages = 100'000;
constexpr int kMaxPutRepeats = 3;

ObjectInfo info_from(const HttpHeaders& headers) {
  ObjectInfo info{.bytes = 0,
                  .etag = unquote_etag(headers.find("etag")),
                  .version = std::string(headers.find("x-amz-version-id"))};
  const std::string_view length = headers.find("content-length");
  std::from_chars(length.data(), length.data() + length.size(), info.bytes);
  return info;
}

[[noreturn]] void throw_unexpected(const S3Connection& connection,
                                   std::string_view operation,
                                   std::string_view body) {
  throw Error(ErrorCode::kUnavailable,
              fmt::format("{} of {} was answered with <{}>; expected a list as S3 sends it",
                          operation,
                          connection.uri(""),
                          xml_root_name(body)),
              connection.uri(""));
}

}  // namespace

void S3Store::require_bucket(Access access, StageScope& scope) {
  if (has_seen_bucket_) {
    return;
  }
  S3Exchange exchange(connection_, {.method = "HEAD", .key = {}, .access = access}, {403, 404});
  connection_.run(exchange, scope);
  if (exchange.reply().status == 404) {
    const std::string uri = connection_.uri("");
    throw Error(
        access == Access::kRead ? ErrorCode::kSourceNotFound : ErrorCode::kDestinationNotFound,
        fmt::format("bucket \"{}\" does not exist at {}; create it or correct the uri",
                    connection_.bucket(),
                    connection_.endpoint()),
        uri);
  }
  has_seen_bucket_ = true;  // 403: it exists, only its own HEAD is not allowed
}

std::optional<ObjectInfo> S3Store::info_by_get(const std::string& key, StageScope& scope) {
  S3Exchange exchange(
      connection_,
      {.method = "GET", .key = key, .access = Access::kRead, .headers = {{"Range", "bytes=0-0"}}},
      {404, 416});
  connection_.run(exchange, scope);
  const HttpReply& reply = exchange.reply();
  if (reply.status == 404) {
    return std::nullopt;
  }
  ObjectInfo info = info_from(reply.headers);
  const std::string_view range = reply.headers.find("content-range");
  const std::size_t slash = range.find('/');
  if (slash != std::string_view::npos) {
    std::from_chars(range.data() + slash + 1, range.data() + range.size(), info.bytes);
  }
  return info;
}

std::optional<ObjectInfo> S3Store::head(const std::string& key, StageScope& scope) {
  // A refused HEAD has no body and so no reason; 301, 400 and 403 are asked again by GET, whose
  // error says why and lets the clock, the credentials or the region be mended.
  S3Exchange exchange(
      connection_, {.method = "HEAD", .key = key, .access = Access::kRead}, {301, 400, 403, 404});
  connection_.run(exchange, scope);
  const HttpReply& reply = exchange.reply();
  if (reply.status == 404) {
    require_bucket(Access::kRead, scope);
    return std::nullopt;
  }
  if (!reply.is_success()) {
    return info_by_get(key, scope);
  }
  has_seen_bucket_ = true;
  return info_from(reply.headers);
}

ObjectInfo S3Store::download(const std::string& key,
                             const std::filesystem::path& to,
                             StageScope& scope) {
  return download_object(connection_, key, to, scope);
}

std::optional<std::string> S3Store::get(const std::string& key,
                                        std::uint64_t max_bytes,
                                        StageScope& scope) {
  constexpr std::uint64_t kErrorBytes = 64U << 10U;
  S3Exchange exchange(connection_,
                      {.method = "GET",
                       .key = key,
                       .access = Access::kRead,
                       .max_body_bytes = std::max(max_bytes, kErrorBytes)},
                      {404});
  connection_.run(exchange, scope);
  const HttpReply& reply = exchange.reply();
  if (reply.status == 404) {
    return std::nullopt;
  }
  if (reply.is_body_cut || reply.body.size() > max_bytes) {
    throw Error(ErrorCode::kLimitExceeded,
                fmt::format("{} has {} bytes; at most {} are read",
                            connection_.uri(key),
                            info_from(reply.headers).bytes,
                            max_bytes),
                connection_.uri(key));
  }
  scope.add_bytes(reply.body.size());
  return reply.body;
}

void S3Store::put_file(const std::string& key,
                       const std::filesystem::path& from,
                       std::string_view content_type,
                       StageScope& scope) {
  const FileUpload file{.key = key, .from = from, .content_type = std::string(content_type)};
  put_files({&file, 1}, scope);
}

void S3Store::put_files(std::span<const FileUpload> files, StageScope& scope) {
  upload_files(connection_, files, scope);
}

S3Request S3Store::put_request(const std::string& key,
                               std::string_view bytes,
                               std::string_view content_type,
                               HttpBody& body) const {
  S3Request request{.method = "PUT",
                    .key = key,
                    .access = Access::kWrite,
                    .headers = {{"Content-Type", std::string(content_type)}},
                    .body = &body,
                    .payload_sha256 = to_hex(sha256(bytes))};
  if (const UploadChecksum kind = connection_.checksum(); kind != UploadChecksum::kNone) {
    request.headers.emplace_back(checksum_header(kind), checksum_value(kind, bytes));
  }
  return request;
}

PutResult S3Store::put(const std::string& key,
                       std::string_view bytes,
                       std::string_view content_type,
                       PutCondition condition,
                       StageScope& scope) {
  TextBody body(bytes);
  const S3Request request = put_request(key, bytes, content_type, body);
  PutResult result = PutResult::kWritten;
  if (condition == PutCondition::kAlways) {
    S3Exchange exchange(connection_, request);
    connection_.run(exchange, scope);
  } else if (connection_.config().conditional == ConditionalWrites::kOff || lacks_conditions_) {
    result = put_without_condition(request, bytes, scope);
  } else {
    result = put_if_absent(request, bytes, scope);
  }
  if (result == PutResult::kWritten) {
    scope.add_bytes(bytes.size());
  }
  return result;
}

std::optional<bool> S3Store::compare(const std::string& key,
                                     std::string_view bytes,
                                     StageScope& scope) {
  S3Exchange exchange(connection_,
                      {.method = "GET",
                       .key = key,
                       .access = Access::kWrite,
                       .max_body_bytes = bytes.size() + (64U << 10U)},
                      {404});
  connection_.run(exchange, scope);
  if (exchange.reply().status == 404) {
    return std::nullopt;
  }
  return !exchange.reply().is_body_cut && exchange.reply().body == bytes;
}

PutResult S3Store::put_if_absent(S3Request request, std::string_view bytes, StageScope& scope) {
  request.headers.emplace_back("If-None-Match", "*");
  request.fresh_connection =
      true;  // no quiet resend: a 412 to the only attempt is another's object
  for (int repeat = 0; repeat < kMaxPutRepeats; ++repeat) {
    S3Exchange exchange(connection_, request, {412, 501});
    connection_.run(exchange, scope);
    if (exchange.reply().status == 501) {
      lacks_conditions_ = true;
      note_lack_of_conditions();
      request.headers.pop_back();
      return put_without_condition(request, bytes, scope);
    }
    if (exchange.reply().status != 412) {
      return PutResult::kWritten;
    }
    if (exchange.sent() == 1) {
      return PutResult::kExists;
    }
    // An earlier attempt may have been stored although its reply was lost: then the object that is
    // in the way is our own.
    const std::optional<bool> is_ours = compare(request.key, bytes, scope);
    if (is_ours) {
      return *is_ours ? PutResult::kWritten : PutResult::kExists;
    }
  }
  throw Error(ErrorCode::kUnavailable,
              fmt::format("{}: the store says that it exists and that it does not, {} times",
                          connection_.uri(request.key),
                          kMaxPutRepeats),
              connection_.uri(request.key));
}

void S3Store::note_lack_of_conditions() const {
  if (connection_.config().notice) {
    connection_.config().notice(fmt::format(
        "the store answers 501 to conditional writes (If-None-Match) to the bucket {}; two jobs "
        "that write to the same directory at once may not see each other; set s3-conditional to "
        "off if this is known",
        connection_.bucket()));
  }
}

PutResult S3Store::put_without_condition(const S3Request& request,
                                         std::string_view bytes,
                                         StageScope& scope) {
  if (compare(request.key, bytes, scope)) {
    return PutResult::kExists;
  }
  S3Exchange exchange(connection_, request);
  connection_.run(exchange, scope);
  const std::optional<bool> is_ours = compare(request.key, bytes, scope);
  return is_ours && *is_ours ? PutResult::kWritten : PutResult::kExists;
}

void S3Store::remove(const std::string& key, StageScope& scope) {
  S3Exchange exchange(
      connection_, {.method = "DELETE", .key = key, .access = Access::kWrite}, {404});
  connection_.run(exchange, scope);
}

std::vector<std::string> S3Store::list(const std::string& prefix, StageScope& scope) {
  std::vector<std::string> keys;
  std::string token;
  for (int page_number = 0; page_number < kMaxPages; ++page_number) {
    S3Request request{.method = "GET",
                      .key = {},
                      .access = Access::kRead,
                      .query = {{"list-type", "2"}, {"prefix", prefix}, {"encoding-type", "url"}},
                      .max_body_bytes = kMaxListBytes};
    if (!token.empty()) {
      request.query.emplace_back("continuation-token", token);
    }
    S3Exchange exchange(connection_, std::move(request));
    connection_.run(exchange, scope);
    std::optional<KeyPage> page = parse_key_page(exchange.reply().body, prefix);
    if (!page) {
      throw_unexpected(connection_, "ListObjectsV2", exchange.reply().body);
    }
    std::ranges::move(page->keys, std::back_inserter(keys));
    if (page->next_token.empty()) {
      break;
    }
    token = page->next_token;
  }
  std::ranges::sort(keys);
  return keys;
}

void S3Store::abort_stale_uploads(const std::string& key, StageScope& scope) {
  std::vector<std::string> upload_ids;
  std::string key_marker;
  std::string id_marker;
  for (int page_number = 0; page_number < kMaxPages; ++page_number) {
    S3Request request{.method = "GET",
                      .key = {},
                      .access = Access::kWrite,
                      .query = {{"uploads", ""}, {"prefix", key}, {"encoding-type", "url"}},
                      .max_body_bytes = kMaxListBytes};
    if (!key_marker.empty()) {
      request.query.emplace_back("key-marker", key_marker);
      request.query.emplace_back("upload-id-marker", id_marker);
    }
    S3Exchange exchange(connection_, std::move(request), {501});
    connection_.run(exchange, scope);
    if (exchange.reply().status == 501) {
      return;  // a store that cannot list them; its lifecycle rules have to
    }
    const std::optional<UploadPage> page = parse_upload_page(exchange.reply().body, key);
    if (!page) {
      throw_unexpected(connection_, "ListMultipartUploads", exchange.reply().body);
    }
    for (const PendingUpload& upload : page->uploads) {
      if (upload.key == key) {  // the prefix also finds longer keys
        upload_ids.push_back(upload.upload_id);
      }
    }
    if (page->next_key_marker.empty()) {
      break;
    }
    key_marker = page->next_key_marker;
    id_marker = page->next_upload_id_marker;
  }
  for (const std::string& upload_id : upload_ids) {
    abort_upload(connection_, key, upload_id);
  }
}

}  // namespace onnxferry
