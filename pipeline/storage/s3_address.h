#pragma once

#include <string>
#include <string_view>

#include "pipeline/storage/store_config.h"

namespace onnxferry {

/// Where one bucket is asked for: scheme, host, path and region, and what answers teach of them.
/// Path style puts the bucket into the path, virtual-host style into the host name. Automatic:
/// virtual for AWS unless a '.' in the bucket would break the certificate's wildcard, path for
/// servers of one's own.
class S3Address {
 public:
  S3Address(const StoreConfig& config, std::string bucket);

  [[nodiscard]] const std::string& scheme() const { return scheme_; }
  /// With a port that is not the scheme's own.
  [[nodiscard]] std::string host() const;
  /// Raw, as it is signed; begins with '/'.
  [[nodiscard]] std::string path(std::string_view key) const;
  [[nodiscard]] const std::string& region() const { return region_; }
  [[nodiscard]] const std::string& bucket() const { return bucket_; }
  [[nodiscard]] bool is_aws() const { return !aws_prefix_.empty(); }

  /// Use this region from now on. \return false: nothing new
  bool learn_region(std::string_view region);
  /// Use the host of a redirect (a URL or a host) from now on, if it belongs to the same service:
  /// a host below the same endpoint. Its scheme is not taken over.
  /// \return false: another service, or nothing new
  bool learn_host(std::string_view location);

 private:
  [[nodiscard]] std::string base_host() const;

  std::string bucket_;
  std::string scheme_ = "https";
  std::string endpoint_host_;  // empty: AWS itself
  std::string aws_prefix_;  // of AWS's host names: "s3", "s3-fips", "s3.dualstack"; empty: not AWS
  std::string region_;
  std::string learnt_host_;
  bool is_path_style_ = true;
};

}  // namespace onnxferry
