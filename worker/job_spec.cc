#include "worker/job_spec.h"

#include <chrono>

namespace onnxferry {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

v1::StoreSettings to_message(const StoreConfig& config) {
  v1::StoreSettings settings;
  settings.set_endpoint(config.endpoint);
  settings.set_region(config.region);
  if (config.path_style) {
    settings.set_path_style(*config.path_style);
  }
  settings.set_ca_bundle(config.ca_bundle);
  settings.set_connections(config.connections);
  settings.set_part_bytes(config.part_bytes);
  settings.set_connect_timeout_ms(config.connect_timeout.count());
  settings.set_stall_timeout_ms(milliseconds(config.stall_timeout).count());
  settings.set_retry_attempts(config.retry.attempts);
  settings.set_backoff_base_ms(config.retry.backoff_base.count());
  settings.set_backoff_cap_ms(config.retry.backoff_cap.count());
  settings.set_outage_bound_ms(config.retry.outage_bound.count());
  settings.set_outage_notice_ms(config.retry.outage_notice.count());
  settings.set_conditional_writes_off(config.conditional == ConditionalWrites::kOff);
  settings.set_upload_checksum(static_cast<v1::UploadChecksumKind>(config.checksum));
  for (const std::string& bucket : config.allowed_buckets) {
    settings.add_allowed_buckets(bucket);
  }
  settings.set_allow_file(config.allow_file);
  for (const std::string& host : config.allowed_hosts) {
    settings.add_allowed_hosts(host);
  }
  settings.set_allow_http(config.allow_http);
  settings.set_allow_local_addresses(config.allow_local_addresses);
  return settings;
}

StoreConfig to_store_config(const v1::StoreSettings& settings) {
  StoreConfig config;
  config.endpoint = settings.endpoint();
  config.region = settings.region();
  if (settings.has_path_style()) {
    config.path_style = settings.path_style();
  }
  config.ca_bundle = settings.ca_bundle();
  config.connections = settings.connections();
  config.part_bytes = settings.part_bytes();
  config.connect_timeout = milliseconds(settings.connect_timeout_ms());
  config.stall_timeout =
      duration_cast<std::chrono::seconds>(milliseconds(settings.stall_timeout_ms()));
  config.retry.attempts = settings.retry_attempts();
  config.retry.backoff_base = milliseconds(settings.backoff_base_ms());
  config.retry.backoff_cap = milliseconds(settings.backoff_cap_ms());
  config.retry.outage_bound = milliseconds(settings.outage_bound_ms());
  config.retry.outage_notice = milliseconds(settings.outage_notice_ms());
  config.conditional =
      settings.conditional_writes_off() ? ConditionalWrites::kOff : ConditionalWrites::kAuto;
  config.checksum = static_cast<UploadChecksum>(settings.upload_checksum());
  config.allowed_buckets.assign(settings.allowed_buckets().begin(),
                                settings.allowed_buckets().end());
  config.allow_file = settings.allow_file();
  config.allowed_hosts.assign(settings.allowed_hosts().begin(), settings.allowed_hosts().end());
  config.allow_http = settings.allow_http();
  config.allow_local_addresses = settings.allow_local_addresses();
  return config;
}

v1::ArchiveBounds to_message(const ArchiveLimits& limits) {
  v1::ArchiveBounds bounds;
  bounds.set_max_entries(limits.max_entries);
  bounds.set_max_file_bytes(limits.max_file_bytes);
  bounds.set_max_total_bytes(limits.max_total_bytes);
  bounds.set_max_metadata_file_bytes(limits.max_metadata_file_bytes);
  bounds.set_max_expansion_ratio(limits.max_expansion_ratio);
  bounds.set_max_path_bytes(limits.max_path_bytes);
  bounds.set_max_path_depth(limits.max_path_depth);
  return bounds;
}

ArchiveLimits to_archive_limits(const v1::ArchiveBounds& bounds) {
  return {.max_entries = bounds.max_entries(),
          .max_file_bytes = bounds.max_file_bytes(),
          .max_total_bytes = bounds.max_total_bytes(),
          .max_metadata_file_bytes = bounds.max_metadata_file_bytes(),
          .max_expansion_ratio = bounds.max_expansion_ratio(),
          .max_path_bytes = bounds.max_path_bytes(),
          .max_path_depth = bounds.max_path_depth()};
}

}  // namespace onnxferry
