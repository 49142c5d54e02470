#pragma once

#include <string>
#include <string_view>

#include "pipeline/storage/credentials.h"

namespace onnxferry {

/// The proxies that the environment names. Default: none.
struct ProxySettings {
  std::string https;  ///< for https://, as libcurl takes it: [scheme://][user:password@]host:port
  std::string http;   ///< for http://
  std::string
      no_proxy;  ///< comma-separated: names with their subdomains, addresses, a.b.c.d/n, "*"
};

/// As curl reads them: https_proxy or HTTPS_PROXY, http_proxy (only in lower case: a web server can
/// be made to set the other), all_proxy or ALL_PROXY for both, no_proxy or NO_PROXY.
ProxySettings proxies_from_environment(const EnvironmentLookup& environment);

/// The proxy for one request; empty: none. Loopback is never asked of a proxy.
/// \param host  without port; IPv6 addresses with or without brackets
std::string_view proxy_for(const ProxySettings& proxies,
                           std::string_view scheme,
                           std::string_view host);

}  // namespace onnxferry
