#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "pipeline/storage/crc.h"
#include "pipeline/storage/digest.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/file_handle.h"
#include "pipeline/storage/s3_transfer.h"

namespace onnxferry {
namespace {

constexpr std::size_t kReadBytes = 1U << 20U;
constexpr std::chrono::minutes kCompletePatience{10};  // S3 may assemble large objects for minutes
constexpr std::chrono::seconds kAbortPatience{10};

Crc::Kind crc_kind(UploadChecksum checksum) {
  return checksum == UploadChecksum::kCrc32c ? Crc::Kind::kCrc32c : Crc::Kind::kCrc64Nvme;
}

/// Where Complete repeats a part's checksum; empty: it does not.
std::string_view checksum_element(UploadChecksum kind) {
  return kind == UploadChecksum::kCrc32c      ? "ChecksumCRC32C"
         : kind == UploadChecksum::kCrc64Nvme ? "ChecksumCRC64NVME"
                                              : "";
}

struct PartPlan {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

struct PartDigests {
  std::string sha256_hex;  // empty: not needed
  std::optional<Md5> md5;
  std::string checksum;  // of checksum_header(); empty: none
};

/// One file on its way up: what is sent and what came back.
struct Upload {
  std::string key;
  int descriptor = -1;
  std::vector<PartPlan> parts;
  std::vector<PartDigests> digests;
  std::vector<std::string> etags;
  std::string upload_id;     // empty: a single PUT
  std::string content_type;  // of the single PUT
};

std::vector<PartPlan> plan_parts(std::uint64_t file_bytes, std::uint64_t part_bytes) {
  std::vector<PartPlan> parts;
  std::uint64_t offset = 0;
  do {  // an empty file is one empty part
    parts.push_back({.offset = offset, .bytes = std::min(part_bytes, file_bytes - offset)});
    offset += parts.back().bytes;
  } while (offset < file_bytes);
  return parts;
}

/// Computes the digests of all parts in order, ahead of the transfers, on a thread of its own.
class DigestThread {
 public:
  DigestThread(S3Connection& connection, Upload& upload)
      : connection_(connection),
        upload_(upload),
        needs_sha256_(connection.signs_payload()),
        checksum_(connection.checksum()),
        thread_([this](const std::stop_token& stop) { work(stop); }) {}

  /// Whether part `index` can be sent. \throws what the thread failed with
  bool is_ready(std::size_t index) {
    if (is_failed_) {
      std::rethrow_exception(failure_);
    }
    return index < ready_;
  }

 private:
  void work(const std::stop_token& stop) noexcept {
    try {
      std::vector<char> buffer(kReadBytes);
      for (std::size_t i = 0; i < upload_.parts.size() && !stop.stop_requested(); ++i) {
        upload_.digests[i] = digest(upload_.parts[i], buffer, stop);
        ready_ = i + 1;
        connection_.wakeup();
      }
    } catch (...) {
      failure_ = std::current_exception();
      is_failed_ = true;
      connection_.wakeup();
    }
  }

  [[nodiscard]] PartDigests digest(const PartPlan& part,
                                   std::vector<char>& buffer,
                                   const std::stop_token& stop) const {
    PartDigests digests;
    const bool needs_md5 = checksum_ == UploadChecksum::kMd5;
    const bool needs_crc = !needs_md5 && checksum_ != UploadChecksum::kNone;
    if (!needs_sha256_ && !needs_md5 && !needs_crc) {
      return digests;
    }
    DigestStream sha256(DigestStream::Kind::kSha256);
    DigestStream md5(DigestStream::Kind::kMd5);
    Crc crc(crc_kind(checksum_));
    FileBody body(upload_.descriptor, part.offset, part.bytes);
    std::uint64_t done = 0;
    while (done < part.bytes && !stop.stop_requested()) {
      const std::ptrdiff_t got = body.read(done, buffer.data(), buffer.size());
      if (got <= 0) {
        throw Error(ErrorCode::kInternal,
                    fmt::format("the file for {} became shorter while it was uploaded",
                                connection_.uri(upload_.key)));
      }
      const std::string_view bytes(buffer.data(), static_cast<std::size_t>(got));
      if (needs_sha256_) {
        sha256.update(bytes);
      }
      if (needs_md5) {
        md5.update(bytes);
      }
      if (needs_crc) {
        crc.update(bytes);
      }
      done += bytes.size();
    }
    if (needs_sha256_) {
      digests.sha256_hex = to_hex(sha256.finish_sha256());
    }
    if (needs_md5) {
      digests.md5 = md5.finish_md5();
      digests.checksum = to_base64(*digests.md5);
    }
    if (needs_crc) {
      digests.checksum = crc.base64();
    }
    return digests;
  }

