#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "messages/codec.h"

namespace onnxferry {

struct SubmitConfig {
  std::string bootstrap = "localhost:9092";
  std::string topic = "onnxferry.requests";
  std::string reply_topic = "onnxferry.replies";
  std::chrono::seconds timeout{3600};        ///< for the whole of produce and wait
  std::map<std::string, std::string> kafka;  ///< further librdkafka properties, e.g. for SASL
};

/// Produce one record to `config.topic` and wait until a broker has it.
/// \throws Error{kInvalidRequest} for a wrong Kafka property or a topic that does not exist;
///         Error{kUnavailable} when it could not be delivered
void send_record(SubmitConfig config, const messages::EncodedMessage& message);

/// A caller of the queue: sends one request and waits for its terminal reply.
///
/// The reply topic is assigned at its present ends before the request is produced, so the reply
/// cannot be missed, and read under read_committed, so an aborted one is never seen. No consumer
/// group is joined and nothing is committed. Use once. Thread: one.
class SubmitClient {
 public:
  /// \throws Error{kInvalidRequest} for a wrong Kafka property; Error{kUnavailable} when no broker
  ///         answers; Error{kInvalidRequest} when a topic does not exist
  explicit SubmitClient(SubmitConfig config);
  ~SubmitClient();
  SubmitClient(const SubmitClient&) = delete;
  SubmitClient& operator=(const SubmitClient&) = delete;

  /// \return the reply with this message's correlation id; nullopt after the timeout
  /// \throws Error{kUnavailable} when the request could not be delivered
  std::optional<v1::ExportReply> submit(const messages::EncodedMessage& message);

 private:
  friend void send_record(SubmitConfig config, const messages::EncodedMessage& message);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace onnxferry
