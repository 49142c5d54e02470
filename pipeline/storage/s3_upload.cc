#include <algorithm>
#include <deque>

#include <fmt/format.h>
#include <sys/stat.h>

#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/part_digests.h"
#include "pipeline/storage/s3_multipart.h"
#include "pipeline/storage/s3_transfer.h"

namespace onnxferry {
namespace {

// Small files that are open at a time.
constexpr std::size_t kBatchFiles = 64;

void plan_parts(Upload& upload, std::uint64_t file_bytes, std::uint64_t part_bytes) {
  std::uint64_t offset = 0;
  do {
    upload.parts.push_back({.upload = upload,
                            .number = static_cast<int>(upload.parts.size()) + 1,
                            .offset = offset,
                            .bytes = std::min(part_bytes, file_bytes - offset),
                            .digests = {},
                            .etag = {}});
    offset += upload.parts.back().bytes;
  } while (offset < file_bytes);
}

class PartExchange : public S3Exchange {
 public:
  PartExchange(S3Connection& connection, UploadPart& part)
      : S3Exchange(connection, {.method = "PUT", .key = part.upload.key, .access = Access::kWrite}),
        part_(part),
        body_(part.upload.file.get(), part.offset, part.bytes) {
    request().body = &body_;
    request().payload_sha256 = part.digests.sha256_hex;
    if (!part.digests.checksum.empty()) {
      request().headers.emplace_back(checksum_header(connection.checksum()), part.digests.checksum);
    }
    if (part.upload.id.empty()) {
      request().headers.emplace_back("Content-Type", part.upload.content_type);
    } else {
      request().query = {{"partNumber", std::to_string(part.number)}, {"uploadId", part.upload.id}};
    }
  }

  Verdict judge(HttpReply& reply) override {
    if (!reply.is_success()) {
      return S3Exchange::judge(reply);
    }
    const std::string etag = unquote_etag(reply.headers.find("etag"));
    const std::optional<Md5>& md5 = part_.digests.md5;
    if (md5 && is_md5_etag(etag, reply.headers) && etag != to_hex(*md5)) {
      set_error({.code = "BadDigest",
                 .message = fmt::format("the store has MD5 {}, sent was {}", etag, to_hex(*md5)),
                 .request_id = {},
                 .region = {},
                 .endpoint = {}});
      return Verdict::kFailed;
    }
    part_.etag = etag;
    done_bytes_ = part_.bytes;
    return accept(reply);
  }

  [[nodiscard]] std::uint64_t done_bytes() const override { return done_bytes_; }

 private:
  UploadPart& part_;
  FileBody body_;
  std::uint64_t done_bytes_ = 0;
};

class PartSource : public ExchangeSource {
 public:
  PartSource(S3Connection& connection, DigestThread& digests)
      : connection_(connection), digests_(digests) {}

  std::unique_ptr<Exchange> next() override {
    if (digests_.is_exhausted()) {
      return nullptr;
    }
    UploadPart* const part = digests_.next();
    return part == nullptr ? nullptr : std::make_unique<PartExchange>(connection_, *part);
  }
  [[nodiscard]] bool is_exhausted() const override { return digests_.is_exhausted(); }

 private:
  S3Connection& connection_;
  DigestThread& digests_;
};

void send_parts(S3Connection& connection, DigestThread& digests, StageScope& scope) {
  PartSource source(connection, digests);
  connection.run_all(source, scope);
}

void upload_in_parts(S3Connection& connection, Upload& upload, StageScope& scope) {
  std::vector<UploadPart*> parts;
  parts.reserve(upload.parts.size());
  for (UploadPart& part : upload.parts) {
    parts.push_back(&part);
  }
  DigestThread digests(connection, std::move(parts));  // begins while the upload is created
  upload.id = create_upload(connection, upload, scope);
  try {
    send_parts(connection, digests, scope);
    complete_upload(connection, upload, scope);
  } catch (...) {
    // Twice: a part that was under way when its connection was closed can land after the first.
    abort_upload(connection, upload.key, upload.id);
    abort_upload(connection, upload.key, upload.id);
    throw;
  }
}

void upload_whole(S3Connection& connection, std::deque<Upload>& uploads, StageScope& scope) {
  std::vector<UploadPart*> parts;
  parts.reserve(uploads.size());
  for (Upload& upload : uploads) {
    parts.push_back(&upload.parts.front());
  }
  DigestThread digests(connection, std::move(parts));
  send_parts(connection, digests, scope);
  uploads.clear();
}

}  // namespace

void upload_files(S3Connection& connection, std::span<const FileUpload> files, StageScope& scope) {
  std::deque<Upload> small;
  for (const FileUpload& file : files) {
    Upload& upload = small.emplace_back(
        file.key, file.content_type, open_to_read(file.from, ErrorCode::kInternal));
    struct stat status{};
    if (::fstat(upload.file.get(), &status) != 0) {
      throw file_error(errno, "stat", file.from, ErrorCode::kInternal);
    }
    const auto bytes = static_cast<std::uint64_t>(status.st_size);
    plan_parts(upload, bytes, part_size_for(bytes, connection.config().part_bytes));
    if (upload.parts.size() > 1) {
      upload_in_parts(connection, upload, scope);
      small.pop_back();
    } else if (small.size() == kBatchFiles) {
      upload_whole(connection, small, scope);
    }
  }
  if (!small.empty()) {
    upload_whole(connection, small, scope);
  }
}

}  // namespace onnxferry
