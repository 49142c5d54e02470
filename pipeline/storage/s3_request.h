#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "pipeline/storage/connection.h"
#include "pipeline/storage/credentials.h"
#include "pipeline/storage/s3_address.h"
#include "pipeline/storage/sigv4.h"

namespace onnxferry {

/// One bucket of one server: addressing, signing, what was learnt of clock and region.
/// Thread: one.
class S3Connection : public Connection {
 public:
  S3Connection(const StoreConfig& config,
               const ProxySettings& proxies,
               std::shared_ptr<CredentialsProvider> credentials,
               std::string bucket);

  [[nodiscard]] HttpRequest make(const S3Request& request, bool expect_continue) override;
  bool repair(FailureKind kind,
              const HttpReply& reply,
              const S3Request& request,
              const std::string& sent) override;
  [[nodiscard]] std::optional<FailureKind> decide(const HttpReply& reply,
                                                  const S3Request& request,
                                                  const std::string& sent) const override;
  [[nodiscard]] ErrorCode error_code(const HttpReply& reply,
                                     const S3ErrorInfo& error,
                                     Access access) const override;
  [[nodiscard]] std::string hint(const HttpReply& reply, const S3ErrorInfo& error) const override;
  [[nodiscard]] std::string uri(std::string_view key) const override;
  [[nodiscard]] std::string endpoint() const override;
  [[nodiscard]] std::string identity(const HttpHeaders& headers) const override;
  [[nodiscard]] std::optional<NameValue> pin(const std::string& identity) const override;
  [[nodiscard]] bool takes_whole_objects() const override { return false; }

  /// Whether the signature needs the SHA-256 of what is uploaded. Not over TLS, and not where it
  /// covers Content-MD5: other bytes of the same MD5 as given ones cannot be made.
  [[nodiscard]] bool signs_payload() const {
    return address_.scheme() == "http" && checksum() != UploadChecksum::kMd5;
  }
  /// What is sent with every upload; never kAuto.
  [[nodiscard]] UploadChecksum checksum() const;
  [[nodiscard]] const std::string& bucket() const { return address_.bucket(); }
  [[nodiscard]] const std::string& region() const { return address_.region(); }

 private:
  bool repair_region(const HttpReply& reply);
  std::string ask_region();

  std::shared_ptr<CredentialsProvider> credentials_;
  S3Address address_;
  std::chrono::seconds clock_offset_{0};
  SigV4Signer signer_{"s3", PathRule::kS3};
};

}  // namespace onnxferry
