#include "messages/codec.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <google/protobuf/util/time_util.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck/gtest.h>

#include "tests/unit/messages/fill.h"

namespace onnxferry::messages {
namespace {

using google::protobuf::util::MessageDifferencer;
using nlohmann::json;
using testing::HasSubstr;

const RecordPosition kPosition{"onnxferry.requests", 3, 42};
// uuid5(uuid5(NAMESPACE_DNS, "onnxferry.dev"), "onnxferry.requests/3/42") by Python's uuid module.
constexpr std::string_view kPositionId = "ee555e64-3670-58c8-ac00-0d9ecbd6b77e";

Headers content_type(std::string value) {
  return {{"content-type", std::move(value)}};
}

v1::ExportRequest full_request() {
  auto request = filled<v1::ExportRequest>();
  request.set_request_id("6f0c");  // the filler's text has a line break, which an id may not
  return request;
}

std::string protobuf(const v1::ExportRequest& request) {
  return encode_value(request, Encoding::kProtobuf);
}

/// The example of the document that the contract was made from, with our names for the rest.
constexpr std::string_view kSeedRequest = R"({
  "minio_tar_uri": "s3://bucket/qwen/llm/qwen-2.5-0.5B-LLM.tar",
  "output_dir": "s3://bucket/exports/qwen2.5-0.5b/",
  "device": "cpu", "dtype": "fp32", "keep_weights": true, "use_onnxslim": false})";

TEST(DecodeRequest, KeepsEveryFieldInBothEncodings) {
  const v1::ExportRequest request = full_request();
  for (const Encoding encoding : {Encoding::kProtobuf, Encoding::kJson}) {
    const EncodedMessage sent = encode_request(request, encoding, "/test");
    const DecodedRequest decoded = decode_request(sent.value, sent.headers, kPosition);
    EXPECT_EQ(to_text(decoded.problems), "");
    EXPECT_TRUE(MessageDifferencer::Equals(decoded.request, request))
        << decoded.request.DebugString();
    EXPECT_EQ(decoded.envelope.encoding, encoding);
    EXPECT_EQ(decoded.envelope.request_id, "6f0c");
  }
}

TEST(DecodeRequest, AcceptsCamelCaseNames) {
  const auto decoded = decode_request(
      R"({"minioTarUri":"s3://b/m.tar","outputDir":"s3://b/o/","modelCard":{"baseModel":"x"}})",
      {},
      kPosition);
  EXPECT_EQ(to_text(decoded.problems), "");
  EXPECT_EQ(decoded.request.minio_tar_uri(), "s3://b/m.tar");
  EXPECT_EQ(decoded.request.model_card().base_model(), "x");
}

TEST(DecodeRequest, TakesTheSeedRequestVerbatim) {
  const auto decoded = decode_request(kSeedRequest, {}, kPosition);
  EXPECT_EQ(to_text(decoded.problems), "");
  EXPECT_EQ(decoded.envelope.encoding, Encoding::kJson);
  EXPECT_EQ(decoded.envelope.content_type, "application/json");
  EXPECT_EQ(decoded.request.minio_tar_uri(), "s3://bucket/qwen/llm/qwen-2.5-0.5B-LLM.tar");
  EXPECT_EQ(decoded.request.device(), "cpu");
  EXPECT_TRUE(decoded.request.keep_weights());
  EXPECT_EQ(decoded.request.request_id(), kPositionId);
}

TEST(DecodeRequest, FollowsTheContentTypeNotTheFirstByte) {
  const std::string bytes = protobuf(full_request());
  EXPECT_TRUE(
      decode_request(bytes, content_type("application/x-protobuf"), kPosition).problems.empty());
  const auto other =
      decode_request(bytes,
                     content_type("Application/Protobuf; messageType=onnxferry.v1.ExportRequest"),
                     kPosition);
  EXPECT_TRUE(other.problems.empty());
  EXPECT_EQ(other.envelope.content_type, "application/protobuf");
  EXPECT_FALSE(decode_request(bytes, content_type("application/json"), kPosition).problems.empty());
  EXPECT_TRUE(
      decode_request(kSeedRequest, content_type("application/json; charset=utf-8"), kPosition)
          .problems.empty());
  EXPECT_TRUE(decode_request(kSeedRequest, {{"Content-Type", "application/json"}}, kPosition)
                  .problems.empty());
}

