#include <algorithm>
#include <map>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/error.h"
#include "pipeline/storage/address_rules.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/file_store.h"
#include "pipeline/storage/s3_store.h"
#include "pipeline/storage/store_config.h"
#include "pipeline/storage/web_store.h"

namespace onnxferry {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20U;
constexpr std::uint64_t kMinPartBytes = 5 * kMiB;
constexpr std::uint64_t kMaxPartBytes = 5ULL << 30U;
constexpr std::uint64_t kPlannedParts = 9'000;
constexpr int kMaxConnections = 64;

class ConfiguredStores : public Stores {
 public:
  ConfiguredStores(StoreConfig config, EnvironmentLookup environment)
      : config_(std::move(config)),
        proxies_(proxies_from_environment(environment)),
        credentials_(std::make_shared<CredentialsProvider>(std::move(environment))) {}

  ObjectStore& open(const ObjectUri& uri) override {
    if (const std::string refusal = refusal_of(uri, config_); !refusal.empty()) {
      throw Error(ErrorCode::kInvalidRequest,
                  fmt::format("{}: {}", uri.to_string(), refusal),
                  uri.to_string());
    }
    if (uri.scheme == ObjectUri::Scheme::kFile) {
      return files_;
    }
    std::unique_ptr<ObjectStore>& store =
        remote_[uri.bucket];  // an origin is never a bucket's name
    if (store == nullptr && uri.scheme == ObjectUri::Scheme::kWeb) {
      store = std::make_unique<WebStore>(config_, proxies_, uri.bucket);
    } else if (store == nullptr) {
      store = std::make_unique<S3Store>(config_, proxies_, credentials_, uri.bucket);
    }
    return *store;
  }

 private:
  StoreConfig config_;
  ProxySettings proxies_;
  std::shared_ptr<CredentialsProvider> credentials_;
  FileStore files_;
  std::map<std::string, std::unique_ptr<ObjectStore>, std::less<>> remote_;
};

std::string first_of(std::initializer_list<std::optional<std::string>> values,
                     std::string fallback) {
  for (const std::optional<std::string>& value : values) {
    if (value && !value->empty()) {
      return *value;
    }
  }
  return fallback;
}

std::optional<std::string> endpoint_problem(std::string_view endpoint) {
  const std::size_t colon = endpoint.find("://");
  const std::string scheme = to_lower(endpoint.substr(0, std::min(colon, endpoint.size())));
  std::string_view host = colon == std::string_view::npos ? "" : endpoint.substr(colon + 3);
  while (host.ends_with('/')) {
    host.remove_suffix(1);
  }
  if ((scheme != "http" && scheme != "https") || host.empty() ||
      host.find_first_of("/?#@ ") != std::string_view::npos || has_control_characters(host)) {
    return fmt::format("endpoint \"{}\" is not of the form http(s)://host[:port]",
                       mask_secrets(endpoint));
  }
  return std::nullopt;
}

}  // namespace

std::uint64_t part_size_for(std::uint64_t object_bytes, std::uint64_t part_bytes) {
  const std::uint64_t needed = (object_bytes + kPlannedParts - 1) / kPlannedParts;
  return needed <= part_bytes ? part_bytes : (needed + kMiB - 1) / kMiB * kMiB;
}

StoreConfig store_config_from_environment(const EnvironmentLookup& environment) {
  CredentialsProvider profile(environment);
  StoreConfig config;
  config.endpoint = first_of({environment("AWS_ENDPOINT_URL_S3"),
                              environment("AWS_ENDPOINT_URL"),
                              profile.profile_setting("endpoint_url")},
                             "");
  config.region = first_of({environment("AWS_REGION"),
                            environment("AWS_DEFAULT_REGION"),
                            profile.profile_setting("region")},
                           config.region);
  config.ca_bundle = environment("AWS_CA_BUNDLE").value_or("");
  return config;
}

std::vector<std::string> check_store_config(const StoreConfig& config) {
  std::vector<std::string> problems;
  const auto require = [&](bool is_met, std::string problem) {
    if (!is_met) {
      problems.push_back(std::move(problem));
    }
  };
  if (!config.endpoint.empty()) {
    if (auto problem = endpoint_problem(config.endpoint)) {
      problems.push_back(std::move(*problem));
    }
  }
  require(!config.region.empty(), "the region is empty; expected e.g. us-east-1");
  require(config.connections >= 1 && config.connections <= kMaxConnections,
          fmt::format("connections is {}; expected 1 to {}", config.connections, kMaxConnections));
  require(config.part_bytes >= kMinPartBytes && config.part_bytes <= kMaxPartBytes,
          fmt::format("part_bytes is {}; expected 5 MiB to 5 GiB", config.part_bytes));
  require(config.retry.attempts >= 1,
          fmt::format("retry attempts is {}; expected at least 1", config.retry.attempts));
  require(config.retry.backoff_base.count() > 0 &&
              config.retry.backoff_cap >= config.retry.backoff_base,
          "the retry backoff needs 0 < base <= cap");
  require(config.retry.outage_bound.count() >= 0 && config.retry.outage_notice.count() >= 0,
          "the outage times may not be negative");
  require(config.connect_timeout.count() > 0 && config.stall_timeout.count() > 0,
          "the connect and stall timeouts must be above 0");
  return problems;
}

std::unique_ptr<Stores> make_stores(StoreConfig config, EnvironmentLookup environment) {
  const std::vector<std::string> problems = check_store_config(config);
  if (!problems.empty()) {
    throw Error(ErrorCode::kInvalidRequest,
                fmt::format("object store configuration: {}", fmt::join(problems, "; ")));
  }
  return std::make_unique<ConfiguredStores>(std::move(config), std::move(environment));
}

}  // namespace onnxferry
