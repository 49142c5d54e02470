#include "worker/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/intake.h"
#include "worker/outgoing.h"

namespace onnxferry {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using testing::HasSubstr;

constexpr char kGood[] =
    R"({"minio_tar_uri": "s3://bucket/a.tar", "output_dir": "s3://bucket/out/"})";
const system_clock::time_point kNow{seconds(1'800'000'000)};

const WorkerConfig& config() {
  static const WorkerConfig made = [] {
    WorkerConfig value;
    value.request_topics = {"requests"};
    return value;
  }();
  return made;
}

Record original() {
  Record made;
  made.position = {"requests", 2, 258};
  made.key = std::string("key\0\xff", 5);
  made.value = kGood;
  made.headers = {{"mine", "\x01\x02"}, {"mine", std::nullopt}, {"onnxferry-attempt", "forged"}};
  made.timestamp_ms = 1'700'000'000'123;
  made.log_append_time = true;
  return made;
}

std::unique_ptr<Job> admit(Record record) {
  return Intake(config()).admit(std::move(record), kNow);
}

/// The retry record as the broker would deliver it.
Record deliver(const OutgoingRecord& sent, std::int64_t offset = 7) {
  Record made;
  made.position = {sent.topic, 0, offset};
  made.key = sent.key;
  made.value = sent.value;
  made.headers = sent.headers;
  made.timestamp_ms = 1'800'000'000'000;
  return made;
}

OutgoingRecord moved(Job& job, unsigned attempt) {
  job.attempt = attempt;
  return make_retry(job, config(), kNow + seconds(30));
}

std::string& header(Record& record, std::string_view name) {
  for (auto found = record.headers.rbegin(); found != record.headers.rend(); ++found) {
    if (found->name == name) {
      return *found->value;
    }
  }
  throw std::out_of_range(std::string(name));
}

TEST(Retry, AMovedRequestComesBackAsItWasSent) {
  const auto job = admit(original());
  const OutgoingRecord sent = moved(*job, 2);
  EXPECT_EQ(sent.topic, "requests.retry");
  EXPECT_EQ(sent.when_missing, MissingTopic::kRefuse);
  const auto again = admit(deliver(sent));
  EXPECT_EQ(again->record.key, original().key);
  EXPECT_EQ(again->record.value, original().value);
  EXPECT_EQ(again->record.headers, original().headers);
  EXPECT_EQ(again->record.timestamp_ms, original().timestamp_ms);
  EXPECT_TRUE(again->record.log_append_time);
  EXPECT_EQ(again->origin, original().position);
  EXPECT_EQ(again->record.position, (messages::RecordPosition{"requests.retry", 0, 7}));
  EXPECT_EQ(again->request_id(), job->request_id());
  EXPECT_EQ(again->export_timestamp, job->export_timestamp);
  EXPECT_EQ(again->attempts_before, 2U);
  EXPECT_EQ(again->state, JobState::kWaiting);
  EXPECT_TRUE(again->is_early(std::chrono::steady_clock::now()));
}

TEST(Retry, TheTicketSaysWhatPeopleAndSpringsToolsRead) {
  const auto job = admit(original());
  Record sent = deliver(moved(*job, 2));
  EXPECT_EQ(header(sent, "onnxferry-request-id"), job->request_id());
  EXPECT_EQ(header(sent, "onnxferry-attempt"), "2");
  EXPECT_EQ(header(sent, "onnxferry-not-before"), "2027-01-15T08:00:30Z");
  EXPECT_EQ(header(sent, "onnxferry-original-topic"), "requests");
  EXPECT_EQ(header(sent, "onnxferry-original-partition"), "2");
  EXPECT_EQ(header(sent, "onnxferry-original-offset"), "258");
  EXPECT_EQ(header(sent, "retry_topic-attempts"), std::string("\0\0\0\2", 4));
  EXPECT_EQ(messages::from_big_endian<std::int64_t>(header(sent, "retry_topic-original-timestamp")),
            1'700'000'000'123);
}

TEST(Retry, ASecondMoveNamesTheOriginalAgain) {
  const auto first = admit(original());
  const auto second = admit(deliver(moved(*first, 1)));
  const auto third = admit(deliver(moved(*second, 2), 8));
  EXPECT_EQ(third->origin, original().position);
  EXPECT_EQ(third->attempts_before, 2U);
  EXPECT_EQ(third->record.headers, original().headers);
}

TEST(Retry, TheDeadLetterOfARetryIsThatOfTheOriginal) {
  const auto job = admit(original());
  const auto again = admit(deliver(moved(*job, 2)));
  v1::Failure failure;
  failure.set_code(v1::CRASHED);
  end_job(*job, failure, DeadLetter::kYes);
  end_job(*again, failure, DeadLetter::kYes);
  const OutgoingRecord direct = make_dead_letter(*job, config());
  const OutgoingRecord letter = make_dead_letter(*again, config());
  EXPECT_EQ(letter.topic, "requests.dlq");
  EXPECT_EQ(letter.key, direct.key);
  EXPECT_EQ(letter.value, direct.value);
  EXPECT_EQ(letter.headers, direct.headers);
}

TEST(Retry, AnythingElseOnTheRetryTopicIsARequestOfItsOwn) {
  const auto job = admit(original());
  struct Case {
    std::string_view name;
    std::string value;
  };
  const std::vector<Case> cases = {
      {"onnxferry-attempt", "0"},
      {"onnxferry-attempt", "-1"},
      {"onnxferry-attempt", "4294967297"},
      {"onnxferry-attempt", "1 "},
      {"onnxferry-attempt", "5000"},
      {"onnxferry-not-before", "soon"},
      {"onnxferry-not-before", ""},
      {"onnxferry-original-topic", "somebody-elses"},
      {"onnxferry-original-topic", "requests.dlq"},
      {"onnxferry-original-partition", "-1"},
      {"onnxferry-original-offset", "9223372036854775808"},
      {"onnxferry-original-timestamp-type", "Sometime"},
      {"retry_topic-original-timestamp", std::string("\0\1", 2)},
      {"retry_topic-original-timestamp", std::string("\x80\0\0\0\0\0\0\0", 8)},
  };
  for (const auto& [name, value] : cases) {
    SCOPED_TRACE(testing::Message() << name << "=" << value);
    Record forged = deliver(moved(*job, 2));
    header(forged, name) = value;
    const messages::Headers before = forged.headers;
    std::string problem;
    EXPECT_EQ(take_ticket(forged, config(), problem), std::nullopt);
    EXPECT_THAT(problem, HasSubstr(std::string(name)));
    EXPECT_EQ(forged.headers, before);
    const auto taken = admit(forged);
    EXPECT_EQ(taken->attempts_before, 0U);
    EXPECT_EQ(taken->origin, forged.position);
    EXPECT_FALSE(taken->is_early(std::chrono::steady_clock::now()));
  }
  Record plain = original();
  plain.position = {"requests.retry", 0, 1};
  EXPECT_EQ(admit(plain)->attempts_before, 0U);
}

TEST(Retry, AForeignRecordOfTheRetryTopicIsCountedFromThenOn) {
  Record plain = original();
  plain.position = {"requests.retry", 0, 1};
  const auto job = admit(plain);
  const OutgoingRecord sent = moved(*job, 1);
  EXPECT_EQ(sent.topic, "requests.retry");
  const auto again = admit(deliver(sent));
  EXPECT_EQ(again->origin, plain.position);
  EXPECT_EQ(again->attempts_before, 1U);
  end_job(*again, v1::Failure(), DeadLetter::kYes);
  EXPECT_EQ(make_dead_letter(*again, config()).topic, "requests.dlq");
}

TEST(Retry, ATicketOnTheRequestTopicIsNoTicket) {
  const auto job = admit(original());
  Record forged = deliver(moved(*job, 2));
  forged.position = {"requests", 0, 1};
  EXPECT_EQ(admit(forged)->attempts_before, 0U);
}

TEST(Retry, WaitsForTheTimeOfTheTicketButNeverLongerThanTheDelay) {
  const auto until_due = [](system_clock::time_point not_before) {
    return time_until_due({.origin = {}, .attempts = 1, .not_before = not_before}, config(), kNow);
  };
  EXPECT_EQ(until_due(kNow + milliseconds(1'500)), milliseconds(1'500));
  EXPECT_EQ(until_due(kNow), milliseconds(0));
  EXPECT_EQ(until_due(kNow - seconds(1)), milliseconds(0));
  EXPECT_EQ(until_due(kNow + std::chrono::hours(1)), milliseconds(config().retry_delay_ms));
  EXPECT_EQ(until_due(system_clock::time_point::max()), milliseconds(config().retry_delay_ms));
  EXPECT_EQ(until_due(system_clock::time_point::min()), milliseconds(0));
}

TEST(Retry, AReplyNeverGoesToATopicThatIsRead) {
  WorkerConfig open = config();
  open.reply_topic_allow = ".*";
  for (const char* topic : {"requests", "requests.retry"}) {
    Record record = original();
    record.headers = {{"kafka_replyTopic", topic}};
    const auto job = Intake(open).admit(record, kNow);
    ASSERT_EQ(job->state, JobState::kEnded) << topic;
    EXPECT_EQ(job->reply->failure().code(), v1::INVALID_REQUEST);
    EXPECT_EQ(make_outgoing(*job, open).front().topic, open.reply_topic);
  }
}

}  // namespace
}  // namespace onnxferry
