#pragma once

#include <chrono>
#include <regex>

#include "worker/job.h"
#include "worker/worker_config.h"

namespace onnxferry {

/// Turns a record into a job that may run, or into one that is answered at once: bytes that cannot
/// be decoded, a request that is wrong or asks for what this build lacks, a reply topic that is not
/// allowed, a request that has expired. Of a record of a retry topic the job is the original's,
/// with its attempts and the time it is due. Never throws on input. Thread: one.
class Intake {
 public:
  explicit Intake(const WorkerConfig& config);

  /// \return in state kWaiting, or kEnded with its reply
  [[nodiscard]] std::unique_ptr<Job> admit(Record record,
                                           std::chrono::system_clock::time_point now) const;

 private:
  void take_ticket_off(Job& job, std::chrono::system_clock::time_point now) const;
  [[nodiscard]] bool may_reply_to(const std::string& topic) const;

  const WorkerConfig& config_;
  std::regex allowed_reply_topics_;
};

/// Who works on it, as replies and progress events say.
v1::WorkerInfo worker_info(const v1::ExportRequest& request);

/// End a job with this failure. \param dead_letter  also copy its record to the dead letters
enum class DeadLetter : std::uint8_t { kNo, kYes };
void end_job(Job& job, v1::Failure failure, DeadLetter dead_letter);
void end_job(Job& job, v1::ExportResult result);

}  // namespace onnxferry
