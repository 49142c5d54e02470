#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "worker/job.h"
#include "worker/transaction.h"
#include "worker/worker_config.h"

namespace onnxferry {

/// What a record of a retry topic says beside the original record.
struct RetryTicket {
  messages::RecordPosition origin;
  unsigned attempts = 0;  ///< started so far, 1 or more
  std::chrono::system_clock::time_point not_before;
};

/// The move of a failed attempt to the retry topic: the original key, value and headers, and after
/// them the ticket, so that taking it off leaves the original bytes.
///
/// The record's own time is that of the move, as a topic's retention counts from it: a request that
/// was old, or whose sender's clock was wrong, must not be deleted while it waits. The original
/// time travels in the ticket.
OutgoingRecord make_retry(const Job& job,
                          const WorkerConfig& config,
                          std::chrono::system_clock::time_point not_before);

/// Take the ticket off: the record has its original headers and timestamp then; its position stays
/// that in the retry topic.
/// \return nullopt with `problem` filled, and the record as it was, when no worker of this fleet
/// can
///         have written it
std::optional<RetryTicket> take_ticket(Record& record,
                                       const WorkerConfig& config,
                                       std::string& problem);

/// How long the record must wait from `now` on: at most the configured delay, whatever the ticket
/// says, so that neither a wrong clock nor a forged ticket can hold its partition up.
std::chrono::milliseconds time_until_due(const RetryTicket& ticket,
                                         const WorkerConfig& config,
                                         std::chrono::system_clock::time_point now);

}  // namespace onnxferry