TEST(DecodeRequest, RefusesOtherContentTypesButStillReplies) {
  const auto text = decode_request(kSeedRequest, content_type("text/plain"), kPosition);
  EXPECT_EQ(
      to_text(text.problems),
      "content-type: found \"text/plain\", expected application/json, application/x-protobuf, "
      "application/protobuf or application/cloudevents+json\n");
  EXPECT_EQ(text.envelope.encoding, Encoding::kJson);
}

TEST(DecodeRequest, RefusesNullAndEmptyValues) {
  const auto null = decode_request(std::nullopt, {}, kPosition);
  EXPECT_EQ(to_text(null.problems), ": the record's value is null; expected an ExportRequest\n");
  EXPECT_EQ(null.envelope.request_id, kPositionId);
  const auto empty = decode_request("", {{"ce_id", "a-1"}}, kPosition);
  EXPECT_EQ(to_text(empty.problems), ": the record's value is empty; expected an ExportRequest\n");
  EXPECT_EQ(empty.envelope.request_id, "a-1");
}

TEST(DecodeRequest, RefusesValuesPastTheSizeLimitUnread) {
  const std::string value = "{\"model_id\":\"" + std::string(kMaxRequestBytes, 'x') + "\"}";
  const auto decoded = decode_request(value, {}, kPosition);
  EXPECT_EQ(to_text(decoded.problems), ": 1048591 bytes; at most 1048576 are read\n");
}

TEST(DecodeRequest, NamesUnknownProtobufFieldsAtEveryDepth) {
  v1::ExportRequest request;
  request.set_request_id("r");
  request.set_model_id("m");
  request.GetReflection()->MutableUnknownFields(&request)->AddVarint(900, 1);
  auto& verify = *request.mutable_verify();
  verify.GetReflection()->MutableUnknownFields(&verify)->AddLengthDelimited(77, "x");
  const auto decoded = decode_request(protobuf(request), {}, kPosition);
  EXPECT_EQ(
      to_text(decoded.problems),
      "#900: unknown field number 900 of onnxferry.v1.ExportRequest; the sender's schema is newer "
      "or "
      "another one\n"
      "verify.#77: unknown field number 77 of onnxferry.v1.Verify; the sender's schema is newer or "
      "another one\n");
  EXPECT_EQ(decoded.request.model_id(), "m") << "kept for the failure reply";
}

TEST(DecodeRequest, RefusesDamagedProtobuf) {
  const std::string bytes = protobuf(full_request());
  const auto decoded = decode_request(
      bytes.substr(0, bytes.size() - 1), content_type("application/x-protobuf"), kPosition);
  EXPECT_THAT(to_text(decoded.problems), HasSubstr("not a protobuf onnxferry.v1.ExportRequest"));
  EXPECT_EQ(decoded.envelope.request_id, kPositionId) << "a damaged id is not trusted";
}

TEST(DecodeRequest, UnwrapsConfluentFraming) {
  const std::string body = protobuf(full_request());
  const std::string id("\0\0\0\0\x07", 5);
  for (const std::string& path : {std::string("\0", 1), std::string("\x02\0", 2)}) {
    const auto decoded = decode_request(id + path + body, {}, kPosition);
    EXPECT_EQ(to_text(decoded.problems), "");
    EXPECT_EQ(decoded.envelope.request_id, "6f0c");
  }
  for (const std::string& path :
       {std::string("\x02\x02", 2), std::string("\x04\0\0", 3), std::string("\x80", 1)}) {
    EXPECT_THAT(to_text(decode_request(id + path + body, {}, kPosition).problems),
                HasSubstr("Confluent framing"));
  }
  EXPECT_THAT(to_text(decode_request(id, {}, kPosition).problems), HasSubstr("Confluent framing"));
  const auto framed_json =
      decode_request(id + std::string(kSeedRequest), content_type("application/json"), kPosition);
  EXPECT_EQ(to_text(framed_json.problems), "");
}

