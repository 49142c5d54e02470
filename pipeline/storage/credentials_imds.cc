// The instance metadata service of EC2, version 2: a session token by PUT, then two GETs with it.
// Version 1 (no token) is not spoken: a server-side request forgery could use it too.
// Source: Amazon EC2 user guide, "Use the Instance Metadata Service".
#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/credentials_http.h"
#include "pipeline/storage/credentials_source.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::string_view kWhat = "the instance metadata service";
constexpr std::string_view kRolePath = "/latest/meta-data/iam/security-credentials/";
constexpr int kAttempts = 2;  // inside containers the hop limit lets nothing through: fail fast

class MetadataService {
 public:
  MetadataService(std::string endpoint, const CredentialsTuning& tuning)
      : endpoint_(std::move(endpoint)), tuning_(tuning) {}

  /// \throws NoMetadataService when nobody answers
  void get_token() {
    CredentialsExchange exchange(call([this] {
                                   return HttpRequest{
                                       .method = "PUT",
                                       .url = endpoint_ + "/latest/api/token",
                                       .headers = {"x-aws-ec2-metadata-token-ttl-seconds: 21600"}};
                                 }),
                                 tuning_);
    try {
      token_ = trim(exchange.run());
    } catch (const Error& error) {
      if (exchange.status() == 0) {
        throw NoMetadataService(error.message());
      }
      throw;
    }
    if (token_.empty() || has_control_characters(token_)) {
      throw Error(ErrorCode::kUnavailable,
                  fmt::format("no S3 credentials: {} answered with an unusable token", kWhat));
    }
  }

  std::string get_role() {
    CredentialsExchange exchange(get(std::string(kRolePath)), tuning_);
    std::string list;
    try {
      list = exchange.run();
    } catch (const Error&) {
      if (exchange.status() == 404) {
        throw Error(ErrorCode::kPermissionDenied,
                    "no S3 credentials: this instance has no role; attach an instance profile, or "
                    "give credentials in another way");
      }
      throw;
    }
    const std::string_view first = trim(std::string_view(list).substr(0, list.find('\n')));
    if (first.empty()) {
      throw Error(ErrorCode::kPermissionDenied,
                  fmt::format("no S3 credentials: {} names no role", kWhat));
    }
    return std::string(first);
  }

  Credentials get_credentials(std::string_view role) {
    CredentialsExchange exchange(get(std::string(kRolePath) + uri_encode(role, Slash::kEncode)),
                                 tuning_);
    return parse_credentials_json(exchange.run(), "Token", kWhat);
  }

 private:
  static CredentialsCall call(std::function<HttpRequest()> prepare) {
    return {.what = std::string(kWhat),
            .prepare = std::move(prepare),
            .body = {},
            .renew = nullptr,
            .attempts = kAttempts,
            .proxies = {},
            .ca_bundle = {}};
  }

  /// A GET with the token, which a 401 renews.
  CredentialsCall get(std::string path) {
    CredentialsCall made = call([this, path = std::move(path)] {
      return HttpRequest{.method = "GET",
                         .url = endpoint_ + path,
                         .headers = {"x-aws-ec2-metadata-token: " + token_}};
    });
    made.renew = [this] {
      get_token();
      return true;
    };
    return made;
  }

  std::string endpoint_;
  CredentialsTuning tuning_;
  std::string token_;
};

std::string default_endpoint(const EnvironmentLookup& environment) {
  const std::string mode =
      find_nonempty(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").value_or("IPv4");
  if (equals_ignoring_case(mode, "IPv4")) {
    return "http://169.254.169.254";
  }
  if (equals_ignoring_case(mode, "IPv6")) {
    return "http://[fd00:ec2::254]";
  }
  throw Error(ErrorCode::kPermissionDenied,
              fmt::format("no S3 credentials: AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE is \"{}\"; "
                          "expected IPv4 or IPv6",
                          mode));
}

}  // namespace

bool is_metadata_disabled(const EnvironmentLookup& environment) {
  return equals_ignoring_case(environment("AWS_EC2_METADATA_DISABLED").value_or(""), "true");
}

FetchCredentials metadata_fetcher(const EnvironmentLookup& environment,
                                  const CredentialsTuning& tuning) {
  const auto configured = find_nonempty(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
  std::string endpoint = configured ? *configured : default_endpoint(environment);
  while (endpoint.ends_with('/')) {
    endpoint.pop_back();
  }
  return [endpoint, is_configured = configured.has_value(), tuning] {
    MetadataService service(endpoint, tuning);
    bool has_answered = false;
    try {
      service.get_token();
      has_answered = true;
      return service.get_credentials(service.get_role());
    } catch (const NoMetadataService& nobody) {
      if (is_configured || has_answered) {
        throw Error(ErrorCode::kUnavailable, nobody.reason);
      }
      throw;
    }
  };
}

}  // namespace onnxferry
