#include "worker/consumers.h"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

namespace onnxferry {
namespace {

constexpr std::chrono::milliseconds kClosePause{20};

/// Static members need ids of their own.
KafkaProperties properties_of_member(const WorkerConfig& config, const std::string& topic) {
  KafkaProperties properties = consumer_properties(config);
  if (const auto id = properties.find("group.instance.id"); id != properties.end()) {
    id->second += fmt::format("-{}", topic);
  }
  return properties;
}

}  // namespace

Consumers::Consumers(const WorkerConfig& config, ConsumerListener& listener) : config_(config) {
  for (const std::string& topic : consumed_topics(config)) {
    members_.emplace(
        topic,
        std::make_unique<Consumer>(config, properties_of_member(config, topic), topic, listener));
  }
  next_ = members_.begin()->first;
}

std::vector<int> Consumers::descriptors() const {
  std::vector<int> descriptors;
  for (const auto& [topic, consumer] : members_) {
    descriptors.push_back(consumer->descriptor());
  }
  return descriptors;
}

void Consumers::clear_wake_ups() const {
  for (const auto& [topic, consumer] : members_) {
    consumer->clear_wake_up();
  }
}

void Consumers::check() {
  for (const auto& [topic, consumer] : members_) {
    consumer->check();
  }
}

// In turn, so that a full topic does not starve another one's rebalances.
std::optional<Record> Consumers::poll() {
  for (std::size_t tried = 0; tried < members_.size(); ++tried) {
    auto current = members_.find(next_);
    std::optional<Record> record = current->second->poll();
    ++current;
    next_ = current == members_.end() ? members_.begin()->first : current->first;
    if (record) {
      return record;
    }
  }
  return std::nullopt;
}

bool Consumers::start(const TopicPartition& partition, std::optional<std::int64_t> offset) {
  return member(partition.topic).start(partition, offset);
}

void Consumers::set_paused(const TopicPartition& partition, bool paused) {
  member(partition.topic).set_paused(partition, paused);
}

std::size_t Consumers::paused_count() const {
  std::size_t count = 0;
  for (const auto& [topic, consumer] : members_) {
    count += consumer->paused_count();
  }
  return count;
}

KafkaGroupMetadata Consumers::group_metadata(const std::string& topic) {
  return member(topic).group_metadata();
}

bool Consumers::has_joined() const {
  return std::ranges::all_of(members_, [this](const auto& entry) {
    return entry.second->has_joined() || is_retry_topic(config_, entry.first);
  });
}

bool Consumers::close(std::chrono::milliseconds limit) {
  for (const auto& [topic, consumer] : members_) {
    consumer->begin_close();
  }
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    bool are_closed = true;
    for (const auto& [topic, consumer] : members_) {
      are_closed = consumer->is_closed() && are_closed;
    }
    if (are_closed || std::chrono::steady_clock::now() > deadline) {
      return are_closed;
    }
    std::this_thread::sleep_for(kClosePause);
  }
}

}  // namespace onnxferry