TEST(DecodeRequest, PrefersItsOwnIdThenTheEventsThenThePosition) {
  const Headers headers = {{"ce_id", "event-1"}};
  EXPECT_EQ(decode_request(R"({"request_id":"own"})", headers, kPosition).envelope.request_id,
            "own");
  EXPECT_EQ(decode_request(R"({})", headers, kPosition).envelope.request_id, "event-1");
  EXPECT_EQ(decode_request(R"({})", {}, kPosition).envelope.request_id, kPositionId);
  EXPECT_EQ(decode_request(R"({})", headers, kPosition).request.request_id(), "event-1");
}

TEST(DecodeRequest, RefusesIdsThatAreNotPrintable) {
  for (const std::string& id : {std::string("a\\nb"), std::string(257, 'x')}) {
    const auto decoded = decode_request("{\"request_id\":\"" + id + "\"}", {}, kPosition);
    ASSERT_EQ(decoded.problems.size(), 1U);
    EXPECT_EQ(decoded.problems[0].field(), "request_id");
    EXPECT_EQ(decoded.envelope.request_id, kPositionId);
    EXPECT_EQ(decoded.request.request_id(), kPositionId);
  }
}

RC_GTEST_PROP(DecodeRequest,
              SurvivesAnyBytes,
              (const std::string& value, const std::string& header)) {
  const Headers headers = {
      {"kafka_replyPartition", header}, {"ce_id", header}, {"kafka_replyTopic", header}};
  for (const std::string type : {"application/json", "application/x-protobuf"}) {
    Headers typed = headers;
    typed.push_back({"content-type", type});
    const auto decoded = decode_request(value, typed, kPosition);
    RC_ASSERT(!decoded.envelope.request_id.empty());
    RC_ASSERT(decoded.request.request_id() == decoded.envelope.request_id);
  }
}

RC_GTEST_PROP(DecodeRequest, SurvivesDamageOfAGoodRequest, (std::uint16_t at, char byte)) {
  for (const Encoding encoding : {Encoding::kJson, Encoding::kProtobuf}) {
    EncodedMessage sent = encode_request(full_request(), encoding, "/test");
    sent.value[at % sent.value.size()] = byte;
    const auto decoded = decode_request(sent.value, sent.headers, kPosition);
    RC_ASSERT(!decoded.envelope.request_id.empty());
  }
}

// ---- replies ----------------------------------------------------------------------------------

Envelope envelope(Encoding encoding) {
  Envelope envelope;
  envelope.encoding = encoding;
  envelope.content_type =
      encoding == Encoding::kJson ? "application/json" : "application/x-protobuf";
  envelope.correlation_id = std::string("\x00\xff\x01", 3);
  envelope.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  return envelope;
}

v1::ExportReply full_reply() {
  auto reply = filled<v1::ExportReply>();
  reply.set_request_id("6f0c");
  google::protobuf::util::TimeUtil::FromString("2026-05-01T10:00:00.250Z",
                                               reply.mutable_started_at());
  google::protobuf::util::TimeUtil::FromString("2026-05-01T10:00:05Z", reply.mutable_finished_at());
  return reply;
}

TEST(EncodeReply, KeepsEveryFieldInBothEncodingsAndOutcomes) {
  v1::ExportReply failed = full_reply();
  Filler().fill(*failed.mutable_failure());
  for (const v1::ExportReply& reply : {full_reply(), failed}) {
    for (const Encoding encoding : {Encoding::kProtobuf, Encoding::kJson}) {
      const EncodedMessage sent = encode_reply(reply, envelope(encoding), "/onnxferry/test");
      EXPECT_TRUE(MessageDifferencer::Equals(decode_reply(sent.value, sent.headers), reply));
    }
  }
}

