#include "worker/reply.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "messages/codec.h"
#include "tests/unit/messages/fill.h"
#include "worker/job_spec.h"

namespace onnxferry {
namespace {

using google::protobuf::util::MessageDifferencer;
using messages::Encoding;
using testing::HasSubstr;
using testing::Not;

TEST(ErrorCodes, AreTheContractsOneToOne) {
  const auto* contract = v1::ErrorCode_descriptor();
  const auto table = error_code_table();
  ASSERT_EQ(static_cast<std::size_t>(contract->value_count()), table.size() + 1)
      << "UNSPECIFIED besides";
  EXPECT_EQ(contract->value(0)->name(), "ERROR_CODE_UNSPECIFIED");
  for (const ErrorCodeRow& row : table) {
    const auto* value = contract->FindValueByName(std::string(row.name));
    ASSERT_NE(value, nullptr) << row.name;
    EXPECT_EQ(to_message(Error(row.code, "x")).code(), value->number());
    EXPECT_EQ(to_message(Error(row.code, "x")).retryable(), row.retryable);
  }
}

ReplyContext context() {
  ReplyContext context;
  context.request.set_request_id("r-1");
  context.request.set_model_id("org/model");
  (*context.request.mutable_labels())["team"] = "search";
  context.attempt = 2;
  context.worker.set_version("0.1.0");
  context.started_at = std::chrono::system_clock::time_point(std::chrono::seconds(1'700'000'000));
  context.finished_at = context.started_at + std::chrono::milliseconds(1'500);
  context.stages.push_back(
      to_message(StageTiming{Stage::kDownload, std::chrono::milliseconds(12), 34}));
  return context;
}

ExportReport report() {
  ExportReport report;
  report.output_uri = "s3://bucket/o/";
  report.manifest_uri = "s3://bucket/o/export_manifest.json";
  report.manifest_sha256 = "ab";
  report.files = {{"model.onnx", 1ULL << 40U, "cd", "onnx"}};
  report.model_type = "qwen2";
  report.task = "text-generation-with-past";
  report.opset = 17;
  report.parameters = 494'032'768;
  report.inputs = {{"model.onnx", "input_ids", "int64", {"batch_size", "sequence_length"}}};
  report.outputs = {{"model.onnx", "logits", "float", {"batch_size", "sequence_length", "151936"}}};
  report.verification = {"full", {{"logits", 1e-5, 0.999, 1}}};
  report.warnings = {{"BF16_UPCAST", "x"}};
  report.answered_from_manifest = true;
  return report;
}

TEST(Reply, CarriesTheWholeReport) {
  const v1::ExportReply reply = make_reply(context(), to_message(report()));
  v1::ExportReply expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"pb(
        request_id: "r-1"
        model_id: "org/model"
        labels { key: "team" value: "search" }
        attempt: 2
        worker { version: "0.1.0" }
        started_at { seconds: 1700000000 }
        finished_at { seconds: 1700000001 nanos: 500000000 }
        stages { stage: "download" ms: 12 bytes: 34 }
        result {
          output_uri: "s3://bucket/o/"
          manifest_uri: "s3://bucket/o/export_manifest.json"
          manifest_sha256: "ab"
          files { name: "model.onnx" bytes: 1099511627776 sha256: "cd" kind: "onnx" }
          model_type: "qwen2"
          task: "text-generation-with-past"
          opset: 17
          parameters: 494032768
          inputs {
            file: "model.onnx"
            name: "input_ids"
            dtype: "int64"
            dims: "batch_size"
            dims: "sequence_length"
          }
          outputs {
            file: "model.onnx"
            name: "logits"
            dtype: "float"
            dims: "batch_size"
            dims: "sequence_length"
            dims: "151936"
          }
          verification {
            level: "full"
            outputs { output: "logits" max_abs_diff: 1e-5 cosine: 0.999 argmax_agreement: 1 }
          }
          warnings { code: "BF16_UPCAST" text: "x" }
          answered_from_manifest: true
        })pb",
      &expected));
  EXPECT_TRUE(MessageDifferencer::Equals(reply, expected)) << reply.DebugString();
}

TEST(Reply, CarriesTheWholeError) {
  Error error(ErrorCode::kCorruptCheckpoint, "tensor \"x\" ends past the file", "x");
  error.set_stage(Stage::kExtract);
  error.set_problems({{"dtype", "unknown"}});
  const v1::ExportReply reply = make_reply(context(), to_message(error));
  EXPECT_EQ(reply.failure().code(), v1::CORRUPT_CHECKPOINT);
  EXPECT_EQ(reply.failure().message(), "tensor \"x\" ends past the file");
  EXPECT_EQ(reply.failure().subject(), "x");
  EXPECT_EQ(reply.failure().stage(), "extract");
  EXPECT_FALSE(reply.failure().retryable());
  ASSERT_EQ(reply.failure().details_size(), 1);
  EXPECT_EQ(reply.failure().details(0).field(), "dtype");
}

TEST(Reply, MasksSecretsAndRepairsText) {
  Error error(ErrorCode::kUnavailable,
              "GET https://host/b?X-Amz-Signature=deadbeef failed for \xff.bin",
              "https://u:pw@host/\xff");
  error.set_problems({{"a", "X-Amz-Signature=deadbeef"}});
  const v1::Failure failure = to_message(error);
  EXPECT_THAT(failure.DebugString(), Not(HasSubstr("deadbeef")));
  EXPECT_THAT(failure.subject(), Not(HasSubstr("pw")));
  EXPECT_THAT(failure.message(), HasSubstr("\uFFFD.bin"));
  EXPECT_TRUE(failure.retryable());
  v1::Failure copy;
  EXPECT_TRUE(copy.ParseFromString(failure.SerializeAsString()));
}

TEST(Reply, ReportsFileNamesThatAreNotUtf8) {
  ExportReport bad = report();
  bad.files[0].name = "caf\xe9.txt";
  const v1::ExportResult result = to_message(bad);
  EXPECT_EQ(result.files(0).name(), "caf\uFFFD.txt");
  v1::ExportResult copy;
  EXPECT_TRUE(copy.ParseFromString(result.SerializeAsString()));
}

TEST(Reply, ListsEveryDecodingProblem) {
  std::vector<v1::FieldProblem> problems(7);
  for (int i = 0; i < 7; ++i) {
    problems[static_cast<std::size_t>(i)].set_field("f" + std::to_string(i));
    problems[static_cast<std::size_t>(i)].set_text("wrong");
  }
  const v1::Failure failure = make_decode_failure(problems);
  EXPECT_EQ(failure.code(), v1::INVALID_REQUEST);
  EXPECT_EQ(
      failure.message(),
      "7 problems: f0: wrong; f1: wrong; f2: wrong; f3: wrong; f4: wrong; and 2 more in details");
  EXPECT_EQ(failure.details_size(), 7);
}

// ---- trimming ---------------------------------------------------------------------------------

v1::ExportReply big_reply() {
  ExportReport big = report();
  for (int i = 0; i < 200; ++i) {
    big.warnings.push_back({"W", std::string(1'000, 'w')});
    big.outputs.push_back({"model.onnx",
                           "present." + std::to_string(i) + ".key",
                           "float",
                           {"batch_size", "2", "total", "64"}});
    big.inputs.push_back({"model.onnx",
                          "past_key_values." + std::to_string(i) + ".key",
                          "float",
                          {"batch_size", "2", "past", "64"}});
    big.files.push_back({"file" + std::to_string(i), 1, std::string(64, 'a'), "sidecar"});
  }
  return make_reply(context(), to_message(big));
}

std::size_t size_of(const v1::ExportReply& reply, Encoding encoding) {
  return messages::encode_value(reply, encoding).size();
}

TEST(TrimReply, LeavesAFittingReplyAlone) {
  v1::ExportReply reply = big_reply();
  const v1::ExportReply before = reply;
  EXPECT_TRUE(trim_reply(reply, Encoding::kProtobuf, size_of(reply, Encoding::kProtobuf)));
  EXPECT_TRUE(MessageDifferencer::Equals(reply, before));
}

TEST(TrimReply, TakesAwayInOrderAndSaysSo) {
  struct Step {
    int warnings, outputs, inputs, files;
  };
  for (const Encoding encoding : {Encoding::kProtobuf, Encoding::kJson}) {
    std::vector<Step> seen;
    for (std::size_t limit = size_of(big_reply(), encoding); limit > 1'500;
         limit = limit * 9 / 10) {
      v1::ExportReply reply = big_reply();
      ASSERT_TRUE(trim_reply(reply, encoding, limit)) << limit;
      EXPECT_LE(size_of(reply, encoding), limit);
      EXPECT_EQ(reply.request_id(), "r-1");
      EXPECT_EQ(reply.result().manifest_uri(), "s3://bucket/o/export_manifest.json");
      if (reply.result().truncated()) {
        EXPECT_EQ(reply.result().warnings().rbegin()->code(), "REPLY_TRUNCATED");
      }
      // Nothing later in the order is gone while something earlier is still there.
      const v1::ExportResult& result = reply.result();
      EXPECT_TRUE(result.outputs_size() > 0 || result.warnings_size() == 1);
      EXPECT_TRUE(result.inputs_size() > 0 || result.outputs_size() == 0);
      EXPECT_TRUE(result.files_size() > 0 || result.inputs_size() == 0);
      seen.push_back({result.warnings_size(),
                      result.outputs_size(),
                      result.inputs_size(),
                      result.files_size()});
    }
    EXPECT_GT(seen.front().warnings, 1);
    EXPECT_EQ(seen.back().files, 0) << "the loop reached the last step";
  }
}

TEST(TrimReply, ShortensFailures) {
  Error error(ErrorCode::kInvalidRequest, std::string(3'000, 'm'), std::string(3'000, 's'));
  error.set_problems(std::vector<FieldProblem>(50, {"field", std::string(1'000, 'x')}));
  v1::ExportReply reply = make_reply(context(), to_message(error));
  EXPECT_TRUE(trim_reply(reply, Encoding::kJson, 10'000));
  EXPECT_EQ(reply.failure().details_size(), 0);
  EXPECT_EQ(reply.failure().message().size(), 3'000U);
  EXPECT_TRUE(trim_reply(reply, Encoding::kJson, 1'500));
  EXPECT_EQ(reply.failure().message().size(), 200U);
  EXPECT_EQ(reply.failure().code(), v1::INVALID_REQUEST);
  EXPECT_FALSE(trim_reply(reply, Encoding::kJson, 10));
}

// ---- job settings -----------------------------------------------------------------------------

TEST(JobSpec, CarriesEverySetting) {
  const auto settings = messages::filled<v1::StoreSettings>();
  v1::StoreSettings expected = settings;
  expected.set_stall_timeout_ms(0);  // whole seconds: the filler's few ms round down
  EXPECT_TRUE(MessageDifferencer::Equals(to_message(to_store_config(settings)), expected))
      << to_message(to_store_config(settings)).DebugString();
  const auto bounds = messages::filled<v1::ArchiveBounds>();
  EXPECT_TRUE(MessageDifferencer::Equals(to_message(to_archive_limits(bounds)), bounds));
}

TEST(JobSpec, TellsDefaultsFromSettings) {
  const StoreConfig config = to_store_config(to_message(StoreConfig{}));
  EXPECT_EQ(config.path_style, std::nullopt);
  EXPECT_EQ(config.conditional, ConditionalWrites::kAuto);
  EXPECT_EQ(config.checksum, UploadChecksum::kAuto);
  EXPECT_EQ(config.stall_timeout, StoreConfig{}.stall_timeout);
  EXPECT_EQ(config.retry.outage_bound, RetryPolicy{}.outage_bound);
}

}  // namespace
}  // namespace onnxferry
