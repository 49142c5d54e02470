#include "worker/config_options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <regex>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "pipeline/storage/encoding.h"
#include "pipeline/tasks.h"

namespace onnxferry {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

constexpr std::string_view kPrefix = "ONNXFERRY_";
constexpr std::string_view kKafkaPrefix = "ONNXFERRY_KAFKA_";
/// Read elsewhere than in the table below.
constexpr std::array<std::string_view, 3> kOtherVariables = {
    "ONNXFERRY_BOOTSTRAP", "ONNXFERRY_CONFIG", "ONNXFERRY_FAILPOINT"};

std::string environment_name(std::string_view flag) {
  std::string name(kPrefix);
  for (const char c : flag) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

std::string lower(std::string text) {
  std::ranges::transform(
      text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    if (!part.empty()) {
      parts.push_back(part);
    }
  }
  return parts;
}

// A setter returns what is wrong with the text; empty when it was taken.
using Setter = std::function<std::string(WorkerConfig&, const std::string&)>;
using Printer = std::function<std::string(const WorkerConfig&)>;

template <typename Number>
std::string parse_number(const std::string& text, Number& out) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return fmt::format(
        "\"{}\" is not a whole number{}", text, std::is_unsigned_v<Number> ? " >= 0" : "");
  }
  out = value;
  return {};
}

std::string parse_bool(const std::string& text, bool& out) {
  if (text != "true" && text != "false") {
    return fmt::format("\"{}\" is neither true nor false", text);
  }
  out = text == "true";
  return {};
}

/// What Kubernetes puts into the environment of a pod for a service named onnxferry or
/// onnxferry-kafka…, which nobody wrote for us.
bool is_service_link(const std::string& name) {
  static const std::regex kLink(
      ".*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)");
  return std::regex_match(name, kLink);
}

bool is_secret(std::string_view property) {
  return property.find("password") != std::string_view::npos ||
         property.find("secret") != std::string_view::npos ||
         property.find("key.pem") != std::string_view::npos ||
         property == "sasl.oauthbearer.config" || property == "sasl.jaas.config";
}

}  // namespace

struct ConfigOptions::Row {
  std::string_view name;
  std::string_view help;
  Setter set;
  Printer print;
};

namespace {

template <typename Access>
auto text_row(std::string_view name, std::string_view help, Access access) {
  return std::tuple{
      name,
      help,
      Setter([access](WorkerConfig& config, const std::string& text) {
        access(config) = text;
        return std::string();
      }),
      Printer([access](const WorkerConfig& config) -> std::string { return access(config); })};
}

template <typename Access>
auto list_row(std::string_view name, std::string_view help, Access access) {
  return std::tuple{name,
                    help,
                    Setter([access](WorkerConfig& config, const std::string& text) {
                      access(config) = split(text);
                      return std::string();
                    }),
                    Printer([access](const WorkerConfig& config) {
                      return fmt::format("{}", fmt::join(access(config), ","));
                    })};
}

template <typename Access>
auto number_row(std::string_view name, std::string_view help, Access access) {
  return std::tuple{
      name,
      help,
      Setter([access](WorkerConfig& config, const std::string& text) {
        return parse_number(text, access(config));
      }),
      Printer([access](const WorkerConfig& config) { return fmt::format("{}", access(config)); })};
}

template <typename Access>
auto bool_row(std::string_view name, std::string_view help, Access access) {
  return std::tuple{name,
                    help,
                    Setter([access](WorkerConfig& config, const std::string& text) {
                      return parse_bool(text, access(config));
                    }),
                    Printer([access](const WorkerConfig& config) {
                      return std::string(access(config) ? "true" : "false");
                    })};
}

template <typename Value>
using Choice = std::pair<std::string_view, Value>;

constexpr std::array<Choice<std::optional<bool>>, 3> kAddressings = {
    {{"auto", std::nullopt}, {"path", true}, {"virtual", false}}};
constexpr std::array<Choice<ConditionalWrites>, 2> kConditionals = {
    {{"auto", ConditionalWrites::kAuto}, {"off", ConditionalWrites::kOff}}};
constexpr std::array<Choice<UploadChecksum>, 5> kChecksums = {
    {{"auto", UploadChecksum::kAuto},
     {"md5", UploadChecksum::kMd5},
     {"crc32c", UploadChecksum::kCrc32c},
     {"crc64nvme", UploadChecksum::kCrc64Nvme},
     {"none", UploadChecksum::kNone}}};

/// One of a few words.
template <typename Choices, typename Access>
auto choice_row(std::string_view name,
                std::string_view help,
                const Choices& choices,
                Access access) {
  using Pair = typename Choices::value_type;
  return std::tuple{
      name,
      help,
      Setter([&choices, access](WorkerConfig& config, const std::string& text) {
        const auto found = std::ranges::find(choices, text, &Pair::first);
        if (found == choices.end()) {
          std::string known;
          for (const Pair& choice : choices) {
            known += fmt::format("{}{}", known.empty() ? "" : ", ", choice.first);
          }
          return fmt::format("\"{}\" is unknown; expected {}", text, known);
        }
        access(config) = found->second;
        return std::string();
      }),
      Printer([&choices, access](const WorkerConfig& config) {
        return std::string(std::ranges::find(choices, access(config), &Pair::second)->first);
      })};
}

template <typename Access>
auto duration_row(std::string_view name, std::string_view help, Access access) {
  return std::tuple{name,
                    help,
                    Setter([access](WorkerConfig& config, const std::string& text) {
                      std::int64_t value = 0;
                      std::string problem = parse_number(text, value);
                      using Duration = std::remove_reference_t<decltype(access(config))>;
                      access(config) = duration_cast<Duration>(milliseconds(value));
                      return problem;
                    }),
                    Printer([access](const WorkerConfig& config) {
                      return fmt::format("{}", milliseconds(access(config)).count());
                    })};
}

}  // namespace

