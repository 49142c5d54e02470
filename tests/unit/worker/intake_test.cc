#include "worker/intake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/outgoing.h"

namespace onnxferry {
namespace {

using testing::HasSubstr;

constexpr char kGood[] =
    R"({"minio_tar_uri": "s3://bucket/a.tar", "output_dir": "s3://bucket/out/"})";

Record record(std::optional<std::string> value, messages::Headers headers = {}) {
  Record made;
  made.position = {"requests", 2, 258};
  made.key = "key";
  made.value = std::move(value);
  made.headers = std::move(headers);
  made.timestamp_ms = 1'700'000'000'000;
  return made;
}

std::unique_ptr<Job> admit(Record made, const std::string& allow = {}) {
  static WorkerConfig config;
  config.reply_topic_allow = allow;
  return Intake(config).admit(std::move(made), std::chrono::system_clock::now());
}

const messages::Header* find(const OutgoingRecord& outgoing, std::string_view name) {
  for (const messages::Header& header : outgoing.headers) {
    if (header.name == name) {
      return &header;
    }
  }
  return nullptr;
}

TEST(Intake, LetsAGoodRequestWait) {
  const auto job = admit(record(kGood));
  ASSERT_EQ(job->state, JobState::kWaiting) << job->reply->ShortDebugString();
  EXPECT_EQ(job->export_timestamp, "2023-11-14T22:13:20Z");
  EXPECT_FALSE(job->request_id().empty());
}

TEST(Intake, AnswersWhatCannotBeDecodedAndKeepsItsBytes) {
  for (const char* value : {"{", "\xff\xff garbage", ""}) {
    const auto job = admit(record(value));
    ASSERT_EQ(job->state, JobState::kEnded) << value;
    EXPECT_EQ(job->reply->failure().code(), v1::INVALID_REQUEST);
    EXPECT_EQ(job->dead_letter_code, "INVALID_REQUEST");
    const auto records = make_outgoing(*job, WorkerConfig());
    ASSERT_EQ(records.size(), 2U);
    EXPECT_EQ(records[0].topic, "onnxferry.replies");
    EXPECT_EQ(records[1].topic, "requests.dlq");
    EXPECT_EQ(records[1].value, value);
  }
  EXPECT_EQ(admit(record(std::nullopt))->state, JobState::kEnded);
}

TEST(Intake, RefusesAReplyTopicThatIsNotAllowed) {
  const messages::Headers headers = {{"kafka_replyTopic", "mine"}};
  const auto refused = admit(record(kGood, headers), "mine-.*");
  ASSERT_EQ(refused->state, JobState::kEnded);
  EXPECT_THAT(refused->reply->failure().message(), HasSubstr("kafka_replyTopic \"mine\""));
  EXPECT_EQ(make_outgoing(*refused, WorkerConfig()).front().topic, "onnxferry.replies");
  EXPECT_EQ(admit(record(kGood, headers), "mine")->state, JobState::kWaiting);
}

TEST(Outgoing, DeadLetterCarriesTheRecordAndSpringsHeaders) {
  const auto job = admit(record("{", {{"mine", "\x01\x02"}}));
  const OutgoingRecord letter = make_dead_letter(*job, WorkerConfig());
  EXPECT_EQ(letter.key, "key");
  EXPECT_EQ(find(letter, "mine")->value, "\x01\x02");
  EXPECT_EQ(find(letter, "kafka_dlt-original-topic")->value, "requests");
  EXPECT_EQ(find(letter, "kafka_dlt-original-partition")->value, std::string("\0\0\0\2", 4));
  EXPECT_EQ(find(letter, "kafka_dlt-original-offset")->value, std::string("\0\0\0\0\0\0\1\2", 8));
  EXPECT_EQ(find(letter, "kafka_dlt-original-timestamp-type")->value, "CreateTime");
}

TEST(Outgoing, ADeadLetterThatIsTooLongKeepsItsHeadersOnly) {
  const auto job = admit(record(std::string(999'900, '\xff')));
  const OutgoingRecord letter = make_dead_letter(*job, WorkerConfig());
  EXPECT_EQ(letter.value, std::nullopt);
  EXPECT_EQ(find(letter, "onnxferry-dlq-omitted-bytes")->value, "999900");
}

TEST(Outgoing, ARepeatedlyAbortedReplyGoesSmallToTheDefaultTopicAndThenAlone) {
  const auto job = admit(record(kGood, {{"kafka_replyTopic", "mine"}}), "mine");
  v1::ExportResult result;
  for (int i = 0; i < 2000; ++i) {
    result.add_files()->set_name(std::string(100, 'n') + std::to_string(i));
  }
  end_job(*job, std::move(result));
  job->dead_letter_code = "INTERNAL";
  EXPECT_EQ(make_outgoing(*job, WorkerConfig()).front().topic, "mine");
  job->aborts = 3;
  const auto small = make_outgoing(*job, WorkerConfig());
  EXPECT_EQ(small.front().topic, "onnxferry.replies");
  EXPECT_LE(small.front().value->size(), 16'384U);
  EXPECT_EQ(small.size(), 2U);
  job->aborts = 6;
  EXPECT_EQ(make_outgoing(*job, WorkerConfig()).size(), 1U);
}

}  // namespace
}  // namespace onnxferry
