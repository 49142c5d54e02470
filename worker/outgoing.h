#pragma once

#include <string>
#include <vector>

#include "worker/job.h"
#include "worker/transaction.h"
#include "worker/worker_config.h"

namespace onnxferry {

/// What is produced when a job ends: its reply, and its dead letter if it has one. Size-checked: a
/// record that the broker would refuse can never be committed.
///
/// After repeated aborts of this very job (`job.aborts`) the reply becomes small and goes to the
/// default topic, and in the end the dead letter is left out, so that one record cannot hold up a
/// partition for ever.
/// \pre job.state is kEnded
std::vector<OutgoingRecord> make_outgoing(const Job& job, const WorkerConfig& config);

/// Whether a broker with default limits, or those that the configuration names, takes the record.
bool fits_broker(const OutgoingRecord& record, const WorkerConfig& config);

/// The original record's bytes and headers, plus Spring Kafka's `kafka_dlt-*` headers, so that its
/// tools can show and replay it.
OutgoingRecord make_dead_letter(const Job& job, const WorkerConfig& config);

}  // namespace onnxferry
