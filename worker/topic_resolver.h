#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "worker/kafka_handles.h"
#include "worker/transaction.h"

namespace onnxferry {

/// Which topics exist, and where the records of a transaction go. Asked before the transaction
/// begins: a missing topic would abort the whole batch after transaction.timeout.ms.
///
/// Answers are kept, for minutes when the topic exists and for seconds when it does not. The topic
/// handles stay open, as the first use of a topic costs a second in librdkafka 2.0.2.
/// Thread: that of the producer.
class TopicResolver {
 public:
  /// Why the transaction cannot begin.
  struct Refusal {
    std::string reason;
    std::string missing_topic;  ///< not empty: the topic of a record that goes nowhere else
  };

  /// Look topics up with this producer from now on. \pre forget() before an earlier one dies
  void use(rd_kafka_t* producer) { producer_ = producer; }
  void forget();

  /// Partition count; 0: the topic does not exist or may not be used; nullopt: nobody answered.
  std::optional<int> find(const std::string& topic);

  /// Settle the topic and the partition of every record (MissingTopic); a partition that the topic
  /// has not is dropped with a WARN line, so that the key chooses.
  /// \return nothing when all can be produced; otherwise `records` is as it was or partly settled
  std::optional<Refusal> resolve(std::vector<OutgoingRecord>& records);

 private:
  struct KnownTopic {
    KafkaTopic handle;
    int partitions = 0;
    std::chrono::steady_clock::time_point checked;
  };

  std::optional<int> settle(OutgoingRecord& record);

  rd_kafka_t* producer_ = nullptr;
  std::map<std::string, KnownTopic> topics_;
};

}  // namespace onnxferry