TEST(EncodeReply, SpeaksCloudEventsBinaryMode) {
  const EncodedMessage sent =
      encode_reply(full_reply(), envelope(Encoding::kJson), "/onnxferry/test");
  EXPECT_EQ(sent.key, "6f0c");
  const Headers expected = {
      {"ce_specversion", "1.0"},
      // uuid5 of "6f0c/dev.onnxferry.export.completed.v1", by Python's uuid module
      {"ce_id", "bd98c505-c5bd-590c-a7ec-ed55e8513a6c"},
      {"ce_source", "/onnxferry/test"},
      {"ce_type", "dev.onnxferry.export.completed.v1"},
      {"ce_subject", "6f0c"},
      {"ce_time", "2026-05-01T10:00:05Z"},
      {"content-type", "application/json"},
      {"kafka_correlationId", std::string("\x00\xff\x01", 3)},
      {"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
  };
  EXPECT_EQ(sent.headers, expected);
}

TEST(EncodeReply, NamesItsTypeByOutcome) {
  v1::ExportReply reply;
  reply.mutable_failure()->set_code(v1::CORRUPT_ARCHIVE);
  EXPECT_EQ(reply_type(reply), "dev.onnxferry.export.failed.v1");
  reply.mutable_failure()->set_code(v1::CANCELLED);
  EXPECT_EQ(reply_type(reply), "dev.onnxferry.export.cancelled.v1");
  reply.mutable_result();
  EXPECT_EQ(reply_type(reply), "dev.onnxferry.export.completed.v1");
}

TEST(EncodeReply, WritesTheSameBytesAgain) {
  v1::ExportReply reply = full_reply();
  for (int i = 0; i < 50; ++i) {
    (*reply.mutable_labels())[std::to_string(i * 7919)] = "v";
  }
  v1::ExportReply copy;
  ASSERT_TRUE(copy.ParseFromString(reply.SerializeAsString()));  // another order inside the map
  EXPECT_EQ(encode_value(reply, Encoding::kProtobuf), encode_value(copy, Encoding::kProtobuf));
}

TEST(EncodeReply, LooksLikeTheContractInJson) {
  v1::ExportReply reply;
  reply.set_request_id("r-1");
  reply.set_attempt(1);
  reply.mutable_worker()->set_version("0.1.0");
  google::protobuf::util::TimeUtil::FromString("2026-05-01T10:00:00Z", reply.mutable_started_at());
  google::protobuf::util::TimeUtil::FromString("2026-05-01T10:00:05Z", reply.mutable_finished_at());
  v1::Failure& failure = *reply.mutable_failure();
  failure.set_code(v1::INVALID_REQUEST);
  failure.set_message("dtype: \"fp8\" is unknown");
  failure.set_subject("dtype");
  auto& detail = *failure.add_details();
  detail.set_field("dtype");
  detail.set_text("\"fp8\" is unknown");
  EXPECT_EQ(json::parse(encode_value(reply, Encoding::kJson)), json::parse(R"({
    "request_id": "r-1", "model_id": "", "labels": {}, "attempt": 1,
    "worker": {"version": "0.1.0", "host": "", "device": ""},
    "started_at": "2026-05-01T10:00:00Z", "finished_at": "2026-05-01T10:00:05Z", "stages": [],
    "failure": {"code": "INVALID_REQUEST", "message": "dtype: \"fp8\" is unknown", "subject": "dtype",
                "stage": "", "retryable": false,
                "details": [{"field": "dtype", "text": "\"fp8\" is unknown"}]}})"));
}

TEST(EncodeReply, WritesCountsAsStringsInJson) {
  v1::ExportReply reply;
  reply.mutable_result()->add_files()->set_bytes(9'007'199'254'740'993ULL);
  const json written = json::parse(encode_value(reply, Encoding::kJson));
  EXPECT_EQ(written["result"]["files"][0]["bytes"], "9007199254740993");
}

TEST(DecodeReply, SaysWhatIsWrong) {
  EXPECT_THROW(decode_reply("{", {}), std::runtime_error);
  EXPECT_THROW(decode_reply("\x01", {}), std::runtime_error);
  EXPECT_EQ(decode_reply(R"({"request_id":"r","field_of_tomorrow":1})", {}).request_id(), "r");
}

}  // namespace
}  // namespace onnxferry::messages
