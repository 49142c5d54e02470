// The security token service: temporary credentials for a role, in exchange for a signature or for
// the token of an identity provider. Source: AWS STS API reference, version 2011-06-15. MinIO and
// SeaweedFS offer the same actions at their own endpoints.
#include <fmt/format.h>
#include <pugixml.hpp>

#include "pipeline/error.h"
#include "pipeline/storage/credentials_http.h"
#include "pipeline/storage/credentials_source.h"
#include "pipeline/storage/digest.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/sigv4.h"

namespace onnxferry {
namespace {

constexpr std::string_view kFormType = "application/x-www-form-urlencoded; charset=utf-8";

std::string form_body(std::string_view action,
                      const RoleRequest& role,
                      const std::vector<NameValue>& more) {
  std::vector<NameValue> fields = more;
  fields.emplace_back("Action", action);
  fields.emplace_back("Version", "2011-06-15");
  fields.emplace_back("RoleArn", role.role_arn);
  fields.emplace_back("RoleSessionName", role.session_name);
  if (!role.duration_seconds.empty()) {
    fields.emplace_back("DurationSeconds", role.duration_seconds);
  }
  return canonical_query(fields);
}

/// The first element of this name at any depth; servers differ in their namespaces.
pugi::xml_node find_element(const pugi::xml_node& from, std::string_view name) {
  return from.find_node([&](const pugi::xml_node& node) {
    const std::string_view full = node.name();
    return full == name || (full.ends_with(name) && full[full.size() - name.size() - 1] == ':');
  });
}

Credentials parse_sts_reply(std::string_view body, std::string_view what) {
  pugi::xml_document document;
  document.load_buffer(body.data(), body.size());
  const pugi::xml_node node = find_element(document, "Credentials");
  const auto text = [&](std::string_view name) {
    return std::string(trim(find_element(node, name).text().get()));
  };
  Credentials found{.access_key = text("AccessKeyId"),
                    .secret_key = text("SecretAccessKey"),
                    .session_token = text("SessionToken"),
                    .expires = parse_timestamp(text("Expiration"))};
  if (found.access_key.empty() || found.secret_key.empty() || found.session_token.empty() ||
      !found.expires) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("no S3 credentials: {} answered without AccessKeyId, SecretAccessKey, "
                            "SessionToken and Expiration",
                            what));
  }
  return found;
}

std::string host_of_url(std::string_view url) {
  return std::string(url.substr(url.find("://") + 3));
}

HttpRequest form_post(const StsEndpoint& sts) {
  return {.method = "POST",
          .url = sts.url + "/",
          .headers = {fmt::format("Content-Type: {}", kFormType), "Accept: application/xml"}};
}

/// form_post with a signature of `credentials`.
HttpRequest signed_form_post(const StsEndpoint& sts,
                             std::string_view body,
                             const Credentials& credentials,
                             SystemTime now) {
  HttpRequest request = form_post(sts);
  SigV4Signer signer("sts", PathRule::kNormalized);
  const SigningRequest signing{
      .method = "POST",
      .path = "/",
      .query = {},
      .headers = {{"Host", host_of_url(sts.url)}, {"Content-Type", std::string(kFormType)}},
      .payload_hash = to_hex(sha256(body))};
  for (const auto& [name, value] : signer.sign(signing, credentials, sts.region, now)) {
    request.headers.push_back(fmt::format("{}: {}", name, value));
  }
  request.headers.push_back("Host: " + host_of_url(sts.url));
  return request;
}

}  // namespace

StsEndpoint find_sts(const EnvironmentLookup& environment, std::string_view profile_region) {
  StsEndpoint sts;
  sts.region = find_nonempty(environment, "AWS_REGION")
                   .value_or(find_nonempty(environment, "AWS_DEFAULT_REGION")
                                 .value_or(profile_region.empty() ? "us-east-1"
                                                                  : std::string(profile_region)));
  sts.ca_bundle = find_nonempty(environment, "AWS_CA_BUNDLE").value_or("");
  sts.proxies = proxies_from_environment(environment);
  sts.url = find_nonempty(environment, "AWS_ENDPOINT_URL_STS")
                .value_or(find_nonempty(environment, "AWS_ENDPOINT_URL").value_or(""));
  while (sts.url.ends_with('/')) {
    sts.url.pop_back();
  }
  if (sts.url.empty()) {
    sts.url = fmt::format(
        "https://sts.{}.amazonaws.com{}", sts.region, sts.region.starts_with("cn-") ? ".cn" : "");
    return sts;
  }
  const std::string scheme = to_lower(sts.url.substr(0, sts.url.find("://") + 3));
  if ((scheme != "http://" && scheme != "https://") ||
      sts.url.find_first_of("/?#@ ", scheme.size()) != std::string::npos) {
    throw Error(ErrorCode::kPermissionDenied,
                fmt::format("no S3 credentials: the STS endpoint \"{}\" is not of the form "
                            "http(s)://host[:port]",
                            mask_secrets(sts.url)));
  }
  return sts;
}

FetchCredentials web_identity_fetcher(const RoleRequest& role,
                                      const std::string& token_file,
                                      const StsEndpoint& sts,
                                      const CredentialsTuning& tuning) {
  return [=] {
    const std::string token = read_token_file(token_file, "the web identity token file");
    const std::string what = fmt::format("{} (AssumeRoleWithWebIdentity)", sts.url);
    CredentialsExchange exchange(
        {.what = what,
         .prepare = [&] { return form_post(sts); },
         .body = form_body(
             "AssumeRoleWithWebIdentity", role, {{"WebIdentityToken", std::string(trim(token))}}),
         .renew = nullptr,
         .proxies = sts.proxies,
         .ca_bundle = sts.ca_bundle},
        tuning);
    return parse_sts_reply(exchange.run(), what);
  };
}

FetchCredentials assume_role_fetcher(const RoleRequest& role,
                                     const std::shared_ptr<CredentialsSource>& base,
                                     const StsEndpoint& sts,
                                     const CredentialsTuning& tuning) {
  return [=] {
    const std::string what = fmt::format("{} (AssumeRole {})", sts.url, role.role_arn);
    std::vector<NameValue> more;
    if (!role.external_id.empty()) {
      more.emplace_back("ExternalId", role.external_id);
    }
    const std::string body = form_body("AssumeRole", role, more);
    Credentials used;
    CredentialsExchange exchange({.what = what,
                                  .prepare =
                                      [&] {
                                        used = base->get();
                                        return signed_form_post(sts, body, used, tuning.now());
                                      },
                                  .body = body,
                                  .renew =
                                      [&] {
                                        base->renew(used);
                                        return base->get() != used;
                                      },
                                  .proxies = sts.proxies,
                                  .ca_bundle = sts.ca_bundle},
                                 tuning);
    return parse_sts_reply(exchange.run(), what);
  };
}

}  // namespace onnxferry
