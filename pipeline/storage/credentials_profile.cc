#include "pipeline/storage/credentials_profile.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/credentials_source.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

/// The profile a section line begins, or nullopt for other lines.
std::optional<std::string_view> section_name(std::string_view line) {
  if (!line.starts_with('[')) {
    return std::nullopt;
  }
  const std::size_t end = line.find(']');
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  std::string_view name = trim(line.substr(1, end - 1));
  constexpr std::string_view kProfile = "profile";
  if (name.size() > kProfile.size() && name.starts_with(kProfile) &&
      (name[kProfile.size()] == ' ' || name[kProfile.size()] == '\t')) {
    name = trim(name.substr(kProfile.size()));
  }
  return name;
}

std::string home_file(const EnvironmentLookup& environment, std::string_view name) {
  const std::optional<std::string> home = environment("HOME");
  return home && !home->empty() ? fmt::format("{}/.aws/{}", *home, name) : "";
}

std::string name_of(const std::filesystem::path& path) {
  return path.empty() ? "(no HOME)" : path.string();
}

}  // namespace

Profiles read_profiles(std::string_view text) {
  Profiles profiles;
  ProfileSettings* current = nullptr;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    const std::string_view raw = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    const std::string_view line = trim(raw);
    if (line.empty() || line.starts_with('#') || line.starts_with(';')) {
      continue;
    }
    if (const std::optional<std::string_view> section = section_name(line)) {
      current = &profiles[std::string(*section)];
      continue;
    }
    // An indented line continues a nested setting ("s3 =" with its own lines); none is of use here.
    const bool is_nested = raw.front() == ' ' || raw.front() == '\t';
    const std::size_t equals = line.find('=');
    if (current != nullptr && !is_nested && equals != std::string_view::npos) {
      current->insert_or_assign(to_lower(trim(line.substr(0, equals))),
                                std::string(trim(line.substr(equals + 1))));
    }
  }
  return profiles;
}

ProfileFiles::ProfileFiles(const EnvironmentLookup& environment) {
  credentials_.path = find_nonempty(environment, "AWS_SHARED_CREDENTIALS_FILE")
                          .value_or(home_file(environment, "credentials"));
  config_.path =
      find_nonempty(environment, "AWS_CONFIG_FILE").value_or(home_file(environment, "config"));
}

bool ProfileFiles::read_if_changed(WatchedFile& file) {
  std::error_code absent;
  const auto modified = std::filesystem::last_write_time(file.path, absent);
  if (absent) {
    const bool changed = !file.profiles.empty();
    file.modified.reset();
    file.profiles.clear();
    return changed;
  }
  if (file.modified == modified) {
    return false;
  }
  const std::ifstream in(file.path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) {
    throw Error(ErrorCode::kPermissionDenied,
                fmt::format("{} cannot be read; make it readable or remove it", file.path.string()),
                file.path.filename().string());
  }
  Profiles profiles = read_profiles(text.view());
  file.modified = modified;
  const bool changed = profiles != file.profiles;
  file.profiles = std::move(profiles);
  return changed;
}

bool ProfileFiles::read_changes() {
  const bool credentials_changed = read_if_changed(credentials_);
  const bool config_changed = read_if_changed(config_);
  return credentials_changed || config_changed;
}

bool ProfileFiles::read_all() {
  credentials_.modified.reset();
  config_.modified.reset();
  return read_changes();
}

ProfileSettings ProfileFiles::settings(std::string_view profile) const {
  ProfileSettings merged;
  for (const WatchedFile* file : {&credentials_, &config_}) {
    const auto found = file->profiles.find(profile);
    if (found != file->profiles.end()) {
      merged.insert(found->second.begin(), found->second.end());  // keeps what is there
    }
  }
  return merged;
}

std::optional<Credentials> ProfileFiles::keys(std::string_view profile) const {
  for (const WatchedFile* file : {&credentials_, &config_}) {
    const auto found = file->profiles.find(profile);
    if (found == file->profiles.end()) {
      continue;
    }
    const auto value = [&](std::string_view name) {
      const auto setting = found->second.find(name);
      return setting == found->second.end() ? "" : setting->second;
    };
    const std::string key = value("aws_access_key_id");
    const std::string secret = value("aws_secret_access_key");
    if (key.empty() != secret.empty()) {
      throw Error(ErrorCode::kPermissionDenied,
                  fmt::format("profile \"{}\" in {} has only one of aws_access_key_id and "
                              "aws_secret_access_key; give both",
                              profile,
                              file->path.string()));
    }
    if (!key.empty()) {
      return Credentials{
          .access_key = key, .secret_key = secret, .session_token = value("aws_session_token")};
    }
  }
  return std::nullopt;
}

std::string ProfileFiles::names() const {
  return fmt::format("{} and {}", name_of(credentials_.path), name_of(config_.path));
}

}  // namespace onnxferry