// clang-format off
// NOLINTNEXTLINE(bugprone-macro-parentheses): a member's name, not a value
#define FIELD(member) [](auto& config) -> auto& { return config.member; }
const std::vector<ConfigOptions::Row>& ConfigOptions::table() {
  const auto row = [](auto parts) { return std::make_from_tuple<Row>(std::move(parts)); };
  static const std::vector<Row> rows = [&row] {
    std::vector<Row> list;
    list.push_back(row(text_row("brokers", "Kafka bootstrap servers, host:port[,host:port]", FIELD(brokers))));
    list.push_back(row(text_row("group", "consumer group; one per fleet", FIELD(group))));
    list.push_back(row(list_row("request-topic", "topics to read requests from, comma-separated", FIELD(request_topics))));
    list.push_back(row(text_row("reply-topic", "default topic of replies", FIELD(reply_topic))));
    list.push_back(row(text_row("reply-topic-allow", "regular expression of the topics a request may name in kafka_replyTopic; empty: none", FIELD(reply_topic_allow))));
    list.push_back(row(text_row("dlq-topic", "topic of dead letters; empty: <request topic>.dlq", FIELD(dlq_topic))));
    list.push_back(row(text_row("cancel-topic", "topic of cancel records, keyed by request id; empty: off", FIELD(cancel_topic))));
    list.push_back(row(text_row("progress-topic", "topic of progress events; empty: off", FIELD(progress_topic))));
    list.push_back(row(text_row("retry-topic", "topic of requests that wait for their next attempt; empty: <request topic>.retry; if it does not exist, they wait in place", FIELD(retry_topic))));
    list.push_back(row(number_row("max-reply-bytes", "longer replies are shortened; keep it below max.message.bytes of the topic", FIELD(max_reply_bytes))));
    list.push_back(row(number_row("publish-deadline-ms", "repeats of one transaction step end after this; the producer is made anew then", FIELD(publish_deadline_ms))));
    list.push_back(row(number_row("broker-outage-limit-ms", "when no broker has answered for so long and no job runs, the process ends with status 1, to be started anew; 0: never", FIELD(broker_outage_limit_ms))));
    list.push_back(row(number_row("max-jobs", "job processes at a time", FIELD(max_jobs))));
    list.push_back(row(number_row("max-attempts", "starts of one request before it is answered with its failure", FIELD(max_attempts))));
    list.push_back(row(number_row("retry-delay-ms", "wait between two attempts in the retry topic; the same for all workers of a fleet", FIELD(retry_delay_ms))));
    list.push_back(row(number_row("retry-backoff-ms", "without a retry topic: wait in place before the second attempt, doubled for each further one", FIELD(retry_backoff_ms))));
    list.push_back(row(number_row("retry-backoff-max-ms", "longest wait in place", FIELD(retry_backoff_max_ms))));
    list.push_back(row(number_row("handover-limit-ms", "a partition that is to move to another worker waits so long for its running jobs; 0: not at all; at most 3/4 of max.poll.interval.ms", FIELD(handover_limit_ms))));
    list.push_back(row(number_row("readopt-grace-ms", "how long the job of a revoked partition runs on in case the partition comes back", FIELD(readopt_grace_ms))));
    list.push_back(row(number_row("drain-grace-ms", "after SIGTERM: time for running jobs to end before they are cancelled", FIELD(drain_grace_ms))));
    list.push_back(row(number_row("kill-grace-ms", "time between SIGTERM and SIGKILL of a job process", FIELD(kill_grace_ms))));
    list.push_back(row(number_row("job-memory-bytes", "memory of a job: RLIMIT_DATA, and memory.max where it has a control group; 0: no limit", FIELD(job_memory_bytes))));
    list.push_back(row(number_row("job-cpu-seconds", "CPU time of one attempt, all threads together; 0: no limit", FIELD(job_cpu_seconds))));
    list.push_back(row(number_row("job-wall-seconds", "duration of one attempt, waiting for the store included; 0: no limit", FIELD(job_wall_seconds))));
    list.push_back(row(number_row("job-cpu-percent", "processor share of a job, 100 is one processor; needs a delegated control group; 0: no limit", FIELD(job_cpu_percent))));
    list.push_back(row(bool_row("job-cgroups", "run each job in a control group of its own where that is possible", FIELD(job_cgroups))));
    list.push_back(row(text_row("scratch", "directory for locks and the jobs' files", FIELD(scratch))));
    list.push_back(row(number_row("min-scratch-bytes", "with less free space no job is started", FIELD(min_scratch_bytes))));
    list.push_back(row(number_row("weights-cache-bytes", "unpacked weights kept for further exports of the same archive, where requests permit it (keep_weights); 0: none", FIELD(weights_cache_bytes))));
    list.push_back(row(text_row("onnxruntime", "path of the ONNX Runtime library; empty: search", FIELD(onnxruntime_library))));
    list.push_back(row(list_row("job-command", "program of a job process, comma-separated (for tests)", FIELD(job_command))));
    list.push_back(row(text_row("s3-endpoint", "http(s)://host[:port]; empty: AWS", FIELD(stores.endpoint))));
    list.push_back(row(text_row("s3-region", "region of the store", FIELD(stores.region))));
    list.push_back(row(text_row("s3-ca-bundle", "PEM file of trusted authorities; empty: the system's", FIELD(stores.ca_bundle))));
    list.push_back(row(number_row("s3-connections", "parallel transfers of a job, 1 to 64", FIELD(stores.connections))));
    list.push_back(row(number_row("s3-part-bytes", "size of a range or part", FIELD(stores.part_bytes))));
    list.push_back(row(choice_row("s3-addressing", "auto (virtual for AWS, else path), path or virtual", kAddressings, FIELD(stores.path_style))));
    list.push_back(row(choice_row("s3-conditional", "auto or off: for stores that ignore If-None-Match; off is racy", kConditionals, FIELD(stores.conditional))));
    list.push_back(row(choice_row("s3-checksum", "of uploads: auto (crc64nvme for AWS, else md5), md5, crc32c, crc64nvme or none", kChecksums, FIELD(stores.checksum))));
    list.push_back(row(list_row("allow-bucket", "glob of the buckets a request may name, repeatable; none: all", FIELD(stores.allowed_buckets))));
    list.push_back(row(list_row("allow-host", "glob of the hosts an https:// input may come from, repeatable; none: all public ones", FIELD(stores.allowed_hosts))));
    list.push_back(row(bool_row("allow-http", "accept http:// inputs", FIELD(stores.allow_http))));
    list.push_back(row(bool_row("allow-local-addresses", "let https:// inputs come from loopback, link-local and metadata addresses", FIELD(stores.allow_local_addresses))));
    list.push_back(row(duration_row("store-outage-bound-ms", "how long a job waits for an unavailable store", FIELD(stores.retry.outage_bound))));
    list.push_back(row(bool_row("allow-file", "accept file:// in requests", FIELD(stores.allow_file))));
    list.push_back(row(number_row("max-archive-entries", "entries of an archive", FIELD(limits.max_entries))));
    list.push_back(row(number_row("max-archive-file-bytes", "size of one file of an archive", FIELD(limits.max_file_bytes))));
    list.push_back(row(number_row("max-archive-bytes", "size of all files of an archive", FIELD(limits.max_total_bytes))));
    list.push_back(row(text_row("http", "host:port of /livez, /readyz and /metrics; port 0: any; empty: none", FIELD(http))));
    list.push_back(row(text_row("otlp-endpoint", "http(s)://host:port of an OpenTelemetry collector for spans (OTLP/HTTP); empty: what OTEL_EXPORTER_OTLP_ENDPOINT says, else none", FIELD(tracing.endpoint))));
    list.push_back(row(text_row("log-level", "debug, info, warn or error", FIELD(log_level))));
    list.push_back(Row{"log-format", "text or json",
                       [](WorkerConfig& config, const std::string& text) {
                         config.log_format = text == "json" ? LogFormat::kJson : LogFormat::kText;
                         return text == "json" || text == "text" ? std::string() : fmt::format("\"{}\" is neither text nor json", text);
                       },
                       [](const WorkerConfig& config) { return std::string(config.log_format == LogFormat::kJson ? "json" : "text"); }});
    return list;
  }();
  return rows;
}
#undef FIELD
// clang-format on

