#include "worker/progress_reporter.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <pthread.h>

#include "messages/text.h"
#include "pipeline/error.h"
#include "worker/log.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;

constexpr std::chrono::seconds kInterval{1};
constexpr std::size_t kMaxItems = 256;  ///< 32 jobs, one event a second: seconds of a slow broker
constexpr int kMetadataTimeoutMs = 2'000;
constexpr milliseconds kPoll{200};
constexpr std::chrono::seconds kLookEvery{30};
constexpr std::chrono::seconds kLookSoon{2};

KafkaProperties properties_of(const WorkerConfig& config) {
  KafkaProperties properties = common_properties(config);
  std::erase_if(properties,
                [](const auto& entry) { return entry.first.starts_with("transaction"); });
  properties["enable.idempotence"] = "true";
  properties["acks"] = "all";
  properties["linger.ms"] = "5";
  properties["message.timeout.ms"] = "10000";  // later it is no news
  properties["queue.buffering.max.messages"] = "1000";
  return properties;
}

/// librdkafka takes what it only reads as void*.
void* as_mutable(const std::string& text) {
  return const_cast<char*>(text.data());  // NOLINT(*-const-cast)
}

/// Put a copy into the producer's queue; an error when it is full. Never blocks.
rd_kafka_resp_err_t enqueue(rd_kafka_t* producer,
                            rd_kafka_topic_t* topic,
                            const messages::EncodedMessage& message) {
  std::vector<rd_kafka_vu_t> arguments(4 + message.headers.size());
  arguments[0].vtype = RD_KAFKA_VTYPE_RKT;
  arguments[0].u.rkt = topic;
  arguments[1].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
  arguments[1].u.i = RD_KAFKA_MSG_F_COPY;
  arguments[2].vtype = RD_KAFKA_VTYPE_KEY;
  arguments[2].u.mem = {as_mutable(message.key), message.key.size()};
  arguments[3].vtype = RD_KAFKA_VTYPE_VALUE;
  arguments[3].u.mem = {as_mutable(message.value), message.value.size()};
  for (std::size_t i = 0; i < message.headers.size(); ++i) {
    const messages::Header& header = message.headers[i];
    rd_kafka_vu_t& argument = arguments[4 + i];
    argument.vtype = RD_KAFKA_VTYPE_HEADER;
    argument.u.header.name = header.name.c_str();
    argument.u.header.val = header.value ? header.value->data() : nullptr;
    argument.u.header.size = header.value ? static_cast<ssize_t>(header.value->size()) : 0;
  }
  const KafkaError error(rd_kafka_produceva(producer, arguments.data(), arguments.size()));
  return error ? rd_kafka_error_code(error.get()) : RD_KAFKA_RESP_ERR_NO_ERROR;
}

}  // namespace

void ProgressState::note(const v1::JobEvent& event) {
  if (event.has_stage_started()) {
    current_ = v1::ProgressEvent();
    current_.set_stage(event.stage_started().stage());
  } else if (event.has_progress()) {
    const v1::JobProgress& progress = event.progress();
    current_.set_stage(progress.stage());
    current_.set_bytes_done(progress.done());
    current_.set_bytes_total(progress.total());
    current_.clear_percent();
    if (progress.total() > 0) {
      const double share =
          static_cast<double>(progress.done()) / static_cast<double>(progress.total());
      current_.set_percent(100 * std::min(1.0, share));
    }
  } else if (event.has_waiting()) {
    current_.set_stage(event.waiting().stage());
    current_.set_waiting(event.waiting().waiting());
    current_.set_reason(event.waiting().waiting() ? event.waiting().reason() : "");
  } else {
    return;
  }
  has_news_ = true;
}

bool ProgressState::take(Clock::time_point now, v1::ProgressEvent& event) {
  if (!has_news_ || now < next_) {
    return false;
  }
  event.MergeFrom(current_);
  has_news_ = false;
  next_ = now + kInterval;
  return true;
}

ProgressReporter::ProgressReporter(const WorkerConfig& config, Metrics& metrics)
    : config_(config), metrics_(metrics) {
  make_producer();
  thread_ = std::thread([this] { run(); });
}

ProgressReporter::~ProgressReporter() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
  topic_.reset();
  rd_kafka_purge(producer_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
}

void ProgressReporter::make_producer() {
  KafkaConf conf = make_conf(properties_of(config_));
  rd_kafka_conf_set_opaque(conf.get(), this);
  rd_kafka_conf_set_dr_msg_cb(conf.get(), on_delivery);
  topic_.reset();
  producer_ = make_handle(RD_KAFKA_PRODUCER, std::move(conf));
  topic_.reset(rd_kafka_topic_new(producer_.get(), config_.progress_topic.c_str(), nullptr));
  EXPORT_CHECK(topic_ != nullptr, "a checked topic name was refused");
}

void ProgressReporter::send(v1::ProgressEvent event, const messages::Envelope& envelope) {
  {
    const std::scoped_lock lock(mutex_);
    if (items_.size() < kMaxItems) {
      items_.push_back({std::move(event), envelope});
    } else {
      metrics_.progress(ProgressFate::kDropped);
    }
  }
  changed_.notify_one();
}

void ProgressReporter::run() {
  pthread_setname_np(pthread_self(), "progress");
  while (true) {
    std::deque<Item> items;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kPoll, [this] { return stopping_ || !items_.empty(); });
      if (stopping_) {
        return;
      }
      items.swap(items_);
    }
    if (!items.empty() && Clock::now() >= next_look_) {
      look_for_topic();
    }
    for (const Item& item : items) {
      if (exists_) {
        produce(item);
      }
    }
    rd_kafka_poll(producer_.get(), 0);
  }
}

void ProgressReporter::look_for_topic() {
  const rd_kafka_metadata_t* answer = nullptr;
  const auto error =
      rd_kafka_metadata(producer_.get(), 0, topic_.get(), &answer, kMetadataTimeoutMs);
  const KafkaMetadata metadata(answer);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR || !metadata || metadata->topic_cnt != 1) {
    next_look_ = Clock::now() + kLookSoon;  // no broker answers; that is logged elsewhere
    return;
  }
  next_look_ = Clock::now() + kLookEvery;
  exists_ = metadata->topics[0].partition_cnt > 0;
  if (!exists_ && !std::exchange(told_absent_, true)) {
    log(LogLevel::kInfo,
        "no progress topic, or it may not be used; no progress is sent until it can be",
        {{"topic", config_.progress_topic}});
  }
}

void ProgressReporter::produce(const Item& item) {
  v1::ProgressEvent event = item.event;
  messages::make_utf8_valid(event);
  const messages::EncodedMessage message =
      messages::encode_progress(event, item.envelope, "/onnxferry/" + config_.group);
  // A failure here or in the delivery costs this event, nothing else.
  const rd_kafka_resp_err_t error = enqueue(producer_.get(), topic_.get(), message);
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    metrics_.progress(ProgressFate::kDropped);
  }
  if (error == RD_KAFKA_RESP_ERR__FATAL) {
    make_producer();  // an idempotent producer that lost its place cannot go on
  }
}

void ProgressReporter::on_delivery(rd_kafka_t* /*handle*/,
                                   const rd_kafka_message_t* message,
                                   void* opaque) noexcept {
  auto* self = static_cast<ProgressReporter*>(opaque);
  const bool is_sent = message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
  self->metrics_.progress(is_sent ? ProgressFate::kSent : ProgressFate::kDropped);
}

}  // namespace onnxferry
