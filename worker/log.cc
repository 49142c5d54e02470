#include "worker/log.h"

#include <chrono>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "messages/timestamps.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::string_view kNames[] = {"DEBUG", "INFO", "WARN", "ERROR"};
constexpr spdlog::level::level_enum kLevels[] = {
    spdlog::level::debug, spdlog::level::info, spdlog::level::warn, spdlog::level::err};

struct Log {
  std::shared_ptr<spdlog::logger> logger;
  LogFormat format = LogFormat::kText;
};

/// Never destroyed: at the end of the process, threads of librdkafka may still have something to
/// say (handles that are left to the end, TeardownLimit).
Log& instance() {
  static Log& log = *[] {
    auto logger = std::make_shared<spdlog::logger>(
        "onnxferry", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    logger->set_pattern("%v");
    logger->flush_on(spdlog::level::debug);
    return new Log{std::move(logger)};
  }();
  return log;
}

std::string now_text() {
  const auto now =
      std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  return messages::to_rfc3339(now);
}

/// Values with spaces or quotes are quoted, so that a line can be split again.
std::string text_value(const std::string& value) {
  const bool plain = !value.empty() && value.find_first_of(" \"=\t\n\r") == std::string::npos;
  return plain
             ? value
             : nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void configure_log(const WorkerConfig& config) {
  Log& log = instance();
  log.format = config.log_format;
  log.logger->set_level(spdlog::level::from_str(config.log_level));
}

void log(LogLevel level, std::string_view sentence, std::initializer_list<LogField> fields) {
  const auto index = static_cast<std::size_t>(level);
  const Log& log = instance();
  if (!log.logger->should_log(kLevels[index])) {
    return;
  }
  std::string line;
  if (log.format == LogFormat::kJson) {
    nlohmann::ordered_json object = {{"time", now_text()}, {"level", kNames[index]}};
    for (const auto& [name, value] : fields) {
      object[std::string(name)] = mask_secrets(value);
    }
    object["message"] = mask_secrets(sentence);
    line = object.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  } else {
    line = fmt::format("{} {:5}", now_text(), kNames[index]);
    for (const auto& [name, value] : fields) {
      line += fmt::format(" {}={}", name, text_value(mask_secrets(value)));
    }
    line += fmt::format(" {}", mask_secrets(sentence));
  }
  log.logger->log(kLevels[index], line);
}

}  // namespace onnxferry