ConfigOptions::ConfigOptions(CLI::App& app) {
  const WorkerConfig defaults;
  for (const Row& row : table()) {
    const std::string variable = environment_name(row.name);
    CLI::Option* option = app.add_option("--" + std::string(row.name))
                              ->description(fmt::format("{} [{}]", row.help, variable))
                              ->default_str(row.print(defaults));
    if (row.name == "job-command") {
      option->group("");
    }
    if (row.name == "allow-bucket" || row.name == "allow-host") {
      option->take_all()->allow_extra_args(false);  // one value each time it is given
    }
    options_.emplace(row.name, option);
  }
  app.add_option("--kafka", kafka_, "librdkafka property key=value [ONNXFERRY_KAFKA_<PROPERTY>]")
      ->take_all();
  app.add_option("--config", config_file_, "configuration file, TOML or INI; keys as the flags")
      ->envname("ONNXFERRY_CONFIG");
  app.add_flag("--check-config",
               check_only_,
               "print the effective configuration or all its problems, and end (exit code 0 or 2)");
}

ConfigOptions::~ConfigOptions() = default;

namespace {

struct Loader {
  WorkerConfig& config;
  std::vector<FieldProblem>& problems;

  void kafka(std::string_view source, const std::string& entry) {
    const std::size_t equals = entry.find('=');
    if (equals == std::string::npos || equals == 0) {
      // Only what can be a property's name: the rest may be a password.
      const std::size_t end = entry.find_first_not_of("abcdefghijklmnopqrstuvwxyz.");
      problems.push_back({std::string(source),
                          fmt::format("\"{}{}\" is not key=value",
                                      entry.substr(0, end),
                                      end == std::string::npos ? "" : "…")});
      return;
    }
    config.kafka[entry.substr(0, equals)] = entry.substr(equals + 1);
  }
};

struct FileEntry {
  std::string section;
  std::string name;
  std::string value;
};

std::vector<FileEntry> read_config_file(const std::string& path,
                                        std::vector<FieldProblem>& problems) {
  std::ifstream stream(path);
  if (!stream) {
    problems.push_back({"config", fmt::format("cannot read {}", path)});
    return {};
  }
  std::vector<FileEntry> entries;
  try {
    for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_config(stream)) {
      if (item.name == "++" || item.name == "--") {
        continue;  // section begin and end marks
      }
      // `[kafka]` gives parents {kafka}; a dotted key splits into parents and name.
      const std::string section = item.parents.empty() ? "" : item.parents.front();
      std::string name;
      for (std::size_t i = 1; i < item.parents.size(); ++i) {
        name += item.parents[i] + '.';
      }
      entries.push_back(
          {section, name + item.name, fmt::format("{}", fmt::join(item.inputs, ","))});
    }
  } catch (const CLI::Error& error) {
    problems.push_back({"config", fmt::format("{}: {}", path, error.what())});
  }
  return entries;
}

}  // namespace

