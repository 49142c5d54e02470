#include "pipeline/storage/address_rules.h"

#include <map>

#include <gmock/gmock.h>

#include "pipeline/storage/proxy.h"

namespace onnxferry {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string kind_of(std::string_view text) {
  const auto address = parse_ip_address(text);
  return address ? std::string(local_kind(*address)) : "not an address";
}

TEST(LocalKind, KnowsWhatRequestsMayNotReach) {
  const std::map<std::string, std::string> kinds = {{"127.0.0.1", "loopback"},
                                                    {"127.255.0.9", "loopback"},
                                                    {"127.1", "loopback"},
                                                    {"0x7f000001", "loopback"},
                                                    {"2130706433", "loopback"},
                                                    {"0.0.0.0", "unspecified"},
                                                    {"169.254.169.254", "link-local"},
                                                    {"169.254.170.2", "link-local"},
                                                    {"100.100.100.200", "cloud metadata"},
                                                    {"224.0.0.1", "multicast"},
                                                    {"255.255.255.255", "multicast"},
                                                    {"::1", "loopback"},
                                                    {"[::1]", "loopback"},
                                                    {"::", "unspecified"},
                                                    {"fe80::1", "link-local"},
                                                    {"fd00:ec2::254", "cloud metadata"},
                                                    {"fd00:ec2::23", "cloud metadata"},
                                                    {"ff02::1", "multicast"},
                                                    {"::ffff:127.0.0.1", "loopback"},
                                                    {"::ffff:169.254.169.254", "link-local"},
                                                    {"::127.0.0.1", "loopback"},
                                                    {"64:ff9b::a9fe:a9fe", "link-local"},
                                                    {"2002:7f00:1::", "loopback"},
                                                    {"8.8.8.8", ""},
                                                    {"10.0.0.1", ""},
                                                    {"192.168.1.1", ""},
                                                    {"100.100.100.201", ""},
                                                    {"2606:4700::1111", ""},
                                                    {"fd12:3456::1", ""},
                                                    {"64:ff9b::808:808", ""},
                                                    {"example.com", "not an address"},
                                                    {"dead.beef", "not an address"}};
  for (const auto& [text, kind] : kinds) {
    EXPECT_EQ(kind_of(text), kind) << text;
  }
}

std::string refusal(std::string_view uri, const StoreConfig& config) {
  return refusal_of(ObjectUri::parse(uri), config);
}

TEST(AllowLists, BucketsAreGlobs) {
  StoreConfig config;
  EXPECT_THAT(refusal("s3://any/k", config), IsEmpty());
  config.allowed_buckets = {"models", "team-*"};
  EXPECT_THAT(refusal("s3://models/k", config), IsEmpty());
  EXPECT_THAT(refusal("s3://team-a/k", config), IsEmpty());
  EXPECT_THAT(refusal("s3://models2/k", config),
              HasSubstr("bucket \"models2\" is not allowed here; allowed: models, team-*"));
}

TEST(AllowLists, HostsAreGlobsOfNamesWithOrWithoutPort) {
  StoreConfig config;
  config.allowed_hosts = {"*.Example.com", "files.internal:8443"};
  EXPECT_THAT(refusal("https://a.example.com/x", config), IsEmpty());
  EXPECT_THAT(refusal("https://A.EXAMPLE.com:444/x", config), IsEmpty());
  EXPECT_THAT(refusal("https://files.internal:8443/x", config), IsEmpty());
  for (const std::string_view other : {"https://files.internal/x",
                                       "https://example.com/x",
                                       "https://a.example.com.evil.org/x",
                                       "https://evil.org/a.example.com"}) {
    EXPECT_THAT(refusal(other, config), HasSubstr("is not allowed here")) << other;
  }
}

TEST(AllowLists, LocalNamesAreRefusedUnlessAllowedOrTheOwnEndpoint) {
  StoreConfig config;
  for (const std::string_view uri : {"https://localhost/x",
                                     "https://LOCALHOST:9/x",
                                     "https://api.localhost/x",
                                     "https://127.0.0.1:9000/x",
                                     "https://2130706433/x",
                                     "https://[::1]/x",
                                     "https://[::ffff:169.254.169.254]/latest",
                                     "https://169.254.169.254/latest",
                                     "https://metadata.google.internal/x",
                                     "https://metadata.google.internal./x"}) {
    EXPECT_THAT(refusal(uri, config), HasSubstr("requests may not name")) << uri;
  }
  EXPECT_THAT(refusal("https://10.1.2.3/x", config), IsEmpty());
  config.endpoint = "https://127.0.0.1:9000/";
  EXPECT_THAT(refusal("https://127.0.0.1:9000/x", config), IsEmpty());
  EXPECT_THAT(refusal("https://127.0.0.1:9001/x", config), HasSubstr("loopback"));
  config.allow_local_addresses = true;
  EXPECT_THAT(refusal("https://localhost/x", config), IsEmpty());
}

TEST(AllowLists, HttpAndFilesOnlyWhereAllowed) {
  StoreConfig config;
  config.allow_file = false;
  EXPECT_THAT(refusal("http://example.com/x", config), HasSubstr("use https://"));
  EXPECT_THAT(refusal("file:///etc/passwd", config), HasSubstr("local path"));
  config.allow_http = config.allow_file = true;
  EXPECT_THAT(refusal("http://example.com/x", config), IsEmpty());
  EXPECT_THAT(refusal("file:///etc/passwd", config), IsEmpty());
}

TEST(Proxies, ComeFromTheEnvironmentAsCurlReadsThem) {
  std::map<std::string, std::string, std::less<>> variables = {{"HTTPS_PROXY", "http://upper:1"},
                                                               {"HTTP_PROXY", "http://ignored:1"}};
  const EnvironmentLookup lookup = [&](std::string_view name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    return found == variables.end() ? std::nullopt : std::optional(found->second);
  };
  EXPECT_EQ(proxies_from_environment(lookup).https, "http://upper:1");
  EXPECT_EQ(proxies_from_environment(lookup).http, "");
  variables["https_proxy"] = "http://lower:1";
  variables["all_proxy"] = "socks5://all:1";
  EXPECT_EQ(proxies_from_environment(lookup).https, "http://lower:1");
  EXPECT_EQ(proxies_from_environment(lookup).http, "socks5://all:1");
}

TEST(Proxies, ExceptionsAreNamesSubdomainsAddressesAndNetworks) {
  const ProxySettings proxies{
      .https = "p", .http = "q", .no_proxy = "internal.example, .corp,10.0.0.0/8,[fd00::]/8"};
  EXPECT_EQ(proxy_for(proxies, "https", "public.org"), "p");
  EXPECT_EQ(proxy_for(proxies, "http", "public.org"), "q");
  for (const std::string_view host : {"internal.example",
                                      "a.Internal.Example",
                                      "x.corp",
                                      "10.9.8.7",
                                      "localhost",
                                      "127.0.0.1",
                                      "::1"}) {
    EXPECT_EQ(proxy_for(proxies, "https", host), "") << host;
  }
  for (const std::string_view host : {"notinternal.example", "11.0.0.1", "corp.org"}) {
    EXPECT_EQ(proxy_for(proxies, "https", host), "p") << host;
  }
  EXPECT_EQ(proxy_for({.https = "p", .http = "", .no_proxy = "*"}, "https", "public.org"), "");
}

}  // namespace
}  // namespace onnxferry
