#include "worker/committed_reader.h"

#include <chrono>
#include <utility>

#include <pthread.h>

#include "worker/log.h"

namespace onnxferry {
namespace {

// Short, so that a newer question and shutdown need not wait behind a dead worker's transaction.
constexpr int kReadTimeoutMs = 2'000;
constexpr std::chrono::milliseconds kPause{200};

}  // namespace

CommittedReader::CommittedReader(rd_kafka_t* handle)
    : handle_(handle), thread_([this] { run(); }) {}

CommittedReader::~CommittedReader() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void CommittedReader::ask(std::uint64_t ticket, std::vector<TopicPartition> partitions) {
  {
    const std::scoped_lock lock(mutex_);
    questions_.push_back({ticket, std::move(partitions)});
  }
  changed_.notify_one();
}

void CommittedReader::cancel() {
  const std::scoped_lock lock(mutex_);
  questions_.clear();
}

void CommittedReader::run() {
  pthread_setname_np(pthread_self(), "committed");
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !questions_.empty(); });
    if (stopping_) {
      return;
    }
    const Question question = questions_.front();
    lock.unlock();
    std::optional<Answer> answer = read(question);
    lock.lock();
    if (answer) {
      results_.push(std::move(*answer));
    }
    const bool is_open = !questions_.empty() && questions_.front().ticket == question.ticket;
    if (answer && is_open) {
      questions_.pop_front();
    } else if (!answer && !stopping_) {
      // The oldest question may wait for a transaction that has nothing to do with the next one.
      if (is_open) {
        questions_.push_back(std::move(questions_.front()));
        questions_.pop_front();
      }
      changed_.wait_for(lock, kPause, [this] { return stopping_; });
    }
  }
}

std::optional<CommittedReader::Answer> CommittedReader::read(const Question& question) const {
  const KafkaPartitions list = make_partitions(question.partitions);
  const auto error = rd_kafka_committed(handle_, list.get(), kReadTimeoutMs);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    log(LogLevel::kDebug,
        "committed offsets not readable yet",
        {{"error", rd_kafka_err2name(error)}});
    return std::nullopt;
  }
  Answer answer{.ticket = question.ticket, .offsets = {}};
  for (int i = 0; i < list->cnt; ++i) {
    const rd_kafka_topic_partition_t& element = list->elems[i];
    if (element.err != RD_KAFKA_RESP_ERR_NO_ERROR) {
      return std::nullopt;
    }
    CommittedOffset committed;
    if (element.offset >= 0) {
      committed.offset = element.offset;
    }
    if (element.metadata != nullptr) {
      committed.metadata.assign(static_cast<const char*>(element.metadata), element.metadata_size);
    }
    answer.offsets[{element.topic, element.partition}] = std::move(committed);
  }
  return answer;
}

}  // namespace onnxferry
