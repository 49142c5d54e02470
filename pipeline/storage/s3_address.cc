#include "pipeline/storage/s3_address.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "pipeline/storage/address_rules.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::string_view kAwsDomain = ".amazonaws.com";
constexpr std::string_view kAwsChinaDomain = ".amazonaws.com.cn";

std::string_view aws_domain(std::string_view region) {
  return region.starts_with("cn-") ? kAwsChinaDomain : kAwsDomain;
}

/// "s3.eu-west-1.amazonaws.com" and its kin in parts. Accelerated and private-link hosts are not
/// among them: their names hold no region that could be exchanged.
struct AwsHost {
  std::string prefix;
  std::string region;  // empty: the global name
};

std::optional<AwsHost> parse_aws_host(std::string_view host) {
  for (const std::string_view domain : {kAwsChinaDomain, kAwsDomain}) {
    if (!host.ends_with(domain)) {
      continue;
    }
    host.remove_suffix(domain.size());
    for (const std::string_view prefix : {"s3-fips.dualstack", "s3.dualstack", "s3-fips", "s3"}) {
      if (host == prefix) {
        return AwsHost{std::string(prefix), ""};
      }
      if (!host.starts_with(prefix) || (host[prefix.size()] != '.' && host[prefix.size()] != '-')) {
        continue;
      }
      const std::string_view region = host.substr(prefix.size() + 1);
      if (region.find('.') == std::string_view::npos &&
          region.find('-') != std::string_view::npos) {
        return AwsHost{std::string(prefix), std::string(region)};
      }
    }
  }
  return std::nullopt;
}

std::string without_default_port(std::string host, std::string_view scheme) {
  const std::string_view port = scheme == "https" ? ":443" : ":80";
  if (host.ends_with(port)) {
    host.erase(host.size() - port.size());
  }
  return host;
}

}  // namespace

S3Address::S3Address(const StoreConfig& config, std::string bucket)
    : bucket_(std::move(bucket)), region_(config.region) {
  if (config.endpoint.empty()) {
    aws_prefix_ = "s3";
  } else {
    const std::size_t colon = config.endpoint.find("://");
    scheme_ = to_lower(config.endpoint.substr(0, colon));
    std::string host = to_lower(config.endpoint.substr(colon + 3));
    while (host.ends_with('/')) {
      host.pop_back();
    }
    host = without_default_port(std::move(host), scheme_);
    if (const std::optional<AwsHost> aws = parse_aws_host(host)) {
      aws_prefix_ = aws->prefix;
    } else {
      endpoint_host_ = std::move(host);
    }
  }
  const bool is_in_certificate = scheme_ == "http" || bucket_.find('.') == std::string::npos;
  is_path_style_ = config.path_style.value_or(aws_prefix_.empty() || !is_in_certificate);
}

std::string S3Address::base_host() const {
  return endpoint_host_.empty() ? fmt::format("{}.{}{}", aws_prefix_, region_, aws_domain(region_))
                                : endpoint_host_;
}

std::string S3Address::host() const {
  if (!learnt_host_.empty()) {
    return learnt_host_;
  }
  return is_path_style_ ? base_host() : bucket_ + "." + base_host();
}

std::string S3Address::path(std::string_view key) const {
  const bool is_in_path =
      learnt_host_.empty() ? is_path_style_ : !learnt_host_.starts_with(bucket_ + ".");
  std::string path = is_in_path ? "/" + bucket_ : "";
  if (!key.empty() || path.empty()) {
    path.append("/").append(key);
  }
  return path;
}

bool S3Address::learn_region(std::string_view region) {
  // It becomes part of a host name: nothing but a region's characters may come from an answer.
  const bool is_region =
      !region.empty() && region.size() <= 32 && std::ranges::all_of(region, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
      });
  if (!is_region || region == region_) {
    return false;
  }
  region_ = region;
  learnt_host_.clear();
  return true;
}

bool S3Address::learn_host(std::string_view location) {
  const std::size_t scheme = location.find("://");
  if (scheme != std::string_view::npos) {
    location.remove_prefix(scheme + 3);
  }
  const std::string host =
      without_default_port(to_lower(location.substr(0, location.find_first_of("/?#"))), scheme_);
  const std::string suffix =
      endpoint_host_.empty() ? std::string(aws_domain(region_)) : "." + endpoint_host_;
  const bool is_plain = host.find_first_of("@\\ ") == std::string::npos;
  const bool is_same_service = is_plain && (host.ends_with(suffix) || host == endpoint_host_);
  if (!is_same_service || host == this->host()) {
    return false;
  }
  learnt_host_ = host;
  const std::string prefix = bucket_ + ".";
  const std::string_view base =
      host.starts_with(prefix) ? std::string_view(host).substr(prefix.size()) : host;
  if (const std::optional<AwsHost> aws = parse_aws_host(base); aws && !aws->region.empty()) {
    region_ = aws->region;
  }
  return true;
}

}  // namespace onnxferry