  S3Connection& connection_;
  Upload& upload_;
  bool needs_sha256_;
  UploadChecksum checksum_;
  std::exception_ptr failure_;
  std::atomic<std::size_t> ready_ = 0;
  std::atomic<bool> is_failed_ = false;
  std::jthread thread_;  // last: it uses all of the above
};

/// One part, or the whole of a small file.
class PartExchange : public S3Exchange {
 public:
  PartExchange(S3Connection& connection, Upload& upload, std::size_t index)
      : S3Exchange(connection, {.method = "PUT", .key = upload.key, .access = Access::kWrite}),
        upload_(upload),
        index_(index),
        body_(upload.descriptor, upload.parts[index].offset, upload.parts[index].bytes) {
    const PartDigests& digests = upload.digests[index];
    request().body = &body_;
    request().payload_sha256 = digests.sha256_hex;
    if (!digests.checksum.empty()) {
      request().headers.emplace_back(checksum_header(connection.checksum()), digests.checksum);
    }
    if (upload.upload_id.empty()) {
      request().headers.emplace_back("Content-Type", upload.content_type);
    } else {
      request().query = {{"partNumber", std::to_string(index + 1)}, {"uploadId", upload.upload_id}};
    }
  }

  Verdict judge(HttpReply& reply) override {
    if (!reply.is_success()) {
      return S3Exchange::judge(reply);
    }
    const std::string etag = unquote_etag(reply.headers.find("etag"));
    const std::optional<Md5>& md5 = upload_.digests[index_].md5;
    if (md5 && is_md5_etag(etag, reply.headers) && etag != to_hex(*md5)) {
      set_error({.code = "BadDigest",
                 .message = fmt::format("the store has MD5 {}, sent was {}", etag, to_hex(*md5)),
                 .request_id = {},
                 .region = {},
                 .endpoint = {}});
      return Verdict::kFailed;
    }
    upload_.etags[index_] = etag;
    done_bytes_ = upload_.parts[index_].bytes;
    return accept(reply);
  }

  [[nodiscard]] std::uint64_t done_bytes() const override { return done_bytes_; }

 private:
  Upload& upload_;
  std::size_t index_;
  FileBody body_;
  std::uint64_t done_bytes_ = 0;
};

class PartSource : public ExchangeSource {
 public:
  PartSource(S3Connection& connection, Upload& upload, DigestThread& digests)
      : connection_(connection), upload_(upload), digests_(digests) {}

  std::unique_ptr<Exchange> next() override {
    if (is_exhausted() || !digests_.is_ready(next_)) {
      return nullptr;
    }
    return std::make_unique<PartExchange>(connection_, upload_, next_++);
  }
  [[nodiscard]] bool is_exhausted() const override { return next_ == upload_.parts.size(); }

