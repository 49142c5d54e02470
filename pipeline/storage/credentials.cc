#include "pipeline/storage/credentials.h"

#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "pipeline/error.h"
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

std::optional<std::string> find_nonempty(const EnvironmentLookup& environment,
                                         std::string_view name) {
  std::optional<std::string> value = environment(name);
  return value && !value->empty() ? value : std::nullopt;
}

/// A settings key of the profile that names a way to get credentials which this build lacks.
std::optional<std::string_view> unsupported_source(const ProfileSettings& settings) {
  for (const std::string_view name : {"role_arn",
                                      "credential_process",
                                      "web_identity_token_file",
                                      "sso_session",
                                      "sso_start_url"}) {
    if (settings.contains(name)) {
      return name;
    }
  }
  return std::nullopt;
}

}  // namespace

ProfileSettings read_profile(std::string_view text, std::string_view name) {
  ProfileSettings settings;
  bool is_wanted = false;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    const std::string_view raw = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    const std::string_view line = trim(raw);
    if (line.empty() || line.starts_with('#') || line.starts_with(';')) {
      continue;
    }
    if (const std::optional<std::string_view> section = section_name(line)) {
      is_wanted = *section == name;
      continue;
    }
    // An indented line continues a nested setting ("s3 =" with its own lines); none is of use here.
    const bool is_nested = raw.front() == ' ' || raw.front() == '\t';
    const std::size_t equals = line.find('=');
    if (is_wanted && !is_nested && equals != std::string_view::npos) {
      settings.insert_or_assign(to_lower(trim(line.substr(0, equals))),
                                std::string(trim(line.substr(equals + 1))));
    }
  }
  return settings;
}

CredentialsProvider::CredentialsProvider(EnvironmentLookup environment)
    : environment_(std::move(environment)),
      profile_(find_nonempty(environment_, "AWS_PROFILE").value_or("default")) {
  credentials_file_.path = find_nonempty(environment_, "AWS_SHARED_CREDENTIALS_FILE")
                               .value_or(home_file(environment_, "credentials"));
  config_file_.path =
      find_nonempty(environment_, "AWS_CONFIG_FILE").value_or(home_file(environment_, "config"));
}

bool CredentialsProvider::read_if_changed(WatchedFile& file, std::string_view profile) {
  std::error_code absent;
  const auto modified = std::filesystem::last_write_time(file.path, absent);
  if (absent) {
    const bool changed = file.modified.has_value();
    file.modified.reset();
    file.settings.clear();
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
  file.modified = modified;
  file.settings = read_profile(text.view(), profile);
  return true;
}

void CredentialsProvider::read_changed_files() {
  read_if_changed(credentials_file_, profile_);
  read_if_changed(config_file_, profile_);
}

std::optional<Credentials> CredentialsProvider::from_environment(
    std::string_view key_name, std::string_view secret_name) const {
  const std::optional<std::string> key = find_nonempty(environment_, key_name);
  const std::optional<std::string> secret = find_nonempty(environment_, secret_name);
  if (key.has_value() != secret.has_value()) {
    throw Error(ErrorCode::kPermissionDenied,
                fmt::format("{} is set but {} is not; set both or neither",
                            key ? key_name : secret_name,
                            key ? secret_name : key_name));
  }
  if (!key) {
    return std::nullopt;
  }
  return Credentials{.access_key = *key, .secret_key = *secret, .session_token = {}};
}

std::optional<Credentials> CredentialsProvider::from_profile() const {
  for (const WatchedFile* file : {&credentials_file_, &config_file_}) {
    const auto key = file->settings.find("aws_access_key_id");
    const auto secret = file->settings.find("aws_secret_access_key");
    if (key == file->settings.end() && secret == file->settings.end()) {
      continue;
    }
    if (key == file->settings.end() || secret == file->settings.end()) {
      throw Error(ErrorCode::kPermissionDenied,
                  fmt::format("profile \"{}\" in {} has only one of aws_access_key_id and "
                              "aws_secret_access_key; give both",
                              profile_,
                              file->path.string()));
    }
    const auto token = file->settings.find("aws_session_token");
    return Credentials{.access_key = key->second,
                       .secret_key = secret->second,
                       .session_token = token == file->settings.end() ? "" : token->second};
  }
  return std::nullopt;
}

std::string CredentialsProvider::what_was_looked_for() const {
  std::string text = fmt::format(
      "no S3 credentials; looked for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, MINIO_ROOT_USER "
      "and MINIO_ROOT_PASSWORD in the environment, and for profile \"{}\" with aws_access_key_id "
      "in "
      "{} and {}",
      profile_,
      credentials_file_.path.empty() ? "(no HOME)" : credentials_file_.path.string(),
      config_file_.path.empty() ? "(no HOME)" : config_file_.path.string());
  for (const WatchedFile* file : {&credentials_file_, &config_file_}) {
    if (const auto name = unsupported_source(file->settings)) {
      text += fmt::format("; the profile's {} is not supported yet", *name);
    }
  }
  for (const std::string_view name : {"AWS_WEB_IDENTITY_TOKEN_FILE",
                                      "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                                      "AWS_CONTAINER_CREDENTIALS_FULL_URI"}) {
    if (find_nonempty(environment_, name)) {
      text += fmt::format("; {} is set but not supported yet", name);
    }
  }
  return text;
}

Credentials CredentialsProvider::find() {
  if (auto found = from_environment("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")) {
    found->session_token = find_nonempty(environment_, "AWS_SESSION_TOKEN").value_or("");
    return *found;
  }
  read_changed_files();
  const std::optional<Credentials> profile = from_profile();
  if (profile && find_nonempty(environment_, "AWS_PROFILE")) {
    return *profile;
  }
  if (auto found = from_environment("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD")) {
    return *found;
  }
  if (profile) {
    return *profile;
  }
  throw Error(ErrorCode::kPermissionDenied, what_was_looked_for());
}

Credentials CredentialsProvider::get() {
  const std::scoped_lock lock(mutex_);
  last_ = find();
  return *last_;
}

bool CredentialsProvider::refresh() {
  const std::scoped_lock lock(mutex_);
  const std::optional<Credentials> before = last_;
  credentials_file_.modified.reset();
  config_file_.modified.reset();
  last_ = find();
  return last_ != before;
}

std::optional<std::string> CredentialsProvider::profile_setting(std::string_view name) {
  const std::scoped_lock lock(mutex_);
  read_changed_files();
  for (const WatchedFile* file : {&credentials_file_, &config_file_}) {
    const auto found = file->settings.find(name);
    if (found != file->settings.end()) {
      return found->second;
    }
  }
  return std::nullopt;
}

}  // namespace onnxferry