std::vector<FieldProblem> ConfigOptions::load(const EnvironmentList& environment,
                                              WorkerConfig& config) const {
  std::vector<FieldProblem> problems;
  Loader loader{config, problems};
  const auto set = [&](const Row& row, const std::string& source, const std::string& text) {
    if (std::string problem = row.set(config, text); !problem.empty()) {
      problems.push_back({source, std::move(problem)});
    }
  };
  const auto find_row = [](std::string_view name) {
    return std::ranges::find(table(), name, &Row::name);
  };
  read_otlp_environment(environment, config.tracing, problems);
  // Lowest precedence first; each later source overwrites.
  if (!config_file_.empty()) {
    for (const auto& [section, name, value] : read_config_file(config_file_, problems)) {
      const auto row = find_row(name);
      if (section == "kafka") {
        config.kafka[name] = value;
      } else if (section.empty() && row != table().end()) {
        set(*row, fmt::format("{} in {}", name, config_file_), value);
      } else {
        problems.push_back({config_file_, fmt::format("unknown key \"{}\"", name)});
      }
    }
  }
  for (const std::string& variable : environment) {
    if (variable.starts_with(kKafkaPrefix) &&
        !is_service_link(variable.substr(0, variable.find('=')))) {
      const std::string entry = variable.substr(kKafkaPrefix.size());
      const std::size_t equals = entry.find('=');
      std::string property = lower(entry.substr(0, equals));
      std::ranges::replace(property, '_', '.');
      loader.kafka(variable.substr(0, variable.find('=')), property + entry.substr(equals));
    }
    for (const Row& row : table()) {
      const std::string name = environment_name(row.name) + '=';
      if (variable.starts_with(name)) {
        set(row, name.substr(0, name.size() - 1), variable.substr(name.size()));
      }
    }
  }
  for (const auto& [name, option] : options_) {
    if (option->count() > 0) {
      set(*find_row(name), "--" + name, fmt::format("{}", fmt::join(option->results(), ",")));
    }
  }
  for (const std::string& entry : kafka_) {
    loader.kafka("--kafka", entry);
  }
  std::ranges::move(check_worker_config(config), std::back_inserter(problems));
  return problems;
}

