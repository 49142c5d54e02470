#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "worker/worker_config.h"

namespace onnxferry {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarn, kError };

/// One field of a log line; numbers are formatted by the caller.
using LogField = std::pair<std::string_view, std::string>;

/// Set format and level of all logging; before threads start.
void configure_log(const WorkerConfig& config);

/// Write one line to stderr: time, level, fields, sentence. WARN: something was recovered from.
/// ERROR: a job failed for good or an operator is needed. Secrets are masked in every text.
/// Thread: any.
void log(LogLevel level, std::string_view sentence, std::initializer_list<LogField> fields = {});

}  // namespace onnxferry
