#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace onnxferry {

/// The environment as the caller sees it: pipeline/ never reads the process's own.
using EnvironmentLookup = std::function<std::optional<std::string>(std::string_view name)>;

struct Credentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token;  ///< empty for long-lived keys

  bool operator==(const Credentials&) const = default;
};

/// The settings of one profile, merged from the two shared files.
using ProfileSettings = std::map<std::string, std::string, std::less<>>;

/// Read profile `name` out of a shared file's text ("[name]" in the credentials file,
/// "[profile name]" in the config file; "[default]" in both). Absent profile: no settings.
ProfileSettings read_profile(std::string_view text, std::string_view name);

/// Finds credentials where S3 tools look: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with
/// AWS_SESSION_TOKEN), then MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, then the profile AWS_PROFILE
/// of AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE (defaults ~/.aws/credentials, ~/.aws/config).
/// An explicit AWS_PROFILE comes before MINIO_ROOT_*. The files are read again when they change.
/// Thread: any.
class CredentialsProvider {
 public:
  explicit CredentialsProvider(EnvironmentLookup environment);

  /// \throws Error{kPermissionDenied} naming everything that was looked for
  Credentials get();
  /// Look again now (the store called the present ones expired). \return whether they changed
  bool refresh();
  /// A setting of the profile, e.g. "region" or "endpoint_url".
  std::optional<std::string> profile_setting(std::string_view name);

 private:
  struct WatchedFile {
    std::filesystem::path path;
    std::optional<std::filesystem::file_time_type> modified;
    ProfileSettings settings;
  };

  void read_changed_files();
  static bool read_if_changed(WatchedFile& file, std::string_view profile);
  [[nodiscard]] std::optional<Credentials> from_environment(std::string_view key_name,
                                                            std::string_view secret_name) const;
  [[nodiscard]] std::optional<Credentials> from_profile() const;
  [[nodiscard]] std::string what_was_looked_for() const;
  Credentials find();

  EnvironmentLookup environment_;
  std::string profile_;
  std::mutex mutex_;
  WatchedFile credentials_file_;
  WatchedFile config_file_;
  std::optional<Credentials> last_;
};

}  // namespace onnxferry
