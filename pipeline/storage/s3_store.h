#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pipeline/storage/object_store.h"
#include "pipeline/storage/s3_request.h"

namespace onnxferry {

/// ObjectStore on one bucket of an S3 server. See object_store.h for what each call promises.
/// Thread: one.
class S3Store : public ObjectStore {
 public:
  S3Store(const StoreConfig& config,
          const ProxySettings& proxies,
          std::shared_ptr<CredentialsProvider> credentials,
          std::string bucket)
      : connection_(config, proxies, std::move(credentials), std::move(bucket)) {}

  std::optional<ObjectInfo> head(const std::string& key, StageScope& scope) override;
  ObjectInfo download(const std::string& key,
                      const std::filesystem::path& to,
                      StageScope& scope) override;
  std::optional<std::string> get(const std::string& key,
                                 std::uint64_t max_bytes,
                                 StageScope& scope) override;
  void put_file(const std::string& key,
                const std::filesystem::path& from,
                std::string_view content_type,
                StageScope& scope) override;
  void put_files(std::span<const FileUpload> files, StageScope& scope) override;
  PutResult put(const std::string& key,
                std::string_view bytes,
                std::string_view content_type,
                PutCondition condition,
                StageScope& scope) override;
  void remove(const std::string& key, StageScope& scope) override;
  std::vector<std::string> list(const std::string& prefix, StageScope& scope) override;
  void abort_stale_uploads(const std::string& key, StageScope& scope) override;

 private:
  [[nodiscard]] S3Request put_request(const std::string& key,
                                      std::string_view bytes,
                                      std::string_view content_type,
                                      HttpBody& body) const;
  PutResult put_if_absent(S3Request request, std::string_view bytes, StageScope& scope);
  PutResult put_without_condition(const S3Request& request,
                                  std::string_view bytes,
                                  StageScope& scope);
  void note_lack_of_conditions() const;
  /// What the object holds now: nullopt when absent, else whether it equals `bytes`.
  std::optional<bool> compare(const std::string& key, std::string_view bytes, StageScope& scope);
  std::optional<ObjectInfo> info_by_get(const std::string& key, StageScope& scope);
  void require_bucket(Access access, StageScope& scope);

  S3Connection connection_;
  bool has_seen_bucket_ = false;
  bool lacks_conditions_ = false;  // answered 501 to If-None-Match
};

}  // namespace onnxferry
