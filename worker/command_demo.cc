#include <algorithm>
#include <csignal>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include "messages/codec.h"
#include "messages/uuid.h"
#include "pipeline/error.h"
#include "worker/commands.h"
#include "worker/environment.h"
#include "worker/kafka_client.h"
#include "worker/log.h"
#include "worker/submit_client.h"
#include "worker/worker.h"

namespace onnxferry {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRequests = "onnxferry.requests";
constexpr std::string_view kReplies = "onnxferry.replies";
constexpr std::string_view kNotice =
    "This demo runs the real worker against a broker that librdkafka imitates inside this "
    "process.\n"
    "That broker stores no transactional offsets and shows aborted replies, so the demo does NOT\n"
    "have the exactly-once guarantee; a real Apache Kafka gives it.\n";

struct DemoOptions {
  std::string source;
  std::string output;
  std::string task = "auto";
  std::string verify = "structure";
};

/// The imitated broker, with its topics. It lives as long as this.
class MockBroker {
 public:
  MockBroker()
      : handle_(make_handle(RD_KAFKA_PRODUCER, make_conf({{"client.id", "demo-broker"}}))),
        cluster_(rd_kafka_mock_cluster_new(handle_.get(), 1)) {
    EXPORT_CHECK(cluster_ != nullptr, "cannot start the imitated broker");
    for (const std::string_view topic : {kRequests, kReplies}) {
      rd_kafka_mock_topic_create(cluster_.get(), std::string(topic).c_str(), 1, 1);
    }
    rd_kafka_mock_topic_create(cluster_.get(), (std::string(kRequests) + ".dlq").c_str(), 1, 1);
  }
  [[nodiscard]] std::string bootstrap() const {
    return rd_kafka_mock_cluster_bootstraps(cluster_.get());
  }

 private:
  KafkaHandle handle_;
  KafkaMockCluster cluster_;
};

/// A directory of this process's own below the system's temporary one; removed at the end.
class DemoScratch {
 public:
  DemoScratch() : path_(fs::temp_directory_path() / fmt::format("onnxferry-demo-{}", ::getpid())) {}
  ~DemoScratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  DemoScratch(const DemoScratch&) = delete;
  DemoScratch& operator=(const DemoScratch&) = delete;
  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  fs::path path_;
};

void check_source(const fs::path& source) {
  if (fs::is_directory(source)) {
    throw Error(
        ErrorCode::kInvalidRequest,
        fmt::format("{} is a directory; the queue takes archives: tar -C {} -cf model.tar .",
                    source.string(),
                    source.string()));
  }
  if (!fs::is_regular_file(source)) {
    throw Error(
        ErrorCode::kSourceNotFound,
        fmt::format(
            "{} does not exist; expected a .tar, .tar.gz, .tar.zst or .zip archive of a checkpoint",
            source.string()));
  }
}

v1::ExportRequest make_request(const DemoOptions& options) {
  v1::ExportRequest request;
  request.set_request_id(messages::uuid4());
  request.set_model_id(fs::path(options.source).stem().string());
  request.set_minio_tar_uri("file://" + fs::absolute(options.source).lexically_normal().string());
  request.set_output_dir("file://" + fs::absolute(options.output).lexically_normal().string() +
                         "/");
  request.set_task(options.task);
  request.mutable_verify()->set_level(options.verify);
  return request;
}

void print_tree(const fs::path& directory) {
  fmt::print("\n{}\n", directory.string());
  std::vector<fs::path> files;
  if (fs::exists(directory)) {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
      if (entry.is_regular_file()) {
        files.push_back(entry.path());
      }
    }
  }
  std::ranges::sort(files);
  for (const fs::path& file : files) {
    fmt::print("  {:>14}  {}\n", fs::file_size(file), file.lexically_relative(directory).string());
  }
}

struct Caller {
  std::optional<v1::ExportReply> reply;
  std::exception_ptr failure;

  void run(const std::string& bootstrap, const v1::ExportRequest& request, Worker& worker) {
    try {
      SubmitConfig config;
      config.bootstrap = bootstrap;
      config.topic = kRequests;
      config.reply_topic = kReplies;
      SubmitClient client(config);
      messages::EncodedMessage message =
          messages::encode_request(request, messages::Encoding::kJson, "/onnxferry/demo");
      message.headers.push_back({std::string(messages::kCorrelationId), messages::uuid4()});
      reply = client.submit(message);
    } catch (...) {
      failure = std::current_exception();
    }
    worker.stop();
  }
};

int demo(const DemoOptions& options) {
  check_source(options.source);
  fmt::print("{}\n", kNotice);
  const MockBroker broker;
  const DemoScratch scratch;
  WorkerConfig config;
  config.brokers = broker.bootstrap();
  config.request_topics = {std::string(kRequests)};
  config.reply_topic = kReplies;
  config.scratch = scratch.path();
  config.min_scratch_bytes = 0;
  config.max_attempts = 1;
  config.log_level = "error";
  config.stores = store_config_from_environment(process_environment);
  config.stores.allow_file = true;
  config.onnxruntime_library = process_environment("ONNXFERRY_ONNXRUNTIME").value_or("");
  configure_log(config);
  (void)std::signal(SIGPIPE, SIG_IGN);

  const v1::ExportRequest request = make_request(options);
  fmt::print("request on {}:\n{}\n", kRequests, messages::to_pretty_json(request));
  (void)std::fflush(stdout);
  Metrics metrics;
  Health health;
  Caller caller;
  {
    Worker worker(config, metrics, health);
    std::thread thread([&] { caller.run(config.brokers, request, worker); });
    std::exception_ptr failure;
    try {
      worker.run();
    } catch (...) {
      failure = std::current_exception();
    }
    thread.join();
    if (failure) {
      std::rethrow_exception(failure);
    }
  }
  if (caller.failure) {
    std::rethrow_exception(caller.failure);
  }
  if (!caller.reply) {
    throw Error(ErrorCode::kUnavailable, "no reply came");
  }
  fmt::print("reply on {}:\n{}\n", kReplies, messages::to_pretty_json(*caller.reply));
  print_tree(options.output);
  return caller.reply->has_result() ? kExitOk : kExitFailure;
}

}  // namespace

void add_demo_command(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "demo", "Send one request through the worker with an imitated Kafka inside this process");
  const auto options = std::make_shared<DemoOptions>();
  command
      ->add_option(
          "--source", options->source, "archive of a checkpoint: .tar, .tar.gz, .tar.zst or .zip")
      ->required();
  command->add_option("--output", options->output, "directory to make")->required();
  command->add_option("--task", options->task, "Optimum task name or auto")->capture_default_str();
  command->add_option("--verify", options->verify, "none, structure, load, run or full")
      ->capture_default_str();
  command->callback([options, &exit_code] { exit_code = demo(*options); });
}

}  // namespace onnxferry
