// What ECS (AWS_CONTAINER_CREDENTIALS_RELATIVE_URI) and EKS Pod Identity (.._FULL_URI) give a
// container: an address to ask, and a token to ask with. Source: AWS SDKs and Tools reference,
// "Container credential provider".
#include <algorithm>
#include <array>
#include <memory>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fmt/format.h>

#include "pipeline/error.h"
#include "pipeline/storage/credentials_http.h"
#include "pipeline/storage/credentials_source.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::string_view kWhat = "the container credentials endpoint";

struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};

/// Parsed by the library that will make the request, so that both see the same host.
std::string part_of(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK) {
    return {};
  }
  std::string value(text);
  curl_free(text);
  return value;
}

bool is_loopback(const in_addr& address) {
  return (ntohl(address.s_addr) >> 24U) == 127;
}

/// Hosts that may be sent the token without TLS: this machine, and the addresses of the agents.
bool is_trusted_host(std::string host) {
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  }
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    return is_loopback(v4) || host == "169.254.170.2" || host == "169.254.170.23";
  }
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    in6_addr agent{};
    inet_pton(AF_INET6, "fd00:ec2::23", &agent);
    return IN6_IS_ADDR_LOOPBACK(&v6) != 0 || IN6_ARE_ADDR_EQUAL(&v6, &agent) != 0;
  }
  return equals_ignoring_case(host, "localhost");
}

std::string check_full_uri(const std::string& uri) {
  const std::unique_ptr<CURLU, FreeUrl> url(curl_url());
  const bool is_valid = url != nullptr && !has_control_characters(uri) &&
                        curl_url_set(url.get(), CURLUPART_URL, uri.c_str(), 0) == CURLUE_OK;
  const std::string scheme = is_valid ? part_of(url.get(), CURLUPART_SCHEME) : "";
  const std::string host = is_valid ? part_of(url.get(), CURLUPART_HOST) : "";
  if ((scheme != "http" && scheme != "https") || host.empty() ||
      !part_of(url.get(), CURLUPART_USER).empty()) {
    throw Error(ErrorCode::kPermissionDenied,
                "no S3 credentials: AWS_CONTAINER_CREDENTIALS_FULL_URI is not of the form "
                "http(s)://host[:port]/path");
  }
  if (scheme == "http" && !is_trusted_host(host)) {
    throw Error(ErrorCode::kPermissionDenied,
                fmt::format("no S3 credentials: AWS_CONTAINER_CREDENTIALS_FULL_URI names the host "
                            "\"{}\" over plain http; expected https, loopback, 169.254.170.2, "
                            "169.254.170.23 or [fd00:ec2::23]",
                            host));
  }
  return uri;
}

std::string endpoint_url(const EnvironmentLookup& environment, const CredentialsTuning& tuning) {
  const auto relative = find_nonempty(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  if (!relative) {
    return check_full_uri(environment("AWS_CONTAINER_CREDENTIALS_FULL_URI").value_or(""));
  }
  if (!relative->starts_with('/') || relative->find(' ') != std::string::npos ||
      has_control_characters(*relative)) {
    throw Error(ErrorCode::kPermissionDenied,
                "no S3 credentials: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with /, "
                "or holds blanks");
  }
  return tuning.container_endpoint + *relative;
}

/// A line end in it would add headers of the token's own making.
std::string check_token(std::string token, std::string_view from) {
  if (has_control_characters(token)) {
    throw Error(ErrorCode::kPermissionDenied,
                fmt::format("no S3 credentials: the authorization token from {} holds line ends or "
                            "other control characters; write it without",
                            from));
  }
  return token;
}

}  // namespace

bool has_container_endpoint(const EnvironmentLookup& environment) {
  return find_nonempty(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") ||
         find_nonempty(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

FetchCredentials container_fetcher(const EnvironmentLookup& environment,
                                   const CredentialsTuning& tuning) {
  return [url = endpoint_url(environment, tuning),
          file = find_nonempty(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
          fixed = find_nonempty(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
          ca_bundle = find_nonempty(environment, "AWS_CA_BUNDLE").value_or(""),
          tuning] {
    CredentialsExchange exchange(
        {.what = std::string(kWhat),
         .prepare =
             [&] {
               HttpRequest request{
                   .method = "GET", .url = url, .headers = {"Accept: application/json"}};
               if (file) {  // rotated by the agent: read for every request
                 request.headers.push_back(
                     "Authorization: " +
                     check_token(read_token_file(*file, "the container authorization token file"),
                                 *file));
               } else if (fixed) {
                 request.headers.push_back(
                     "Authorization: " + check_token(*fixed, "AWS_CONTAINER_AUTHORIZATION_TOKEN"));
               }
               return request;
             },
         .body = {},
         .renew = nullptr,
         .proxies = {},
         .ca_bundle = ca_bundle},
        tuning);
    return parse_credentials_json(exchange.run(), "Token", kWhat);
  };
}

}  // namespace onnxferry