 private:
  S3Connection& connection_;
  Upload& upload_;
  DigestThread& digests_;
  std::size_t next_ = 0;
};

void send_parts(S3Connection& connection, Upload& upload, StageScope& scope) {
  DigestThread digests(connection, upload);
  PartSource source(connection, upload, digests);
  connection.run_all(source, scope);
}

std::string create_upload(S3Connection& connection, const Upload& upload, StageScope& scope) {
  TextBody no_body("");
  S3Request request{.method = "POST",
                    .key = upload.key,
                    .access = Access::kWrite,
                    .query = {{"uploads", ""}},
                    .headers = {{"Content-Type", upload.content_type}},
                    .body = &no_body,
                    .payload_sha256 = std::string(kEmptySha256)};
  if (connection.checksum() == UploadChecksum::kCrc32c) {
    request.headers.emplace_back("x-amz-checksum-algorithm", "CRC32C");
  } else if (connection.checksum() == UploadChecksum::kCrc64Nvme) {
    request.headers.emplace_back("x-amz-checksum-algorithm", "CRC64NVME");
    request.headers.emplace_back("x-amz-checksum-type", "FULL_OBJECT");  // there is no other
  }
  S3Exchange exchange(connection, std::move(request));
  connection.run(exchange, scope);
  std::optional<std::string> id = parse_upload_id(exchange.reply().body);
  if (!id) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{}: CreateMultipartUpload was answered with <{}>, expected "
                            "<InitiateMultipartUploadResult> with an UploadId",
                            connection.uri(upload.key),
                            xml_root_name(exchange.reply().body)),
                connection.uri(upload.key));
  }
  return *id;
}

/// CompleteMultipartUpload: its errors come inside 200 replies too, so only the expected root
/// element is a success.
class CompleteExchange : public S3Exchange {
 public:
  using S3Exchange::S3Exchange;

  Verdict judge(HttpReply& reply) override {
    if (!reply.is_success()) {
      const Verdict verdict = S3Exchange::judge(reply);
      if (reply.transport == 0 && error().code == "NoSuchUpload") {
        is_unknown_ = true;  // an earlier attempt may have done it; the caller looks
        return accept(reply);
      }
      return verdict;
    }
    const std::string root = xml_root_name(reply.body);
    if (root == "CompleteMultipartUploadResult") {
      return accept(reply);
    }
    S3ErrorInfo error = parse_s3_error(reply.body);
    if (error.code.empty()) {
      error = {.code = "InternalError",
               .message = fmt::format("<{}> instead of <CompleteMultipartUploadResult>", root),
               .request_id = {},
               .region = {},
               .endpoint = {}};
    }
    set_error(std::move(error));
    return Verdict::kFailed;
  }

  [[nodiscard]] bool is_unknown() const { return is_unknown_; }

 private:
  bool is_unknown_ = false;
};

/// The ETag that S3 gives to the assembled object, where it can be known: md5 of the part md5s.
std::optional<std::string> expected_etag(const Upload& upload) {
  std::string all;
  for (const std::string& etag : upload.etags) {
    std::string escaped;
    for (std::size_t i = 0; i + 1 < etag.size(); i += 2) {
      escaped.append("%").append(etag, i, 2);
    }
    const std::optional<std::string> bytes = uri_decode(escaped);
    if (etag.size() != 2 * sizeof(Md5) || !bytes) {
      return std::nullopt;
    }
    all += *bytes;
  }
  return fmt::format("{}-{}", to_hex(md5(all)), upload.parts.size());
}

/// Whether the object at the key is what our parts make: decides a Complete whose reply was lost.
bool is_assembled(S3Connection& connection, const Upload& upload, StageScope& scope) {
  S3Exchange head(
      connection, {.method = "HEAD", .key = upload.key, .access = Access::kWrite}, {404});
  connection.run(head, scope);
  const HttpReply& reply = head.reply();
  const std::uint64_t bytes = upload.parts.back().offset + upload.parts.back().bytes;
  if (reply.status == 404 || reply.headers.find("content-length") != std::to_string(bytes)) {
    return false;
  }
  const std::string etag = unquote_etag(reply.headers.find("etag"));
  const std::optional<std::string> expected = expected_etag(upload);
  const bool is_comparable =
      expected && etag.ends_with(fmt::format("-{}", upload.parts.size())) &&
      !reply.headers.find("x-amz-server-side-encryption").starts_with("aws:kms");
  return !is_comparable || etag == *expected;
}

