#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "messages/codec.h"
#include "messages/uuid.h"
#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"
#include "worker/commands.h"
#include "worker/problems.h"
#include "worker/submit_client.h"
#include "worker/worker_config.h"

namespace onnxferry {
namespace {

/// The flags of one `onnxferry submit`.
struct SubmitFlags {
  SubmitConfig client;
  int timeout_seconds = 3600;
  std::string file;  ///< "" none, "-" standard input
  std::vector<std::string> kafka;

  std::string cancel;  ///< request id; not empty: send a cancel instead of a request
  std::string reason;
  std::string cancel_topic = WorkerConfig().cancel_topic;

  std::string model_id;
  std::string source;
  std::string output;
  std::string task;
  std::string dtype;
  std::string device;
  std::string verify;
  bool no_keep_weights = false;
  bool overwrite = false;
  std::vector<std::string> labels;
};

std::string read_file(const std::string& path) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) {
      throw Error(ErrorCode::kInvalidRequest, fmt::format("{} cannot be read", path), path);
    }
  }
  std::istream& input = path == "-" ? std::cin : file;
  return {std::istreambuf_iterator<char>(input), {}};
}

/// "key=value" as given on the command line.
std::pair<std::string, std::string> split_pair(const std::string& text, std::string_view flag) {
  const std::size_t at = text.find('=');
  if (at == 0 || at == std::string::npos) {
    throw Error(ErrorCode::kInvalidRequest,
                fmt::format("{} {}: expected key=value", flag, mask_secrets(text)));
  }
  return {text.substr(0, at), text.substr(at + 1)};
}

v1::ExportRequest read_request(const SubmitFlags& flags) {
  v1::ExportRequest request;
  if (!flags.file.empty()) {
    const auto problems = messages::parse_request_json(read_file(flags.file), request);
    if (!problems.empty()) {
      std::vector<FieldProblem> details;
      details.reserve(problems.size());
      for (const v1::FieldProblem& problem : problems) {
        details.push_back({problem.field(), problem.text()});
      }
      throw make_problems_error(ErrorCode::kInvalidRequest, std::move(details));
    }
  }
  return request;
}

/// Flags win over the file. What the words mean is the worker's business: it may be newer.
void apply_flags(const SubmitFlags& flags, v1::ExportRequest& request) {
  const auto set_if_given = [](const std::string& value, std::string* field) {
    if (!value.empty()) {
      *field = value;
    }
  };
  set_if_given(flags.model_id, request.mutable_model_id());
  if (!flags.source.empty()) {
    request.set_minio_tar_uri(flags.source);
    request.clear_source_uri();
  }
  set_if_given(flags.output, request.mutable_output_dir());
  set_if_given(flags.task, request.mutable_task());
  set_if_given(flags.dtype, request.mutable_dtype());
  set_if_given(flags.device, request.mutable_device());
  if (!flags.verify.empty()) {
    request.mutable_verify()->set_level(flags.verify);
  }
  if (flags.no_keep_weights) {
    request.clear_cleanup_weights_after_export();
    request.set_keep_weights(false);
  }
  if (flags.overwrite) {
    request.set_overwrite(true);
  }
  for (const std::string& label : flags.labels) {
    const auto [key, value] = split_pair(label, "--label");
    (*request.mutable_labels())[key] = value;
  }
  if (request.request_id().empty()) {
    request.set_request_id(messages::uuid4());
  }
}

std::string summarize(const v1::ExportReply& reply) {
  if (reply.has_failure()) {
    const v1::Failure& failure = reply.failure();
    return fmt::format("{}: {}{}",
                       v1::ErrorCode_Name(failure.code()),
                       failure.message(),
                       failure.stage().empty() ? "" : fmt::format(" (stage {})", failure.stage()));
  }
  const v1::ExportResult& result = reply.result();
  std::uint64_t bytes = 0;
  for (const v1::ExportedFile& file : result.files()) {
    bytes += file.bytes();
  }
  std::uint64_t ms = 0;
  for (const v1::StageReport& stage : reply.stages()) {
    ms += stage.ms();
  }
  return fmt::format("exported {} for {} to {}: {} files, {:.1f} MB, {:.1f} s",
                     result.model_type(),
                     result.task(),
                     result.output_uri(),
                     result.files_size(),
                     static_cast<double>(bytes) / 1e6,
                     static_cast<double>(ms) / 1e3);
}

