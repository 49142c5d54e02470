#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "pipeline/archive/archive.h"
#include "pipeline/error.h"
#include "pipeline/storage/store_config.h"
#include "worker/otlp_settings.h"

namespace onnxferry {

enum class LogFormat : std::uint8_t { kText, kJson };

/// Everything that `onnxferry serve` can be told. Loaded once (config_options.h), checked whole,
/// immutable afterwards.
struct WorkerConfig {
  // Kafka
  std::string brokers = "localhost:9092";
  std::string group = "onnxferry";
  std::vector<std::string> request_topics = {"onnxferry.requests"};
  std::string reply_topic = "onnxferry.replies";
  /// Whole-match regular expression of the topics that a request may name in kafka_replyTopic. The
  /// default allows none: a topic chosen by the requester is a write primitive.
  std::string reply_topic_allow;
  std::string dlq_topic;                              ///< empty: <request topic>.dlq
  std::string cancel_topic = "onnxferry.cancel";      ///< empty: requests cannot be cancelled
  std::string progress_topic = "onnxferry.progress";  ///< empty: none is sent
  std::string retry_topic;                            ///< empty: <request topic>.retry
  std::map<std::string, std::string> kafka;           ///< further librdkafka properties
  int max_reply_bytes = 900'000;  ///< encoded value; below the topic's max.message.bytes
  /// With no answer of any broker for so long, and no job running, the process ends; 0: never.
  int broker_outage_limit_ms = 900'000;
  int publish_deadline_ms = 60'000;  ///< repeats of a retriable transaction step end here

  // Jobs
  int max_jobs = 1;      ///< job processes at a time
  int max_attempts = 3;  ///< starts of one request before it is answered with its failure
  /// Between an attempt and the next one in the retry topic; the same for all workers of a fleet.
  int retry_delay_ms = 30'000;
  int retry_backoff_ms = 5'000;  ///< the same without a retry topic; doubled for each further one
  int retry_backoff_max_ms = 300'000;
  /// A partition that is to move to another worker waits so long for its running jobs.
  int handover_limit_ms = 1'800'000;
  int readopt_grace_ms = 60'000;       ///< a job of a revoked partition may run on so long
  int drain_grace_ms = 25'000;         ///< after SIGTERM, before running jobs are cancelled
  int kill_grace_ms = 10'000;          ///< between SIGTERM and SIGKILL of a job process
  std::uint64_t job_memory_bytes = 0;  ///< RLIMIT_DATA and memory.max of a job; 0: none
  std::uint64_t job_cpu_seconds = 0;   ///< CPU time of an attempt; 0: any
  int job_wall_seconds = 0;            ///< duration of an attempt; 0: any
  int job_cpu_percent = 0;             ///< cpu.max of a job, 100 is one processor; 0: none
  bool job_cgroups = true;             ///< a control group for each job where that is possible
  std::string scratch = "/var/tmp/onnxferry";
  std::uint64_t min_scratch_bytes = 1ULL << 30U;  ///< less free space: not ready, no new job
  std::uint64_t weights_cache_bytes = 0;          ///< unpacked weights kept between jobs; 0: none
  std::string onnxruntime_library;                ///< path; empty: search
  std::vector<std::string> job_command = {"/proc/self/exe", "job"};
  StoreConfig stores = {.allow_file = false};  ///< requests come from others
  ArchiveLimits limits;

  // Observation
  /// All interfaces: in a container the probes and Prometheus come from outside. Nothing here
  /// changes anything or shows a secret; bind 127.0.0.1:8080 on a shared host, "" for none.
  std::string http = "0.0.0.0:8080";
  std::string log_level = "info";
  LogFormat log_format = LogFormat::kText;
  OtlpSettings tracing;  ///< off unless traces_url() is not empty
};

/// Every problem of the configuration as a whole; `field` is the flag without its dashes.
std::vector<FieldProblem> check_worker_config(const WorkerConfig& config);

/// Beside the jobs' files, so that keeping weights is a rename.
std::string weights_cache_directory(const WorkerConfig& config);

/// Where attempts are continued of records that were first seen in `origin`: a request topic, or a
/// retry topic that somebody else has written to.
std::string retry_topic_of(const WorkerConfig& config, const std::string& origin);

bool is_retry_topic(const WorkerConfig& config, const std::string& topic);

/// Where the dead letters go of records that were first seen in `origin`, likewise.
std::string dlq_topic_of(const WorkerConfig& config, const std::string& origin);

/// All topics that the worker reads as requests, each once. A reply must never go there.
std::vector<std::string> consumed_topics(const WorkerConfig& config);

/// The librdkafka properties that exactly-once rests on or that have a flag of their own: not to be
/// passed through. \return why, empty when `property` may be set
std::string_view why_kafka_property_is_fixed(std::string_view property);

}  // namespace onnxferry
