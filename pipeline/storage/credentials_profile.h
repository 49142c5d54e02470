#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "pipeline/storage/credentials.h"

namespace onnxferry {

/// The settings of one profile, names in lower case.
using ProfileSettings = std::map<std::string, std::string, std::less<>>;
using Profiles = std::map<std::string, ProfileSettings, std::less<>>;

/// Read a shared file's text: "[name]" in the credentials file, "[profile name]" in the config
/// file, "[default]" in both. Other kinds of sections ("[sso-session x]", "[services x]") become
/// profiles of that whole name.
Profiles read_profiles(std::string_view text);

/// AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE (defaults ~/.aws/credentials, ~/.aws/config),
/// read again when they change. Thread: one at a time.
class ProfileFiles {
 public:
  explicit ProfileFiles(const EnvironmentLookup& environment);

  /// \return whether their contents have changed since the last call
  /// \throws Error{kPermissionDenied} for a file that is there but cannot be read
  bool read_changes();
  /// As read_changes, but without trusting the time stamps.
  bool read_all();

  /// Of both files together; where both have a setting, the credentials file's counts.
  [[nodiscard]] ProfileSettings settings(std::string_view profile) const;
  /// Keys that stand in one of the files as they are.
  /// \throws Error{kPermissionDenied} when only half of them does
  [[nodiscard]] std::optional<Credentials> keys(std::string_view profile) const;
  /// "FILE and FILE", for messages.
  [[nodiscard]] std::string names() const;

 private:
  struct WatchedFile {
    std::filesystem::path path;
    std::optional<std::filesystem::file_time_type> modified;
    Profiles profiles;
  };
  static bool read_if_changed(WatchedFile& file);

  WatchedFile credentials_;
  WatchedFile config_;
};

}  // namespace onnxferry
