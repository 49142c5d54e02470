#include "pipeline/storage/address_rules.h"

#include <algorithm>
#include <array>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>

#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::size_t kV4Bytes = 4;

std::string_view without_brackets(std::string_view host) {
  return host.starts_with('[') && host.ends_with(']') ? host.substr(1, host.size() - 2) : host;
}

bool begins_with(const IpAddress& address, std::initializer_list<std::uint8_t> prefix) {
  return address.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), address.begin());
}

// RFC 6890 "Special-Purpose Address Registries"; the metadata services of Alibaba and Oracle stand
// at addresses of their own, all others are link-local.
std::string_view local_v4_kind(const IpAddress& address) {
  if (begins_with(address, {127})) {
    return "loopback";
  }
  if (begins_with(address, {0})) {
    return "unspecified";  // Linux connects 0.0.0.0 to itself
  }
  if (begins_with(address, {169, 254})) {
    return "link-local";
  }
  if (begins_with(address, {100, 100, 100, 200}) || begins_with(address, {192, 0, 0, 192})) {
    return "cloud metadata";
  }
  return address[0] >= 224 ? "multicast" : "";
}

/// The IPv4 address that an IPv6 one stands for.
std::optional<IpAddress> embedded_v4(const IpAddress& v6) {
  const auto bytes_at = [&](std::ptrdiff_t at) {
    return IpAddress(v6.begin() + at, v6.begin() + at + std::ptrdiff_t{kV4Bytes});
  };
  const bool has_zeros =
      std::all_of(v6.begin(), v6.begin() + 10, [](auto byte) { return byte == 0; });
  const bool is_mapped = has_zeros && v6[10] == 0xFF && v6[11] == 0xFF;
  const bool is_compatible = has_zeros && v6[10] == 0 && v6[11] == 0;
  if (is_mapped || is_compatible || begins_with(v6, {0, 0x64, 0xFF, 0x9B})) {
    return bytes_at(12);  // the last covers NAT64, both the well-known and the local prefix
  }
  if (begins_with(v6, {0x20, 0x02})) {
    return bytes_at(2);  // 6to4
  }
  return std::nullopt;
}

constexpr std::array<std::string_view, 3> kMetadataNames = {
    "metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"};

std::string local_name_refusal(std::string_view host) {
  const std::string name = to_lower(host.substr(0, host.size() - (host.ends_with('.') ? 1 : 0)));
  if (is_loopback_name(name)) {
    return "loopback";
  }
  if (std::ranges::find(kMetadataNames, name) != kMetadataNames.end()) {
    return "cloud metadata";
  }
  const std::optional<IpAddress> address = parse_ip_address(name);
  return address ? std::string(local_kind(*address)) : "";
}

std::string web_refusal(const ObjectUri& uri, const StoreConfig& config) {
  const std::string_view origin(uri.bucket);
  if (origin.starts_with("http://") && !config.allow_http) {
    return "http:// is not allowed here; use https://";
  }
  const std::string_view host = host_of(origin);
  const std::string_view with_port = origin.substr(origin.find("://") + 3);
  const bool is_listed =
      config.allowed_hosts.empty() ||
      std::ranges::any_of(config.allowed_hosts, [&](const std::string& glob) {
        return matches_glob(host, to_lower(glob)) || matches_glob(with_port, to_lower(glob));
      });
  if (!is_listed) {
    return fmt::format("host \"{}\" is not allowed here; allowed: {}",
                       host,
                       fmt::join(config.allowed_hosts, ", "));
  }
  if (must_check_addresses(origin, config)) {
    if (const std::string kind = local_name_refusal(host); !kind.empty()) {
      return fmt::format("\"{}\" is a {} address, which requests may not name", host, kind);
    }
  }
  return {};
}

}  // namespace

std::optional<IpAddress> parse_ip_address(std::string_view text) {
  const std::string host(without_brackets(text));
  in_addr v4{};
  in6_addr v6{};
  const bool may_be_v4 =
      !host.empty() && host.find_first_not_of("0123456789abcdefxABCDEFX.") == std::string::npos;
  if (may_be_v4 && ::inet_aton(host.c_str(), &v4) != 0) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&v4);
    return IpAddress(bytes, bytes + sizeof(v4));
  }
  if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&v6);
    return IpAddress(bytes, bytes + sizeof(v6));
  }
  return std::nullopt;
}

std::string to_string(const IpAddress& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = address.size() == kV4Bytes ? AF_INET : AF_INET6;
  return ::inet_ntop(family, address.data(), text.data(), text.size()) == nullptr ? ""
                                                                                  : text.data();
}

std::string_view local_kind(const IpAddress& address) {
  if (address.size() == kV4Bytes) {
    return local_v4_kind(address);
  }
  const bool is_zero_but_last =
      std::all_of(address.begin(), address.end() - 1, [](auto byte) { return byte == 0; });
  if (is_zero_but_last && address.back() <= 1) {
    return address.back() == 1 ? "loopback" : "unspecified";
  }
  if (begins_with(address, {0xFE}) && (address[1] & 0xC0U) == 0x80U) {
    return "link-local";
  }
  if (begins_with(address, {0xFF})) {
    return "multicast";
  }
  // fd00:ec2::/32: the instance metadata and credential services of AWS.
  if (begins_with(address, {0xFD, 0x00, 0x0E, 0xC2})) {
    return "cloud metadata";
  }
  const std::optional<IpAddress> v4 = embedded_v4(address);
  return v4 ? local_v4_kind(*v4) : "";
}

bool is_loopback_name(std::string_view host) {
  const std::string name = to_lower(without_brackets(host));
  const std::optional<IpAddress> address = parse_ip_address(name);
  return name == "localhost" || name.ends_with(".localhost") ||
         (address && local_kind(*address) == "loopback");
}

bool matches_glob(std::string_view text, std::string_view pattern) {
  return ::fnmatch(std::string(pattern).c_str(), std::string(text).c_str(), FNM_NOESCAPE) == 0;
}

std::string_view host_of(std::string_view origin) {
  std::string_view host = origin.substr(origin.find("://") + 3);
  host = host.substr(0, host.find('/'));
  const std::size_t close = host.starts_with('[') ? host.find(']') : 0;
  return without_brackets(host.substr(0, host.find(':', close)));
}

std::string refusal_of(const ObjectUri& uri, const StoreConfig& config) {
  switch (uri.scheme) {
    case ObjectUri::Scheme::kFile:
      return config.allow_file ? ""
                               : "it is a local path, which this worker does not open; use "
                                 "s3://bucket/key";
    case ObjectUri::Scheme::kWeb:
      return web_refusal(uri, config);
    case ObjectUri::Scheme::kS3:
      break;
  }
  const bool is_listed = config.allowed_buckets.empty() ||
                         std::ranges::any_of(config.allowed_buckets, [&](const std::string& glob) {
                           return matches_glob(uri.bucket, glob);
                         });
  return is_listed ? ""
                   : fmt::format("bucket \"{}\" is not allowed here; allowed: {}",
                                 uri.bucket,
                                 fmt::join(config.allowed_buckets, ", "));
}

bool must_check_addresses(std::string_view origin, const StoreConfig& config) {
  if (config.allow_local_addresses) {
    return false;
  }
  std::string own = to_lower(config.endpoint);
  while (own.ends_with('/')) {
    own.pop_back();
  }
  return own.empty() || own != origin;
}

}  // namespace onnxferry
