#include "worker/otlp_exporter.h"

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

#include <fmt/format.h>
#include <httplib.h>
#include <nlohmann/json.hpp>
#include <pthread.h>

#include "pipeline/version.h"
#include "worker/kafka_client.h"
#include "worker/log.h"

namespace onnxferry {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kMaxQueue = 2048;
constexpr std::size_t kMaxBatch = 512;
constexpr milliseconds kBatchWait{1'000};
constexpr milliseconds kRequestLimit{5'000};
constexpr milliseconds kFlushLimit{2'000};
/// For a thread whose connection was just shut down under it.
constexpr milliseconds kAbortLimit{250};
constexpr std::chrono::minutes kLogEvery{1};
constexpr std::size_t kMaxAnswerBytes = 64U << 10U;

struct Answer {
  ExportOutcome outcome = ExportOutcome::kRetryable;
  std::size_t rejected = 0;
  std::string problem;
};

ResourceAttributes make_resource(const OtlpSettings& settings) {
  ResourceAttributes resource = {{std::string(attribute::kServiceName), "onnxferry"},
                                 {std::string(attribute::kServiceVersion), std::string(version())},
                                 {std::string(attribute::kHostName), host_name()}};
  const auto set = [&resource](const std::string& name, const std::string& value) {
    const auto found = std::ranges::find(resource, name, &ResourceAttributes::value_type::first);
    if (found == resource.end()) {
      resource.emplace_back(name, value);
    } else {
      found->second = value;
    }
  };
  for (const auto& [name, value] : settings.resource) {
    set(name, value);
  }
  if (!settings.service_name.empty()) {
    set(std::string(attribute::kServiceName), settings.service_name);
  }
  return resource;
}

}  // namespace

ExportOutcome judge_status(int status) {
  if (status >= 200 && status < 300) {
    return ExportOutcome::kSent;
  }
  const bool may_pass = status == 429 || status == 502 || status == 503 || status == 504;
  return may_pass ? ExportOutcome::kRetryable : ExportOutcome::kRefused;
}

std::size_t rejected_spans(std::string_view body) {
  const auto answer = nlohmann::json::parse(body, nullptr, false);
  const nlohmann::json::json_pointer place("/partialSuccess/rejectedSpans");
  if (!answer.is_object() || !answer.contains(place)) {
    return 0;
  }
  const nlohmann::json& count = answer[place];  // a 64-bit number, so a string
  std::size_t rejected = 0;
  if (count.is_number_unsigned()) {
    rejected = count.get<std::size_t>();
  } else if (count.is_string()) {
    const auto& text = count.get_ref<const std::string&>();
    (void)std::from_chars(text.data(), text.data() + text.size(), rejected);
  }
  return rejected;
}

/// What outlives the exporter when its thread hangs in a name server at the end.
struct OtlpExporter::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  // All guarded by mutex.
  std::deque<Span> queue;
  Metrics* metrics = nullptr;                    ///< null: the exporter is gone
  std::optional<Clock::time_point> flush_until;  ///< set: the exporter ends
  httplib::Client* client = nullptr;             ///< of the request in progress
  bool is_done = false;

  void count(SpanFate fate, std::size_t spans) {
    const std::scoped_lock lock(mutex);
    if (metrics != nullptr && spans > 0) {
      metrics->spans(fate, spans);
    }
  }
};

/// The thread's side.
class OtlpExporter::Loop {
 public:
  Loop(std::shared_ptr<Shared> shared, const OtlpSettings& settings)
      : shared_(std::move(shared)),
        target_(split_url(traces_url(settings))),
        headers_(settings.headers),
        resource_(make_resource(settings)) {}

  void run() {
    pthread_setname_np(pthread_self(), "otlp");
    while (take_batch()) {
      try {
        send_batch();
      } catch (const std::exception& error) {
        give_up(error.what());
      }
    }
    shared_->count(SpanFate::kFailed, batch_.size());
    const std::scoped_lock lock(shared_->mutex);
    shared_->is_done = true;
    shared_->changed.notify_all();
  }

 private:
  /// While this lives, the exporter can stop the client.
  class Visible {
   public:
    Visible(Shared& shared, httplib::Client& client) : shared_(shared) {
      const std::scoped_lock lock(shared_.mutex);
      shared_.client = &client;
    }
    ~Visible() {
      const std::scoped_lock lock(shared_.mutex);
      shared_.client = nullptr;
    }
    Visible(const Visible&) = delete;
    Visible& operator=(const Visible&) = delete;

   private:
    Shared& shared_;
  };

  /// Wait for the next batch, or for the time to send the last one again.
  /// \return false at the end
  bool take_batch() {
    std::unique_lock lock(shared_->mutex);
    const auto is_ending = [this] { return shared_->flush_until.has_value(); };
    if (batch_.empty()) {
      shared_->changed.wait(lock, [&] { return is_ending() || !shared_->queue.empty(); });
      shared_->changed.wait_for(
          lock, kBatchWait, [&] { return is_ending() || shared_->queue.size() >= kMaxBatch; });
      const std::size_t count = std::min(shared_->queue.size(), kMaxBatch);
      const auto end = shared_->queue.begin() + static_cast<std::ptrdiff_t>(count);
      batch_.assign(std::move_iterator(shared_->queue.begin()), std::move_iterator(end));
      shared_->queue.erase(shared_->queue.begin(), end);
      was_repeated_ = false;
    } else {
      shared_->changed.wait_for(lock, kBatchWait, is_ending);
      was_repeated_ = true;
    }
    const std::optional<Clock::time_point> until = shared_->flush_until;
    const bool is_late = until && Clock::now() >= *until;
    return !batch_.empty() && !is_late && shared_->metrics != nullptr;
  }

  void send_batch() {
    const Answer answer = post(to_otlp_json(batch_, resource_));
    if (answer.outcome == ExportOutcome::kSent) {
      const std::size_t rejected = std::min(answer.rejected, batch_.size());
      shared_->count(SpanFate::kSent, batch_.size() - rejected);
      shared_->count(SpanFate::kFailed, rejected);
      batch_.clear();
      if (rejected > 0) {
        complain(fmt::format("it rejected {} spans", rejected));
      }
    } else if (answer.outcome == ExportOutcome::kRefused || was_repeated_) {
      give_up(answer.problem);
    }
  }

  void give_up(std::string_view why) {
    shared_->count(SpanFate::kFailed, batch_.size());
    batch_.clear();
    complain(why);
  }

  void complain(std::string_view why) {
    {
      const std::scoped_lock lock(shared_->mutex);
      if (shared_->metrics == nullptr || Clock::now() < next_log_) {
        return;
      }
    }
    next_log_ = Clock::now() + kLogEvery;
    log(LogLevel::kWarn,
        fmt::format("spans are lost, the collector does not take them: {}", why),
        {{"endpoint", target_.origin + target_.path}});
  }

  [[nodiscard]] milliseconds time_left() {
    const std::scoped_lock lock(shared_->mutex);
    const std::optional<Clock::time_point>& until = shared_->flush_until;
    if (!until) {
      return kRequestLimit;
    }
    return std::clamp(
        std::chrono::ceil<milliseconds>(*until - Clock::now()), milliseconds(1), kRequestLimit);
  }

  Answer post(std::string body) {
    const milliseconds limit = time_left();
    const Clock::time_point deadline = Clock::now() + limit;
    httplib::Client client(target_.origin);
    if (!client.is_valid()) {
      return {
          .outcome = ExportOutcome::kRefused, .rejected = 0, .problem = "its URL cannot be used"};
    }
    client.set_connection_timeout(limit);
    client.set_read_timeout(limit);
    client.set_write_timeout(limit);
    std::string text;
    httplib::Request request;
    request.method = "POST";
    request.path = target_.path;
    for (const auto& [name, value] : headers_) {
      request.headers.emplace(name, value);
    }
    request.set_header("Content-Type", "application/json");
    request.set_header("User-Agent", fmt::format("onnxferry/{}", version()));
    request.body = std::move(body);
    request.content_receiver = [&](const char* data, std::size_t size, auto, auto) {
      text.append(data, size);
      return text.size() <= kMaxAnswerBytes && Clock::now() < deadline;
    };
    const Visible visible(*shared_, client);
    const httplib::Result result = client.send(request);
    if (!result) {
      return {.outcome = ExportOutcome::kRetryable,
              .rejected = 0,
              .problem = fmt::format("no answer ({})", httplib::to_string(result.error()))};
    }
    return {.outcome = judge_status(result->status),
            .rejected = rejected_spans(text),
            .problem = fmt::format("it answers {}", result->status)};
  }

  std::shared_ptr<Shared> shared_;
  OtlpTarget target_;
  OtlpSettings::List headers_;
  ResourceAttributes resource_;
  std::vector<Span> batch_;
  bool was_repeated_ = false;
  Clock::time_point next_log_;
};

OtlpExporter::OtlpExporter(const OtlpSettings& settings, Metrics& metrics)
    : shared_(std::make_shared<Shared>()) {
  shared_->metrics = &metrics;
  thread_ = std::thread([loop = Loop(shared_, settings)]() mutable { loop.run(); });
}

OtlpExporter::~OtlpExporter() {
  std::unique_lock lock(shared_->mutex);
  const Clock::time_point until = Clock::now() + kFlushLimit;
  shared_->flush_until = until;
  shared_->changed.notify_all();
  const auto is_done = [this] { return shared_->is_done; };
  if (!shared_->changed.wait_until(lock, until, is_done)) {
    if (shared_->client != nullptr) {
      shared_->client->stop();
    }
    shared_->changed.wait_for(lock, kAbortLimit, is_done);
  }
  // Only the resolver of host names cannot be interrupted; then the thread finds nobody here.
  shared_->metrics->spans(SpanFate::kDropped, shared_->queue.size());
  shared_->metrics = nullptr;
  const bool has_ended = shared_->is_done;
  lock.unlock();
  if (has_ended) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

void OtlpExporter::add(Span span) {
  {
    const std::scoped_lock lock(shared_->mutex);
    if (shared_->queue.size() >= kMaxQueue) {
      shared_->metrics->spans(SpanFate::kDropped, 1);
      return;
    }
    shared_->queue.push_back(std::move(span));
  }
  shared_->changed.notify_one();
}

}  // namespace onnxferry
