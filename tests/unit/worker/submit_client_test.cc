#include "worker/submit_client.h"

#include <array>
#include <atomic>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages/uuid.h"
#include "pipeline/error.h"
#include "worker/kafka_handles.h"

namespace onnxferry {
namespace {

using testing::HasSubstr;

/// librdkafka's own mock cluster: a broker inside this process.
class SubmitClientTest : public testing::Test {
 protected:
  void SetUp() override {
    std::array<char, 256> reason{};
    host_.reset(rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), reason.data(), reason.size()));
    ASSERT_NE(host_, nullptr) << reason.data();
    cluster_.reset(rd_kafka_mock_cluster_new(host_.get(), 1));
    rd_kafka_mock_topic_create(cluster_.get(), "requests", 2, 1);
    rd_kafka_mock_topic_create(cluster_.get(), "replies", 3, 1);
    config_.bootstrap = rd_kafka_mock_cluster_bootstraps(cluster_.get());
    config_.topic = "requests";
    config_.reply_topic = "replies";
    config_.timeout = std::chrono::seconds(20);
  }

  static messages::EncodedMessage request(const std::string& correlation_id) {
    v1::ExportRequest request;
    request.set_request_id("r-1");
    request.set_output_dir("s3://b/o/");
    auto message = messages::encode_request(request, messages::Encoding::kJson, "/test");
    message.headers.push_back({"kafka_correlationId", correlation_id});
    return message;
  }

  /// Produce a reply as a worker would.
  void reply(const std::string& request_id, const std::string& correlation_id) {
    v1::ExportReply reply;
    reply.set_request_id(request_id);
    reply.mutable_result()->set_task("fill-mask");
    messages::Envelope envelope;
    envelope.correlation_id = correlation_id;
    envelope.content_type = "application/x-protobuf";
    const auto message = messages::encode_reply(reply, envelope, "/test");
    std::array<char, 256> reason{};
    KafkaConf conf(rd_kafka_conf_new());
    rd_kafka_conf_set(
        conf.get(), "bootstrap.servers", config_.bootstrap.c_str(), reason.data(), reason.size());
    const KafkaHandle producer(
        rd_kafka_new(RD_KAFKA_PRODUCER, conf.release(), reason.data(), reason.size()));
    const KafkaTopic topic(rd_kafka_topic_new(producer.get(), "replies", nullptr));
    rd_kafka_headers_t* headers = rd_kafka_headers_new(8);
    for (const auto& header : message.headers) {
      rd_kafka_header_add(headers,
                          header.name.c_str(),
                          -1,
                          header.value->data(),
                          static_cast<ssize_t>(header.value->size()));
    }
    std::array<rd_kafka_vu_t, 4> fields{};
    fields[0].vtype = RD_KAFKA_VTYPE_RKT;
    fields[0].u.rkt = topic.get();
    fields[1].vtype = RD_KAFKA_VTYPE_VALUE;
    fields[1].u.mem = {const_cast<char*>(message.value.data()), message.value.size()};
    fields[2].vtype = RD_KAFKA_VTYPE_HEADERS;
    fields[2].u.headers = headers;
    fields[3].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
    fields[3].u.i = RD_KAFKA_MSG_F_COPY;
    EXPECT_EQ(rd_kafka_produceva(producer.get(), fields.data(), fields.size()), nullptr);
    EXPECT_EQ(rd_kafka_flush(producer.get(), 10'000), RD_KAFKA_RESP_ERR_NO_ERROR);
  }

  SubmitConfig config_;
  KafkaHandle host_;
  KafkaMockCluster cluster_;
};

TEST_F(SubmitClientTest, WaitsForTheReplyToItsOwnRequest) {
  reply("old", "mine");  // stood there before: the wait begins at the present end
  SubmitClient client(config_);
  std::thread worker([this] {
    reply("other", "another caller's");
    reply("r-1", "mine");
  });
  const auto found = client.submit(request("mine"));
  worker.join();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->request_id(), "r-1");
  EXPECT_EQ(found->result().task(), "fill-mask");
}

TEST_F(SubmitClientTest, GivesUpAfterTheTimeout) {
  config_.timeout = std::chrono::seconds(1);
  SubmitClient client(config_);
  EXPECT_EQ(client.submit(request("mine")), std::nullopt);
}

TEST_F(SubmitClientTest, NamesAWrongProperty) {
  config_.kafka["no.such.property"] = "1";
  try {
    const SubmitClient client(config_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    EXPECT_THAT(error.message(), HasSubstr("no.such.property"));
  }
}

TEST_F(SubmitClientTest, ReportsARefusedRequest) {
  rd_kafka_mock_push_request_errors(
      cluster_.get(), 0 /* Produce */, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
  SubmitClient client(config_);
  try {
    client.submit(request("mine"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
    EXPECT_THAT(error.message(), HasSubstr("the request was refused"));
  }
}

}  // namespace
}  // namespace onnxferry
