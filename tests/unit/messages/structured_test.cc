#include "messages/structured.h"

#include <stdexcept>

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck/gtest.h>

#include "messages/uuid.h"
#include "tests/unit/messages/fill.h"

namespace onnxferry::messages {
namespace {

using google::protobuf::util::MessageDifferencer;
using nlohmann::json;
using testing::HasSubstr;

const RecordPosition kPosition{"onnxferry.requests", 3, 42};
const Headers kStructured = {{"content-type", "application/cloudevents+json; charset=UTF-8"}};

json event() {
  return json::parse(R"({"specversion": "1.0", "id": "e-1", "source": "/test",
    "type": "dev.onnxferry.export.requested.v1",
    "data": {"minio_tar_uri": "s3://b/m.tar", "output_dir": "s3://b/o/"}})");
}

DecodedRequest decode(const json& value, const Headers& headers = kStructured) {
  return decode_request(value.dump(), headers, kPosition);
}

TEST(StructuredRequest, TakesItsAttributesFromTheValue) {
  json value = event();
  value["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  Headers headers = kStructured;
  headers.push_back({"ce_id", "of-a-header"});
  headers.push_back({"kafka_correlationId", "c-1"});
  const DecodedRequest decoded = decode(value, headers);
  EXPECT_EQ(to_text(decoded.problems), "");
  EXPECT_EQ(decoded.request.minio_tar_uri(), "s3://b/m.tar");
  EXPECT_EQ(decoded.envelope.request_id, "e-1");
  EXPECT_EQ(decoded.envelope.mode, ContentMode::kStructured);
  EXPECT_EQ(decoded.envelope.encoding, Encoding::kJson);
  EXPECT_EQ(decoded.envelope.correlation_id, "c-1");
  EXPECT_EQ(decoded.envelope.traceparent, value["traceparent"].get<std::string>());
}

TEST(StructuredRequest, IsFoundInAnyLetterCase) {
  const Headers headers = {{"Content-Type", "Application/CloudEvents+JSON"}};
  EXPECT_EQ(to_text(decode(event(), headers).problems), "");
}

TEST(StructuredRequest, TakesProtobufAsBase64) {
  auto request = filled<v1::ExportRequest>();
  request.set_request_id("6f0c");
  for (const int extra : {0, 1, 2}) {  // every length of padding
    request.set_model_id(std::string(static_cast<std::size_t>(extra), 'm'));
    json value = event();
    value.erase("data");
    value["datacontenttype"] = "application/protobuf";
    const std::string data = encode_value(request, Encoding::kProtobuf);
    value["data_base64"] = json::parse(to_structured({}, Encoding::kProtobuf, data))["data_base64"];
    const DecodedRequest decoded = decode(value);
    EXPECT_EQ(to_text(decoded.problems), "");
    EXPECT_TRUE(MessageDifferencer::Equals(decoded.request, request));
    EXPECT_EQ(decoded.envelope.content_type, "application/protobuf");
  }
}

TEST(StructuredRequest, NamesProblemsByTheirPlaceInTheValue) {
  json value = event();
  value["type"] = "other";
  value["specversion"] = "0.3";
  value.erase("source");
  value["data"]["verify"] = {{"levl", "load"}};
  value["data"]["opset"] = "x";
  const std::string problems = to_text(decode(value).problems);
  EXPECT_THAT(problems, HasSubstr("type: found \"other\", expected dev.onnxferry"));
  EXPECT_THAT(problems, HasSubstr("specversion: found \"0.3\", expected 1.0"));
  EXPECT_THAT(problems, HasSubstr("source: missing"));
  EXPECT_THAT(problems, HasSubstr("data.verify.levl: unknown field; did you mean \"level\"?"));
  EXPECT_THAT(problems, HasSubstr("data.opset: expected a 32-bit integer"));
}

TEST(StructuredRequest, RefusesDataItCannotRead) {
  const auto problems_with = [](const char* field, const json& data, const char* type = nullptr) {
    json value = event();
    value.erase("data");
    value[field] = data;
    if (type != nullptr) {
      value["datacontenttype"] = type;
    }
    return to_text(decode(value).problems);
  };
  EXPECT_EQ(problems_with("data", nullptr), "data: missing\n");
  EXPECT_EQ(problems_with("data", "text"), "data: expected an object\n");
  EXPECT_THAT(problems_with("data", json::object(), "application/protobuf"),
              HasSubstr("data: datacontenttype is \"application/protobuf\""));
  for (const char* text : {"?", "AAA", "A===", "AA=A", "AAAA\n"}) {
    EXPECT_EQ(problems_with("data_base64", text),
              "data_base64: expected a base64 string with padding\n");
  }
  EXPECT_THAT(problems_with("data_base64", "AAAA", "text/plain"), HasSubstr("datacontenttype: "));
  json both = event();
  both["data_base64"] = "AAAA";
  EXPECT_EQ(to_text(decode(both).problems), "data: given together with data_base64; give one\n");
}

TEST(StructuredRequest, IsAnsweredWhateverItsBytesAre) {
  for (const std::string value : {"", "{", "[]", "null", R"({"id": 7})"}) {
    const DecodedRequest decoded = decode_request(value, kStructured, kPosition);
    EXPECT_FALSE(decoded.problems.empty()) << value;
    EXPECT_FALSE(decoded.envelope.request_id.empty());
    EXPECT_EQ(decoded.envelope.mode, ContentMode::kStructured);
    EXPECT_EQ(decoded.envelope.encoding, Encoding::kJson);
  }
  EXPECT_FALSE(decode_request(std::nullopt, kStructured, kPosition).problems.empty());
}

RC_GTEST_PROP(StructuredRequest, SurvivesDamage, (std::uint16_t at, char byte)) {
  std::string value = event().dump();
  value[at % value.size()] = byte;
  RC_ASSERT(!decode_request(value, kStructured, kPosition).envelope.request_id.empty());
}

// ---- what is sent ------------------------------------------------------------------------------

Envelope structured_envelope(Encoding encoding) {
  Envelope envelope;
  envelope.mode = ContentMode::kStructured;
  envelope.encoding = encoding;
  envelope.content_type = encoding == Encoding::kJson ? "application/json" : "application/protobuf";
  envelope.correlation_id = "c-1";
  envelope.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  return envelope;
}

TEST(StructuredReply, HasAllOfItInTheValue) {
  auto reply = filled<v1::ExportReply>();
  reply.set_request_id("6f0c");
  for (const Encoding encoding : {Encoding::kJson, Encoding::kProtobuf}) {
    const EncodedMessage sent = encode_reply(reply, structured_envelope(encoding), "/test");
    const json value = json::parse(sent.value);
    EXPECT_EQ(value["specversion"], "1.0");
    EXPECT_EQ(value["id"], event_id("6f0c", kTypeCompleted));
    EXPECT_EQ(value["type"], kTypeCompleted);
    EXPECT_EQ(value["subject"], "6f0c");
    EXPECT_EQ(value["traceparent"], structured_envelope(encoding).traceparent.value_or(""));
    EXPECT_EQ(value.contains("data"), encoding == Encoding::kJson);
    EXPECT_EQ(sent.headers.front(), (Header{"content-type", "application/cloudevents+json"}));
    EXPECT_EQ(*find_header(sent.headers, "kafka_correlationId"), "c-1");
    EXPECT_EQ(find_header(sent.headers, "ce_type"), nullptr);
    EXPECT_TRUE(MessageDifferencer::Equals(decode_reply(sent.value, sent.headers), reply));
  }
}

TEST(StructuredReply, FitsItsBudget) {
  constexpr std::size_t kMax = 20'000;
  for (const Encoding encoding : {Encoding::kJson, Encoding::kProtobuf}) {
    const Envelope envelope = structured_envelope(encoding);
    v1::ExportReply reply;
    reply.set_request_id(std::string(256, '"'));  // doubled in JSON
    while (encode_value(reply, encoding).size() < value_budget(envelope, kMax) - 1) {
      reply.mutable_model_id()->push_back('x');
    }
    EXPECT_LE(encode_reply(reply, envelope, "/test").value.size(), kMax);
  }
  EXPECT_EQ(value_budget(Envelope(), kMax), kMax);
}

// ---- cancel and progress -----------------------------------------------------------------------

std::optional<CancelRecord> read_cancel(const std::optional<std::string>& key,
                                        std::optional<std::string_view> value,
                                        const Headers& headers = {}) {
  std::string problem;
  auto record = decode_cancel(key, value, headers, problem);
  EXPECT_EQ(record.has_value(), problem.empty()) << problem;
  return record;
}

/// \throws std::invalid_argument where there is none
CancelRecord a_cancel(const std::optional<std::string>& key,
                      std::optional<std::string_view> value,
                      const Headers& headers = {}) {
  const auto record = read_cancel(key, value, headers);
  return record ? *record : throw std::invalid_argument("no cancellation");
}

TEST(Cancel, ReadsWhatItWrites) {
  v1::CancelRequest cancel;
  cancel.set_request_id("r");
  cancel.set_reason("too late");
  const EncodedMessage sent = encode_cancel(cancel, "/test");
  const CancelRecord record = a_cancel(sent.key, sent.value, sent.headers);
  EXPECT_EQ(record.request_id, "r");
  EXPECT_EQ(record.reason, "too late");
  EXPECT_FALSE(record.is_removed);
}

TEST(Cancel, NeedsOnlyItsKey) {
  for (const std::string_view value : {"", "{}", "{", "\xff\xff", R"({"unknown": 1})"}) {
    const CancelRecord record = a_cancel("r", value);
    EXPECT_EQ(record.request_id, "r");
    EXPECT_EQ(record.reason, "");
  }
  EXPECT_TRUE(a_cancel("r", std::nullopt).is_removed);
}

TEST(Cancel, IsReadInStructuredMode) {
  const json value = {{"specversion", "1.0"},
                      {"id", "1"},
                      {"source", "/test"},
                      {"type", kTypeCancelRequested},
                      {"data", {{"reason", "why"}}}};
  EXPECT_EQ(a_cancel("r", value.dump(), kStructured).reason, "why");
}

TEST(Cancel, LeavesOutWhatIsMeantForSomethingElse) {
  EXPECT_FALSE(read_cancel(std::nullopt, "{}"));
  EXPECT_FALSE(read_cancel("", "{}"));
  EXPECT_FALSE(read_cancel("a\nb", "{}"));
  EXPECT_FALSE(read_cancel("r", R"({"request_id": "another"})"));
  EXPECT_FALSE(read_cancel("r", "{}", {{"ce_type", std::string(kTypeRequested)}}));
}

TEST(Cancel, CutsALongReason) {
  const std::string value = R"({"reason": ")" + std::string(5'000, 'x') + "\"}";
  EXPECT_EQ(a_cancel("r", value).reason.size(), kMaxCancelReasonBytes);
}

TEST(Progress, NamesItselfByItsTime) {
  v1::ProgressEvent progress;
  progress.set_request_id("r");
  progress.mutable_time()->set_seconds(1'800'000'000);
  progress.mutable_time()->set_nanos(250'000'000);
  progress.set_percent(12.5);
  Envelope envelope;
  envelope.encoding = Encoding::kJson;
  envelope.content_type = "application/json";
  const EncodedMessage sent = encode_progress(progress, envelope, "/test");
  EXPECT_EQ(*find_header(sent.headers, "ce_sequence"), "1800000000250");
  EXPECT_EQ(*find_header(sent.headers, "ce_id"), event_id("r", kTypeProgress, 1'800'000'000'250));
  EXPECT_EQ(json::parse(sent.value)["percent"], 12.5);
  progress.clear_percent();
  EXPECT_FALSE(json::parse(encode_progress(progress, envelope, "/test").value).contains("percent"));
}

}  // namespace
}  // namespace onnxferry::messages
