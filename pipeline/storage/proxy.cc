#include "pipeline/storage/proxy.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "pipeline/storage/address_rules.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

std::string first_set(const EnvironmentLookup& environment,
                      std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const std::optional<std::string> value = environment(name);
    if (value && !value->empty()) {
      return *value;
    }
  }
  return {};
}

/// Whether `host` is inside a.b.c.d/n or v6/n.
bool is_in_network(const IpAddress& host, std::string_view entry) {
  const std::size_t slash = entry.find('/');
  const std::optional<IpAddress> network = parse_ip_address(entry.substr(0, slash));
  if (!network || network->size() != host.size()) {
    return false;
  }
  std::size_t bits = host.size() * 8;
  if (slash != std::string_view::npos) {
    const std::string_view text = entry.substr(slash + 1);
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), bits);
    if (problem != std::errc{} || end != text.data() + text.size() || bits > host.size() * 8) {
      return false;
    }
  }
  for (std::size_t bit = 0; bit < bits; ++bit) {
    const unsigned mask = 0x80U >> (bit % 8);
    if (((host[bit / 8] ^ (*network)[bit / 8]) & mask) != 0) {
      return false;
    }
  }
  return true;
}

bool is_exempt(std::string_view host, std::string_view entry) {
  if (entry == "*") {
    return true;
  }
  if (const std::optional<IpAddress> address = parse_ip_address(host)) {
    return is_in_network(*address, entry);
  }
  const std::string name = to_lower(host);
  const std::string suffix = to_lower(entry.substr(entry.starts_with('.') ? 1 : 0));
  return !suffix.empty() && (name == suffix || name.ends_with("." + suffix));
}

}  // namespace

ProxySettings proxies_from_environment(const EnvironmentLookup& environment) {
  return {.https = first_set(environment, {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"}),
          .http = first_set(environment, {"http_proxy", "all_proxy", "ALL_PROXY"}),
          .no_proxy = first_set(environment, {"no_proxy", "NO_PROXY"})};
}

std::string_view proxy_for(const ProxySettings& proxies,
                           std::string_view scheme,
                           std::string_view host) {
  const std::string& proxy = scheme == "https" ? proxies.https : proxies.http;
  if (proxy.empty() || is_loopback_name(host)) {
    return {};
  }
  std::string_view left = proxies.no_proxy;
  while (!left.empty()) {
    const std::size_t end = left.find_first_of(", ");
    if (is_exempt(host, left.substr(0, end))) {
      return {};
    }
    left.remove_prefix(end == std::string_view::npos ? left.size() : end + 1);
  }
  return proxy;
}

}  // namespace onnxferry