void complete_upload(S3Connection& connection, const Upload& upload, StageScope& scope) {
  std::vector<CompletedPart> parts;
  parts.reserve(upload.parts.size());
  for (std::size_t i = 0; i < upload.parts.size(); ++i) {
    parts.push_back({.etag = upload.etags[i], .checksum = upload.digests[i].checksum});
  }
  const std::string text = complete_upload_body(parts, checksum_element(connection.checksum()));
  TextBody body(text);
  CompleteExchange exchange(connection,
                            {.method = "POST",
                             .key = upload.key,
                             .access = Access::kWrite,
                             .query = {{"uploadId", upload.upload_id}},
                             .headers = {{"Content-Type", "application/xml"}},
                             .body = &body,
                             .payload_sha256 = to_hex(sha256(text)),
                             .patience = kCompletePatience});
  connection.run(exchange, scope);
  if (exchange.is_unknown() && !is_assembled(connection, upload, scope)) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("{}: the store no longer knows the multipart upload and has no such "
                            "object; someone aborted it",
                            connection.uri(upload.key)),
                connection.uri(upload.key));
  }
}

}  // namespace

std::string_view checksum_header(UploadChecksum kind) {
  switch (kind) {
    case UploadChecksum::kMd5:
      return "Content-MD5";
    case UploadChecksum::kCrc32c:
      return "x-amz-checksum-crc32c";
    case UploadChecksum::kCrc64Nvme:
      return "x-amz-checksum-crc64nvme";
    case UploadChecksum::kAuto:
    case UploadChecksum::kNone:
      break;
  }
  return "";
}

std::string checksum_value(UploadChecksum kind, std::string_view bytes) {
  if (kind == UploadChecksum::kMd5) {
    return to_base64(md5(bytes));
  }
  Crc crc(crc_kind(kind));
  crc.update(bytes);
  return crc.base64();
}

void abort_upload(S3Connection& connection,
                  const std::string& key,
                  const std::string& upload_id) noexcept {
  try {
    S3Exchange exchange(connection,
                        {.method = "DELETE",
                         .key = key,
                         .access = Access::kWrite,
                         .query = {{"uploadId", upload_id}},
                         .patience = kAbortPatience},
                        {404});
    connection.run_cleanup(exchange);
  } catch (...) {  // NOLINT(bugprone-empty-catch): see the header
  }
}

void upload_file(S3Connection& connection,
                 const std::string& key,
                 const std::filesystem::path& from,
                 std::string_view content_type,
                 StageScope& scope) {
  const FileHandle file = open_to_read(from, ErrorCode::kInternal);
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) {
    throw file_error(errno, "stat", from, ErrorCode::kInternal);
  }
  const auto bytes = static_cast<std::uint64_t>(status.st_size);
  Upload upload{.key = key,
                .descriptor = file.get(),
                .parts = plan_parts(bytes, part_size_for(bytes, connection.config().part_bytes)),
                .digests = {},
                .etags = {},
                .upload_id = {},
                .content_type = std::string(content_type)};
  upload.digests.resize(upload.parts.size());
  upload.etags.resize(upload.parts.size());
  if (upload.parts.size() == 1) {
    send_parts(connection, upload, scope);
    return;
  }
  upload.upload_id = create_upload(connection, upload, scope);
  try {
    send_parts(connection, upload, scope);
    complete_upload(connection, upload, scope);
  } catch (...) {
    // Twice: a part that was under way when its connection was closed can land after the first.
    abort_upload(connection, key, upload.upload_id);
    abort_upload(connection, key, upload.upload_id);
    throw;
  }
}

}  // namespace onnxferry
