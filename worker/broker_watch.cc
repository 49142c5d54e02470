#include "worker/broker_watch.h"

#include <algorithm>
#include <string>
#include <utility>

#include <pthread.h>

#include "worker/log.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

constexpr int kAnswerTimeoutMs = 3'000;
constexpr int kQuestionsPerLimit = 30;
constexpr milliseconds kMinPause{250};
constexpr milliseconds kMaxPause{30'000};
constexpr int kSilentQuestions = 2;  // so many in a row are worth a line

}  // namespace

BrokerWatch::BrokerWatch(rd_kafka_t* handle, milliseconds limit)
    : handle_(handle),
      pause_(std::clamp(limit / kQuestionsPerLimit, kMinPause, kMaxPause)),
      thread_([this] { run(); }) {}

BrokerWatch::~BrokerWatch() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  stop_.notify_one();
  thread_.join();
}

milliseconds BrokerWatch::silence() const {
  return std::chrono::duration_cast<milliseconds>(Clock::now() - last_answer_.load());
}

void BrokerWatch::run() {
  pthread_setname_np(pthread_self(), "brokers");
  std::unique_lock lock(mutex_);
  while (!stop_.wait_for(lock, pause_, [this] { return stopping_; })) {
    lock.unlock();
    ask();
    lock.lock();
  }
}

void BrokerWatch::ask() {
  const rd_kafka_metadata_t* answer = nullptr;
  const auto error = rd_kafka_metadata(handle_, 0, nullptr, &answer, kAnswerTimeoutMs);
  const KafkaMetadata metadata(answer);
  const std::string seconds = std::to_string(silence().count() / 1000);
  if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
    last_answer_ = Clock::now();
    if (std::exchange(is_warned_, false)) {
      log(LogLevel::kInfo, "the brokers answer again", {{"silent_s", seconds}});
    }
  } else if (!is_warned_ &&
             silence() > kSilentQuestions * (pause_ + milliseconds(kAnswerTimeoutMs))) {
    is_warned_ = true;
    log(LogLevel::kWarn,
        "no broker answers; the worker goes on trying",
        {{"silent_s", seconds}, {"error", rd_kafka_err2name(error)}});
  }
}

}  // namespace onnxferry
