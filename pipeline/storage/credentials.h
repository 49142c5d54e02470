#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace onnxferry {

/// The environment as the caller sees it: pipeline/ never reads the process's own.
using EnvironmentLookup = std::function<std::optional<std::string>(std::string_view name)>;
using SystemTime = std::chrono::system_clock::time_point;

struct Credentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token;  ///< empty for long-lived keys
  std::optional<SystemTime> expires = std::nullopt;

  bool operator==(const Credentials&) const = default;
};

/// What tests change; the defaults are right for everyone else.
struct CredentialsTuning {
  std::function<SystemTime()> now = std::chrono::system_clock::now;
  std::chrono::milliseconds connect_timeout{2'000};
  std::chrono::seconds request_timeout{5};
  std::chrono::milliseconds process_timeout{60'000};
  /// Where AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is looked up.
  std::string container_endpoint = "http://169.254.170.2";
};

/// Finds credentials where S3 tools look, in this order: AWS_ACCESS_KEY_ID and
/// AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN); an explicit AWS_PROFILE; MINIO_ROOT_USER and
/// MINIO_ROOT_PASSWORD; the profile "default"; AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN; the
/// container's endpoint or else the instance's (IMDSv2). A profile gives keys itself, or names a
/// role (role_arn) or a program (credential_process) that does.
///
/// A source that is set up but fails is an error: the next one is not tried in its place.
/// Temporary credentials are renewed 5 minutes before they expire, by one thread while the others
/// go on with the old ones, which stay in use until they expire if the renewal fails. The profile
/// files are read again when they change. get() and refresh() may wait for a few requests, each of
/// bounded time.
/// Thread: any.
class CredentialsProvider {
 public:
  explicit CredentialsProvider(EnvironmentLookup environment, CredentialsTuning tuning = {});
  CredentialsProvider(const CredentialsProvider&) = delete;
  CredentialsProvider& operator=(const CredentialsProvider&) = delete;
  ~CredentialsProvider();

  /// What to sign the next request with; ask again for every request.
  /// \throws Error{kPermissionDenied} naming everything that was looked for, or the refusal;
  ///         Error{kUnavailable} when a source does not answer
  Credentials get();
  /// The store called `refused` expired or invalid: look again now, unless that has already
  /// happened since. \return whether there are others now
  bool refresh(const Credentials& refused);
  /// A setting of the profile, e.g. "region" or "endpoint_url".
  std::optional<std::string> profile_setting(std::string_view name);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace onnxferry
