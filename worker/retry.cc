#include "worker/retry.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "messages/text.h"
#include "messages/timestamps.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

// The ticket is the last headers of the record, in this order: the original may have headers of the
// same names.
constexpr std::array kTicketHeaders = {messages::kRetryRequestId,
                                       messages::kRetryAttempt,
                                       messages::kRetryNotBefore,
                                       messages::kOriginalTopic,
                                       messages::kOriginalPartition,
                                       messages::kOriginalOffset,
                                       messages::kOriginalTimestampType,
                                       messages::kSpringAttempts,
                                       messages::kSpringBackoffTimestamp,
                                       messages::kSpringOriginalTimestamp};
constexpr std::string_view kLogAppendTime = "LogAppendTime";
constexpr std::string_view kCreateTime = "CreateTime";
/// More than any configuration allows: the number is not ours.
constexpr unsigned kMaxAttempts = 1'000;

template <typename Integer>
std::optional<Integer> read_number(const std::string& text) {
  Integer value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_whole = error == std::errc() && end == text.data() + text.size();
  return is_whole && std::cmp_greater_equal(value, 0) ? std::optional(value) : std::nullopt;
}

std::optional<system_clock::time_point> read_time(const std::string& text) {
  google::protobuf::Timestamp timestamp;
  if (!messages::parse_rfc3339(text, timestamp) || !messages::is_in_range(timestamp)) {
    return std::nullopt;
  }
  return messages::to_time_point(timestamp);
}

/// The ticket's headers; empty when the record does not end in them.
std::span<const messages::Header> find_ticket(const messages::Headers& headers) {
  if (headers.size() < kTicketHeaders.size()) {
    return {};
  }
  const auto last = std::span(headers).last(kTicketHeaders.size());
  const bool matches = std::ranges::equal(
      last, kTicketHeaders, [](const messages::Header& header, std::string_view name) {
        return header.name == name && header.value.has_value();
      });
  return matches ? last : std::span<const messages::Header>();
}

/// A position that this fleet can have moved from: a forged one would name the dead-letter topic.
bool is_origin(const messages::RecordPosition& origin,
               const Record& record,
               const WorkerConfig& config) {
  const std::string& retry = record.position.topic;
  return origin.topic == retry ||
         (std::ranges::find(config.request_topics, origin.topic) != config.request_topics.end() &&
          retry_topic_of(config, origin.topic) == retry);
}

std::string refuse(std::string_view name, const messages::Header& header) {
  return fmt::format("{}: {}", name, messages::quote(*header.value));
}

}  // namespace

OutgoingRecord make_retry(const Job& job,
                          const WorkerConfig& config,
                          system_clock::time_point not_before) {
  const auto due_ms =
      std::chrono::duration_cast<milliseconds>(not_before.time_since_epoch()).count();
  const std::array<std::string, kTicketHeaders.size()> values = {
      job.request_id(),
      std::to_string(job.attempt),
      messages::to_rfc3339(system_clock::time_point(milliseconds(due_ms))),
      job.origin.topic,
      std::to_string(job.origin.partition),
      std::to_string(job.origin.offset),
      std::string(job.record.log_append_time ? kLogAppendTime : kCreateTime),
      messages::to_big_endian(static_cast<std::int32_t>(job.attempt)),
      messages::to_big_endian(static_cast<std::int64_t>(due_ms)),
      messages::to_big_endian(job.record.timestamp_ms)};
  OutgoingRecord record;
  record.topic = retry_topic_of(config, job.origin.topic);
  record.when_missing = MissingTopic::kRefuse;
  record.key = job.record.key;
  record.value = job.record.value;
  record.headers = job.record.headers;
  for (std::size_t i = 0; i < values.size(); ++i) {
    record.headers.push_back({std::string(kTicketHeaders.at(i)), values.at(i)});
  }
  return record;
}

std::optional<RetryTicket> take_ticket(Record& record,
                                       const WorkerConfig& config,
                                       std::string& problem) {
  const std::span<const messages::Header> ticket = find_ticket(record.headers);
  if (ticket.empty()) {
    problem = "its headers do not end with those of a retry";
    return std::nullopt;
  }
  const auto attempts = read_number<unsigned>(*ticket[1].value);
  const auto not_before = read_time(*ticket[2].value);
  const auto partition = read_number<std::int32_t>(*ticket[4].value);
  const auto offset = read_number<std::int64_t>(*ticket[5].value);
  const std::string& type = *ticket[6].value;
  const auto timestamp = messages::from_big_endian<std::int64_t>(*ticket[9].value);
  RetryTicket taken{.origin = {*ticket[3].value, partition.value_or(0), offset.value_or(0)},
                    .attempts = attempts.value_or(0),
                    .not_before = not_before.value_or(system_clock::time_point())};
  const std::array<bool, 7> good = {taken.attempts >= 1 && taken.attempts <= kMaxAttempts,
                                    not_before.has_value(),
                                    is_origin(taken.origin, record, config),
                                    partition.has_value(),
                                    offset.has_value(),
                                    type == kLogAppendTime || type == kCreateTime,
                                    timestamp.has_value() && *timestamp >= -1};
  constexpr std::array<std::size_t, 7> kHeaderOf = {1, 2, 3, 4, 5, 6, 9};
  for (std::size_t i = 0; i < good.size(); ++i) {
    if (!good.at(i)) {
      problem = refuse(kTicketHeaders.at(kHeaderOf.at(i)), ticket[kHeaderOf.at(i)]);
      return std::nullopt;
    }
  }
  record.log_append_time = type == kLogAppendTime;
  record.timestamp_ms = *timestamp;
  record.headers.resize(record.headers.size() - kTicketHeaders.size());
  return taken;
}

milliseconds time_until_due(const RetryTicket& ticket,
                            const WorkerConfig& config,
                            system_clock::time_point now) {
  if (ticket.not_before <= now) {
    return milliseconds(0);  // the difference of far times would overflow
  }
  return std::min(std::chrono::ceil<milliseconds>(ticket.not_before - now),
                  milliseconds(config.retry_delay_ms));
}

}  // namespace onnxferry