std::string print_config(const WorkerConfig& config) {
  std::string text;
  for (const ConfigOptions::Row& row : ConfigOptions::table()) {
    text += fmt::format("{} = \"{}\"\n", row.name, mask_secrets(row.print(config)));
  }
  if (const std::string url = traces_url(config.tracing); !url.empty()) {
    text += fmt::format("# spans go to {}\n", mask_secrets(url));
  }
  if (!config.kafka.empty()) {
    text += "\n[kafka]\n";
  }
  for (const auto& [name, value] : config.kafka) {
    text += fmt::format("{} = \"{}\"\n", name, is_secret(name) ? "***" : mask_secrets(value));
  }
  return text;
}

std::vector<std::string> config_option_names() {
  std::vector<std::string> names;
  for (const ConfigOptions::Row& row : ConfigOptions::table()) {
    names.emplace_back(row.name);
  }
  return names;
}

std::vector<std::string> find_unread_variables(const ConfigOptions::EnvironmentList& environment) {
  std::vector<std::string> names;
  for (const std::string& option : config_option_names()) {
    names.push_back(environment_name(option));
  }
  std::vector<std::string_view> known(names.begin(), names.end());
  known.insert(known.end(), kOtherVariables.begin(), kOtherVariables.end());
  std::vector<std::string> warnings;
  for (const std::string& variable : environment) {
    const std::string name = variable.substr(0, variable.find('='));
    if (!name.starts_with(kPrefix) || name.starts_with(kKafkaPrefix) || is_service_link(name) ||
        std::ranges::find(known, name) != known.end()) {
      continue;
    }
    const std::string nearest = nearest_name(name, known);
    warnings.push_back(
        fmt::format("the environment variable {} is not read{}",
                    name,
                    nearest.empty() ? std::string() : fmt::format("; did you mean {}?", nearest)));
  }
  return warnings;
}

ConfigOptions::EnvironmentList environment_list() {
  ConfigOptions::EnvironmentList list;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    list.emplace_back(*variable);
  }
  return list;
}

}  // namespace onnxferry
