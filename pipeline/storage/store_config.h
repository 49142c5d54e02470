#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/storage/credentials.h"
#include "pipeline/storage/object_store.h"

namespace onnxferry {

/// How often and how long to try again. Delays are random in [0, min(cap, base * 2^n)].
struct RetryPolicy {
  /// Tries of one request that fails in an ordinary way (500, reset in the middle of a body, bad
  /// digest), the first included. Counted anew after each MiB of progress.
  int attempts = 8;
  std::chrono::milliseconds backoff_base{100};
  std::chrono::milliseconds backoff_cap{5'000};
  /// How long to wait for a store that is unreachable (refused, timed out, unknown host) or
  /// overloaded (502, 503, 504, SlowDown) before Error{kUnavailable}. 0: do not wait, `attempts`
  /// applies to these too.
  std::chrono::milliseconds outage_bound{600'000};
  /// An outage shorter than this is not reported to the StageObserver.
  std::chrono::milliseconds outage_notice{1'000};
};

enum class ConditionalWrites : std::uint8_t {
  kAuto,  ///< If-None-Match: *; a store that answers 501 gets GET + PUT + GET instead (racy)
  kOff,   ///< always GET + PUT + GET: for stores that ignore If-None-Match
};
enum class UploadChecksum : std::uint8_t {
  kAuto,  ///< kCrc64Nvme for AWS, kMd5 for all others: every store verifies that
  kMd5,
  kCrc32c,
  kCrc64Nvme,
  kNone,
};

/// Everything the stores need to know, apart from credentials. Plain data with checked defaults.
struct StoreConfig {
  std::string endpoint;  ///< http(s)://host[:port]; empty: AWS itself
  std::string region = "us-east-1";
  std::optional<bool> path_style;  ///< absent: true for an own endpoint, false for AWS
  std::string ca_bundle;           ///< PEM file; empty: the system's
  int connections = 8;             ///< parallel transfers per store, 1 to 64
  /// Size of a range or part; at least 5 MiB. Larger for objects of more than 9,000 parts.
  std::uint64_t part_bytes = 16ULL << 20U;
  std::chrono::milliseconds connect_timeout{3'000};
  /// A transfer that moves less than 1 KiB/s for this long is given up and tried again.
  std::chrono::seconds stall_timeout{30};
  RetryPolicy retry;
  ConditionalWrites conditional = ConditionalWrites::kAuto;
  UploadChecksum checksum = UploadChecksum::kAuto;
  std::vector<std::string> allowed_buckets;  ///< globs; empty: all
  std::vector<std::string> allowed_hosts;  ///< of https:// inputs: globs of host[:port]; empty: all
  bool allow_http = false;                 ///< take http:// inputs, too
  /// Let https:// inputs come from loopback, link-local and metadata addresses.
  bool allow_local_addresses = false;
  bool allow_file = true;  ///< file:// and local paths; a queue worker says false
  /// Told once what an operator should know of a bucket; empty: nobody. Thread: any.
  std::function<void(std::string_view sentence)> notice;
};

/// Fill endpoint (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's endpoint_url), region
/// (AWS_REGION, AWS_DEFAULT_REGION, the profile's region) and ca_bundle (AWS_CA_BUNDLE).
StoreConfig store_config_from_environment(const EnvironmentLookup& environment);

/// \return every problem of the configuration, one sentence each; empty when it is sound
std::vector<std::string> check_store_config(const StoreConfig& config);

/// Open the door to all stores of this configuration. Credentials are looked for at the first
/// request to an S3 store, so local work needs none.
/// \throws Error{kInvalidRequest} naming all problems of `config`
std::unique_ptr<Stores> make_stores(StoreConfig config, EnvironmentLookup environment);

/// The size of parts for an object: `part_bytes`, or more so that 9,000 parts suffice (the limit is
/// 10,000), in whole MiB.
std::uint64_t part_size_for(std::uint64_t object_bytes, std::uint64_t part_bytes);

}  // namespace onnxferry
