// The order in which credentials are looked for (credentials.h). Sources are built from the
// environment and the profile files, and built anew when the files change.
#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/credentials_profile.h"
#include "pipeline/storage/credentials_source.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

using SharedSource = std::shared_ptr<CredentialsSource>;

constexpr std::size_t kMaxSourceProfiles = 8;
constexpr std::string_view kSessionName = "onnxferry";

Error denied(std::string_view what) {
  return {ErrorCode::kPermissionDenied, fmt::format("no S3 credentials: {}", what)};
}

std::string setting(const ProfileSettings& settings, std::string_view name) {
  const auto found = settings.find(name);
  return found == settings.end() ? "" : found->second;
}

/// Builds the source that the environment and the profile files ask for.
class SourceBuilder {
 public:
  SourceBuilder(const EnvironmentLookup& environment,
                const ProfileFiles& files,
                std::string_view profile,
                const CredentialsTuning& tuning)
      : environment_(environment), files_(files), profile_(profile), tuning_(tuning) {}

  SharedSource build() {
    if (SharedSource found = from_variables()) {
      return found;
    }
    const bool is_explicit = find_nonempty(environment_, "AWS_PROFILE").has_value();
    if (is_explicit) {
      if (SharedSource found = from_profile(profile_)) {
        return found;
      }
    }
    if (const auto minio = keys_of("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD")) {
      return std::make_shared<FixedCredentials>(*minio);
    }
    if (!is_explicit) {
      if (SharedSource found = from_profile(profile_)) {
        return found;
      }
    }
    if (SharedSource found = from_web_identity()) {
      return found;
    }
    if (has_container_endpoint(environment_)) {
      return from_container();
    }
    return is_metadata_disabled(environment_) ? nullptr : from_instance();
  }

 private:
  [[nodiscard]] std::optional<Credentials> keys_of(std::string_view key_name,
                                                   std::string_view secret_name) const {
    const std::optional<std::string> key = find_nonempty(environment_, key_name);
    const std::optional<std::string> secret = find_nonempty(environment_, secret_name);
    if (key.has_value() != secret.has_value()) {
      throw Error(ErrorCode::kPermissionDenied,
                  fmt::format("{} is set but {} is not; set both or neither",
                              key ? key_name : secret_name,
                              key ? secret_name : key_name));
    }
    return key ? std::optional(
                     Credentials{.access_key = *key, .secret_key = *secret, .session_token = {}})
               : std::nullopt;
  }

  [[nodiscard]] SharedSource from_variables() const {
    std::optional<Credentials> found = keys_of("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    if (!found) {
      return nullptr;
    }
    found->session_token = find_nonempty(environment_, "AWS_SESSION_TOKEN").value_or("");
    return std::make_shared<FixedCredentials>(*found);
  }

  [[nodiscard]] SharedSource cached(FetchCredentials fetch) const {
    return std::make_shared<CachedCredentials>(std::move(fetch), tuning_.now);
  }
  [[nodiscard]] SharedSource from_container() const {
    return cached(container_fetcher(environment_, tuning_));
  }
  [[nodiscard]] SharedSource from_instance() const {
    return cached(metadata_fetcher(environment_, tuning_));
  }

  [[nodiscard]] StsEndpoint sts() const {
    return find_sts(environment_, setting(files_.settings(profile_), "region"));
  }

  [[nodiscard]] SharedSource from_web_identity() const {
    const auto token_file = find_nonempty(environment_, "AWS_WEB_IDENTITY_TOKEN_FILE");
    if (!token_file) {
      return nullptr;
    }
    const auto role = find_nonempty(environment_, "AWS_ROLE_ARN");
    if (!role) {
      throw denied("AWS_WEB_IDENTITY_TOKEN_FILE is set but AWS_ROLE_ARN is not; set both");
    }
    const RoleRequest request{.role_arn = *role,
                              .session_name = find_nonempty(environment_, "AWS_ROLE_SESSION_NAME")
                                                  .value_or(std::string(kSessionName)),
                              .external_id = {},
                              .duration_seconds = {}};
    return cached(web_identity_fetcher(request, *token_file, sts(), tuning_));
  }

  /// null: the profile gives none.
  SharedSource from_profile(std::string_view name) {
    const ProfileSettings settings = files_.settings(name);
    if (!setting(settings, "role_arn").empty()) {
      return from_role(name, settings);
    }
    if (const std::optional<Credentials> keys = files_.keys(name)) {
      return std::make_shared<FixedCredentials>(*keys);
    }
    if (const std::string command = setting(settings, "credential_process"); !command.empty()) {
      return cached(process_fetcher(command, tuning_.process_timeout));
    }
    for (const std::string_view unsupported : {"sso_session", "sso_start_url", "login_session"}) {
      if (settings.contains(unsupported)) {
        throw denied(
            fmt::format("profile \"{}\" signs in with {}, which needs a person; use "
                        "credential_process = aws configure export-credentials instead",
                        name,
                        unsupported));
      }
    }
    return nullptr;
  }

