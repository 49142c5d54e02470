#pragma once

#include <map>
#include <string>
#include <vector>

#include "pipeline/storage/connection.h"
#include "pipeline/storage/object_store.h"

namespace onnxferry {

/// The way to the objects below one https:// origin. Nothing is signed and no credential is ever
/// sent; redirects are followed as far as the operator's rules allow each host on the way.
/// Thread: one.
class WebConnection : public Connection {
 public:
  WebConnection(const StoreConfig& config, const ProxySettings& proxies, std::string origin);

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
  [[nodiscard]] bool takes_whole_objects() const override { return true; }

 private:
  [[nodiscard]] ObjectUri target_of(const std::string& key) const;

  std::string origin_;
  std::map<std::string, ObjectUri, std::less<>> redirected_;  // by key
  std::string last_origin_;                                   // of the last request, for messages
  std::string refusal_;  // why the last redirect was not followed
};

/// ObjectStore on one https:// origin, for reading only; keys are "/path?query".
/// An object is identified by its ETag, else by its Last-Modified; where the server tells neither,
/// every process takes it for another one, so that nothing stale is ever answered.
/// Thread: one.
class WebStore : public ObjectStore {
 public:
  WebStore(const StoreConfig& config, const ProxySettings& proxies, std::string origin);

  std::optional<ObjectInfo> head(const std::string& key, StageScope& scope) override;
  ObjectInfo download(const std::string& key,
                      const std::filesystem::path& to,
                      StageScope& scope) override;
  std::optional<std::string> get(const std::string& key,
                                 std::uint64_t max_bytes,
                                 StageScope& scope) override;
  /// \throws Error{kInvalidRequest}, and so do all that would change something
  void put_file(const std::string& key,
                const std::filesystem::path& from,
                std::string_view content_type,
                StageScope& scope) override;
  PutResult put(const std::string& key,
                std::string_view bytes,
                std::string_view content_type,
                PutCondition condition,
                StageScope& scope) override;
  void remove(const std::string& key, StageScope& scope) override;
  std::vector<std::string> list(const std::string& prefix, StageScope& scope) override;
  void abort_stale_uploads(const std::string& key, StageScope& scope) override;

 private:
  [[nodiscard]] ObjectInfo identified(ObjectInfo info) const;
  [[noreturn]] void refuse(const std::string& key, std::string_view what) const;

  WebConnection connection_;
  std::string fallback_identity_;
};

}  // namespace onnxferry
