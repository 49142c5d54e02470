#pragma once

#include <chrono>
#include <memory>
#include <thread>

#include "worker/metrics.h"
#include "worker/otlp_settings.h"
#include "worker/tracing.h"

namespace onnxferry {

/// Posts spans to an OpenTelemetry collector (OTLP/HTTP, JSON) from a thread of its own ("otlp").
///
/// Nothing here can fail or delay a job: spans go into a queue of 2,048, the newest are dropped
/// when it is full. A batch (512 spans, or what has come in a second) that fails in a way that may
/// pass is sent once more, then given up. Failures are logged once a minute and counted in
/// `onnxferry_spans_total`.
/// Lifecycle: the destructor sends what is left and takes at most about 2 s, whatever the collector
/// does. Thread: add from any.
class OtlpExporter : public SpanSink {
 public:
  /// \pre traces_url(settings) is not empty and check_otlp_settings found nothing
  OtlpExporter(const OtlpSettings& settings, Metrics& metrics);
  ~OtlpExporter() override;
  OtlpExporter(const OtlpExporter&) = delete;
  OtlpExporter& operator=(const OtlpExporter&) = delete;

  /// Never blocks.
  void add(Span span) override;

 private:
  struct Shared;
  class Loop;

  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

/// What the collector's answer means for a batch.
enum class ExportOutcome : std::uint8_t { kSent, kRetryable, kRefused };

/// Source: OTLP specification 1.7, "OTLP/HTTP Response", "Failures".
ExportOutcome judge_status(int status);

/// Spans that the collector did not take of a batch that it accepted: `partialSuccess` of its
/// answer. 0 for anything unreadable.
std::size_t rejected_spans(std::string_view body);

}  // namespace onnxferry