  SharedSource from_role(std::string_view name, const ProfileSettings& settings) {
    if (settings.contains("mfa_serial")) {
      throw denied(fmt::format("profile \"{}\" has mfa_serial, which needs a person", name));
    }
    const std::string session = setting(settings, "role_session_name");
    const RoleRequest role{.role_arn = setting(settings, "role_arn"),
                           .session_name = session.empty() ? std::string(kSessionName) : session,
                           .external_id = setting(settings, "external_id"),
                           .duration_seconds = setting(settings, "duration_seconds")};
    const std::string token_file = setting(settings, "web_identity_token_file");
    if (!token_file.empty()) {
      return cached(web_identity_fetcher(role, token_file, sts(), tuning_));
    }
    return cached(assume_role_fetcher(role, base_of(name, settings), sts(), tuning_));
  }

  /// Whose credentials sign for the role of profile `name`.
  SharedSource base_of(std::string_view name, const ProfileSettings& settings) {
    const std::string source_profile = setting(settings, "source_profile");
    const std::string source = setting(settings, "credential_source");
    if (source_profile.empty() == source.empty()) {
      throw denied(
          fmt::format("profile \"{}\" has role_arn; expected one of source_profile, "
                      "credential_source and web_identity_token_file with it",
                      name));
    }
    SharedSource base =
        source.empty() ? from_source_profile(name, source_profile) : from_named(source);
    if (base == nullptr) {
      throw denied(fmt::format("profile \"{}\" names {} \"{}\", which gives no credentials",
                               name,
                               source.empty() ? "source_profile" : "credential_source",
                               source.empty() ? source_profile : source));
    }
    return base;
  }

  SharedSource from_source_profile(std::string_view name, std::string_view source) {
    if (source == name) {  // it assumes the role with its own keys
      const std::optional<Credentials> keys = files_.keys(name);
      return keys ? std::make_shared<FixedCredentials>(*keys) : nullptr;
    }
    if (++source_profiles_ > kMaxSourceProfiles) {
      throw denied(
          fmt::format("the source_profile of \"{}\" leads in a circle, or over more than "
                      "{} profiles",
                      profile_,
                      kMaxSourceProfiles));
    }
    return from_profile(source);
  }

  [[nodiscard]] SharedSource from_named(std::string_view source) const {
    if (equals_ignoring_case(source, "Environment")) {
      return from_variables();
    }
    if (equals_ignoring_case(source, "EcsContainer")) {
      return has_container_endpoint(environment_) ? from_container() : nullptr;
    }
    if (equals_ignoring_case(source, "Ec2InstanceMetadata")) {
      return is_metadata_disabled(environment_) ? nullptr : from_instance();
    }
    throw denied(
        fmt::format("credential_source is \"{}\"; expected Environment, EcsContainer or "
                    "Ec2InstanceMetadata",
                    source));
  }

  const EnvironmentLookup& environment_;
  const ProfileFiles& files_;
  std::string_view profile_;
  const CredentialsTuning& tuning_;
  std::size_t source_profiles_ = 0;
};

}  // namespace

struct CredentialsProvider::State {
  State(EnvironmentLookup lookup, CredentialsTuning given)
      : environment(std::move(lookup)),
        tuning(std::move(given)),
        profile(find_nonempty(environment, "AWS_PROFILE").value_or("default")),
        files(environment) {}

  /// The source in force. \param changed  build it anew
  SharedSource current(bool changed) {
    if (changed) {
      source = nullptr;  // first, since building may throw
    }
    if (source == nullptr) {
      source = SourceBuilder(environment, files, profile, tuning).build();
    }
    if (source == nullptr) {
      throw Error(ErrorCode::kPermissionDenied, what_was_looked_for("is disabled"));
    }
    return source;
  }

  [[nodiscard]] std::string what_was_looked_for(std::string_view metadata) const {
    return fmt::format(
        "no S3 credentials; looked for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "MINIO_ROOT_USER and MINIO_ROOT_PASSWORD, AWS_WEB_IDENTITY_TOKEN_FILE, "
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI in the environment, and for profile "
        "\"{}\" in {}; the instance metadata service {}",
        profile,
        files.names(),
        metadata);
  }

  EnvironmentLookup environment;
  CredentialsTuning tuning;
  std::string profile;
  std::mutex mutex;
  ProfileFiles files;
  SharedSource source;
};

CredentialsProvider::CredentialsProvider(EnvironmentLookup environment, CredentialsTuning tuning)
    : state_(std::make_unique<State>(std::move(environment), std::move(tuning))) {}

CredentialsProvider::~CredentialsProvider() = default;

Credentials CredentialsProvider::get() {
  SharedSource source;
  {
    const std::scoped_lock lock(state_->mutex);
    source = state_->current(state_->files.read_changes());
  }
  try {
    return source->get();  // may take seconds: without the lock
  } catch (const NoMetadataService&) {
    throw Error(ErrorCode::kPermissionDenied, state_->what_was_looked_for("does not answer"));
  }
}

bool CredentialsProvider::refresh(const Credentials& refused) {
  SharedSource source;
  {
    const std::scoped_lock lock(state_->mutex);
    const bool changed = state_->files.read_all();
    source = state_->current(changed || (state_->source != nullptr && state_->source->is_fixed()));
  }
  source->renew(refused);
  return get() != refused;
}

std::optional<std::string> CredentialsProvider::profile_setting(std::string_view name) {
  const std::scoped_lock lock(state_->mutex);
  if (state_->files.read_changes()) {
    state_->source = nullptr;
  }
  const ProfileSettings settings = state_->files.settings(state_->profile);
  const auto found = settings.find(name);
  return found == settings.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace onnxferry