int send_cancel(const SubmitFlags& flags) {
  v1::CancelRequest cancel;
  cancel.set_request_id(flags.cancel);
  cancel.set_reason(flags.reason);
  SubmitConfig client = flags.client;
  client.topic = flags.cancel_topic;
  send_record(std::move(client), messages::encode_cancel(cancel, "/onnxferry/submit"));
  fmt::print(stderr,
             "cancel of {} sent to {}; its reply, if it is not answered yet, will be CANCELLED\n",
             flags.cancel,
             flags.cancel_topic);
  return kExitOk;
}

int run_submit(SubmitFlags& flags) {
  flags.client.timeout = std::chrono::seconds(flags.timeout_seconds);
  for (const std::string& property : flags.kafka) {
    flags.client.kafka.insert(split_pair(property, "--kafka"));
  }
  if (!flags.cancel.empty()) {
    return send_cancel(flags);
  }
  v1::ExportRequest request = read_request(flags);
  apply_flags(flags, request);
  messages::EncodedMessage message =
      messages::encode_request(request, messages::Encoding::kJson, "/onnxferry/submit");
  message.headers.push_back({std::string(messages::kCorrelationId), messages::uuid4()});
  if (flags.client.reply_topic != SubmitConfig().reply_topic) {
    message.headers.push_back({std::string(messages::kReplyTopic), flags.client.reply_topic});
  }
  SubmitClient client(flags.client);
  fmt::print(stderr, "request {} to {}\n", request.request_id(), flags.client.topic);
  const std::optional<v1::ExportReply> reply = client.submit(message);
  if (!reply) {
    fmt::print(stderr,
               "no reply on {} within {} s; the request stays in the queue\n",
               flags.client.reply_topic,
               flags.timeout_seconds);
    return kExitTimeout;
  }
  fmt::print("{}\n", messages::to_pretty_json(*reply));
  fmt::print(stderr, "{}\n", summarize(*reply));
  return reply->has_result() ? kExitOk : kExitFailure;
}

void add_request_flags(CLI::App& command, SubmitFlags& flags) {
  const std::string group = "Request fields (they win over the file)";
  command.add_option("--model-id", flags.model_id, "Label of the model")->group(group);
  command.add_option("--source", flags.source, "Archive: s3://bucket/key")->group(group);
  command.add_option("-o,--output", flags.output, "Destination: s3://bucket/prefix/")->group(group);
  command.add_option("--task", flags.task, "Task name or auto")->group(group);
  command.add_option("-p,--dtype", flags.dtype, "fp32 or fp16")->group(group);
  command.add_option("-d,--device", flags.device, "cpu or cuda")->group(group);
  command.add_option("--verify", flags.verify, "none, structure, load, run or full")->group(group);
  command
      .add_flag("--no-keep-weights",
                flags.no_keep_weights,
                "Delete the extracted weights after the export")
      ->group(group);
  command.add_flag("--overwrite", flags.overwrite, "Replace another export")->group(group);
  command.add_option("--label", flags.labels, "key=value, echoed in the reply; repeatable")
      ->allow_extra_args(false)
      ->group(group);
}

}  // namespace

void add_submit_command(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("submit", "Send a request to the queue and wait for its reply");
  const auto flags = std::make_shared<SubmitFlags>();
  SubmitConfig& client = flags->client;
  command->add_option(
      "request", flags->file, "JSON file with the request, or - for standard input");
  command->add_option("--brokers,--bootstrap", client.bootstrap, "Kafka brokers, host:port,…")
      ->envname("ONNXFERRY_BOOTSTRAP")
      ->capture_default_str();
  command->add_option("--topic", client.topic, "Request topic")->capture_default_str();
  command
      ->add_option(
          "--reply-topic", client.reply_topic, "Topic to wait on; sent as kafka_replyTopic")
      ->capture_default_str();
  command->add_option("--timeout", flags->timeout_seconds, "Seconds to wait for the reply")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--kafka", flags->kafka, "Further librdkafka property, key=value; repeatable")
      ->allow_extra_args(false);  // the next word is the request file
  CLI::Option* cancel = command->add_option(
      "--cancel", flags->cancel, "Cancel the request with this id instead of sending one");
  command->add_option("--reason", flags->reason, "Shown in the cancelled request's reply")
      ->needs(cancel);
  command->add_option("--cancel-topic", flags->cancel_topic, "Topic of cancel records")
      ->needs(cancel)
      ->capture_default_str();
  add_request_flags(*command, *flags);
  command->callback([flags, &exit_code] { exit_code = run_submit(*flags); });
}

}  // namespace onnxferry
