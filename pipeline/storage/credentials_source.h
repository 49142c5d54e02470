#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/storage/credentials.h"
#include "pipeline/storage/proxy.h"

namespace onnxferry {

/// One place that credentials come from. Thread: any.
class CredentialsSource {
 public:
  virtual ~CredentialsSource() = default;
  virtual Credentials get() = 0;
  /// `refused` does not work any more: get others, unless get() gives others already.
  virtual void renew(const Credentials& refused) = 0;
  /// Whether only another look at the environment and the files can give others.
  [[nodiscard]] virtual bool is_fixed() const { return false; }
};

/// Keys that stand in the environment or in a file.
class FixedCredentials : public CredentialsSource {
 public:
  explicit FixedCredentials(Credentials credentials) : credentials_(std::move(credentials)) {}
  Credentials get() override { return credentials_; }
  void renew(const Credentials& /*refused*/) override {}
  [[nodiscard]] bool is_fixed() const override { return true; }

 private:
  Credentials credentials_;
};

/// Credentials that a function fetches, kept until shortly before they expire.
class CachedCredentials : public CredentialsSource {
 public:
  /// \param fetch  throws Error; called by one thread at a time, without a lock held
  CachedCredentials(std::function<Credentials()> fetch, std::function<SystemTime()> now)
      : fetch_(std::move(fetch)), now_(std::move(now)) {}
  Credentials get() override;
  void renew(const Credentials& refused) override;

 private:
  [[nodiscard]] bool is_usable(SystemTime now) const;
  void fetch_or_wait(std::unique_lock<std::mutex>& lock);
  void take(const Credentials& fetched);

  std::function<Credentials()> fetch_;
  std::function<SystemTime()> now_;
  std::mutex mutex_;
  std::condition_variable fetched_;
  std::shared_ptr<const Credentials> current_;  ///< null: none so far
  SystemTime renew_at_;
  bool is_fetching_ = false;
  std::exception_ptr failure_;  ///< of the last fetch
};

using FetchCredentials = std::function<Credentials()>;

/// The environment's value, unless it is empty.
std::optional<std::string> find_nonempty(const EnvironmentLookup& environment,
                                         std::string_view name);

/// A credentials document: {"AccessKeyId", "SecretAccessKey", `token_name`, "Expiration"}.
/// \param what  names the source in messages, which never quote the document
/// \throws Error{kUnavailable}
Credentials parse_credentials_json(std::string_view text,
                                   std::string_view token_name,
                                   std::string_view what);

/// 2026-11-21T18:19:31Z, with an optional fraction, Z or +hh:mm. nullopt for anything else.
std::optional<SystemTime> parse_timestamp(std::string_view text);

/// A small text file, e.g. a token.
/// \throws Error{kPermissionDenied} when it is missing, empty or not small
std::string read_token_file(const std::string& path, std::string_view what);

/// A role to take on at the security token service.
struct RoleRequest {
  std::string role_arn;
  std::string session_name;
  std::string external_id;       ///< only with source credentials; may be empty
  std::string duration_seconds;  ///< empty: the service's default
};

/// Where the security token service is.
struct StsEndpoint {
  std::string url;  ///< without a path
  std::string region;
  std::string ca_bundle;
  ProxySettings proxies;
};

/// AWS_ENDPOINT_URL_STS, then AWS_ENDPOINT_URL, then AWS's own for the region.
StsEndpoint find_sts(const EnvironmentLookup& environment, std::string_view profile_region);

/// sts:AssumeRoleWithWebIdentity; the token file is read anew each time, since it is rotated.
FetchCredentials web_identity_fetcher(const RoleRequest& role,
                                      const std::string& token_file,
                                      const StsEndpoint& sts,
                                      const CredentialsTuning& tuning);

/// sts:AssumeRole, signed with the credentials of `base`.
FetchCredentials assume_role_fetcher(const RoleRequest& role,
                                     const std::shared_ptr<CredentialsSource>& base,
                                     const StsEndpoint& sts,
                                     const CredentialsTuning& tuning);

/// Whether AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI is set.
bool has_container_endpoint(const EnvironmentLookup& environment);
/// The endpoint that ECS and EKS Pod Identity give a container.
/// \throws Error{kPermissionDenied} for a host that must not see the authorization token
FetchCredentials container_fetcher(const EnvironmentLookup& environment,
                                   const CredentialsTuning& tuning);

/// Whether AWS_EC2_METADATA_DISABLED says "true".
bool is_metadata_disabled(const EnvironmentLookup& environment);
/// The instance metadata service, version 2 only. The fetcher throws NoMetadataService when nobody
/// answers and its endpoint was not configured: then this is no instance.
FetchCredentials metadata_fetcher(const EnvironmentLookup& environment,
                                  const CredentialsTuning& tuning);
struct NoMetadataService : std::exception {
  explicit NoMetadataService(std::string text) : reason(std::move(text)) {}
  std::string reason;
};

/// A program that prints a credentials document; run without a shell.
FetchCredentials process_fetcher(const std::string& command, std::chrono::milliseconds timeout);
/// Split as a shell would: blanks, '...', "...", backslashes; nothing is expanded.
/// nullopt: a quote is not closed
std::optional<std::vector<std::string>> split_command(std::string_view command);

}  // namespace onnxferry
