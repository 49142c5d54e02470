#include "worker/config_options.h"

#include <filesystem>
#include <fstream>

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/kafka_client.h"

namespace onnxferry {
namespace {

using testing::Contains;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

struct Loaded {
  WorkerConfig config;
  std::vector<FieldProblem> problems;
};

Loaded load(std::vector<std::string> flags,
            const ConfigOptions::EnvironmentList& environment = {}) {
  CLI::App app;
  const ConfigOptions options(app);
  std::reverse(flags.begin(), flags.end());
  app.parse(std::move(flags));
  Loaded loaded;
  loaded.problems = options.load(environment, loaded.config);
  return loaded;
}

auto problem(const std::string& field, const std::string& text) {
  return Contains(testing::AllOf(Field(&FieldProblem::field, field),
                                 Field(&FieldProblem::text, HasSubstr(text))));
}

TEST(ConfigOptions, DefaultsAreValid) {
  EXPECT_THAT(load({}).problems, IsEmpty());
}

TEST(ConfigOptions, FlagWinsOverEnvironmentAndEnvironmentOverFile) {
  const auto path = std::filesystem::path(testing::TempDir()) / "onnxferry-config-test.toml";
  std::ofstream(path) << "group = \"file\"\nmax-jobs = 2\nmax-attempts = 7\n\n[kafka]\n"
                         "client.rack = \"a\"\n";
  const Loaded loaded = load({"--config=" + path.string(), "--group=flag"},
                             {"ONNXFERRY_GROUP=environment", "ONNXFERRY_MAX_JOBS=3"});
  std::filesystem::remove(path);
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_EQ(loaded.config.group, "flag");
  EXPECT_EQ(loaded.config.max_jobs, 3);
  EXPECT_EQ(loaded.config.max_attempts, 7);
  EXPECT_EQ(loaded.config.kafka.at("client.rack"), "a");
}

TEST(ConfigOptions, AllowListsAreRepeatedFlagsOrCommas) {
  const Loaded loaded =
      load({"--allow-bucket=models", "--allow-bucket", "team-*", "--allow-host=a,b"},
           {"ONNXFERRY_ALLOW_HTTP=true"});
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_EQ(loaded.config.stores.allowed_buckets, (std::vector<std::string>{"models", "team-*"}));
  EXPECT_EQ(loaded.config.stores.allowed_hosts, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(loaded.config.stores.allow_http);
  EXPECT_FALSE(loaded.config.stores.allow_local_addresses);
}

TEST(ConfigOptions, StoreWordsAreCheckedAgainstTheirLists) {
  const Loaded good =
      load({"--s3-addressing=virtual", "--s3-conditional=off", "--s3-checksum=crc64nvme"});
  EXPECT_THAT(good.problems, IsEmpty());
  EXPECT_EQ(good.config.stores.path_style, false);
  EXPECT_EQ(good.config.stores.conditional, ConditionalWrites::kOff);
  EXPECT_EQ(good.config.stores.checksum, UploadChecksum::kCrc64Nvme);
  const Loaded bad = load({"--s3-checksum=crc32"});
  EXPECT_THAT(bad.problems,
              problem("--s3-checksum",
                      "\"crc32\" is unknown; expected auto, md5, crc32c, crc64nvme, none"));
}

TEST(ConfigOptions, PassesKafkaPropertiesThrough) {
  const Loaded loaded = load({"--kafka", "session.timeout.ms=6000", "--kafka", "client.rack=b=c"},
                             {"ONNXFERRY_KAFKA_SECURITY_PROTOCOL=ssl", "KAFKA_BROKERS=ignored"});
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_EQ(
      loaded.config.kafka,
      (std::map<std::string, std::string>{
          {"client.rack", "b=c"}, {"security.protocol", "ssl"}, {"session.timeout.ms", "6000"}}));
}

TEST(ConfigOptions, APasswordThatIsGivenWrongIsNotRepeated) {
  const Loaded loaded = load({"--kafka=sasl.password:geheim"});
  EXPECT_THAT(loaded.problems, problem("--kafka", "\"sasl.password…\" is not key=value"));
  EXPECT_THAT(loaded.problems, testing::Each(Field(&FieldProblem::text, Not(HasSubstr("geheim")))));
}

// What Kubernetes adds for services named onnxferry, onnxferry-kafka and onnxferry-kafka-bootstrap.
const ConfigOptions::EnvironmentList kServiceLinks = {
    "ONNXFERRY_SERVICE_HOST=10.0.0.1",
    "ONNXFERRY_SERVICE_PORT_HTTP=8080",
    "ONNXFERRY_PORT=tcp://10.0.0.1:8080",
    "ONNXFERRY_PORT_8080_TCP_ADDR=10.0.0.1",
    "ONNXFERRY_KAFKA_SERVICE_PORT=9092",
    "ONNXFERRY_KAFKA_BOOTSTRAP_SERVICE_HOST=10.0.0.2",
    "ONNXFERRY_KAFKA_BOOTSTRAP_PORT_9092_TCP=tcp://10.0.0.2:9092",
};

TEST(ConfigOptions, ServicesOfKubernetesAreNoSettings) {
  const Loaded loaded = load({}, kServiceLinks);
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_THAT(loaded.config.kafka, IsEmpty());
  EXPECT_THAT(find_unread_variables(kServiceLinks), IsEmpty());
}

TEST(ConfigOptions, NamesVariablesThatNothingReads) {
  EXPECT_THAT(
      find_unread_variables({"ONNXFERRY_MAX_JOB=2",
                             "ONNXFERRY_QQQQQQQQQQQQQQQQQQQQ=geheim",
                             "ONNXFERRY_MAX_JOBS=2",
                             "ONNXFERRY_KAFKA_CLIENT_RACK=a",
                             "ONNXFERRY_CONFIG=/etc/onnxferry.toml",
                             "ONNXFERRY_FAILPOINT=",
                             "ONNXFERRY_BOOTSTRAP=kafka:9092",
                             "MAX_JOB=2"}),
      testing::ElementsAre("the environment variable ONNXFERRY_MAX_JOB is not read; did you mean "
                           "ONNXFERRY_MAX_JOBS?",
                           "the environment variable ONNXFERRY_QQQQQQQQQQQQQQQQQQQQ is not read"));
}

TEST(ConfigOptions, NamesTheLibraryThatDoesNotKnowAProperty) {
  EXPECT_THAT(load({"--kafka=no.such.property=1"}).problems,
              problem("kafka",
                      "No such configuration property: \"no.such.property\" in librdkafka " +
                          std::string(rd_kafka_version_str())));
}

TEST(ConfigOptions, FindsPropertiesThatContradictEachOther) {
  EXPECT_THAT(
      load({"--kafka=transaction.timeout.ms=4000", "--kafka=message.timeout.ms=3000"}).problems,
      problem("kafka", "for sending replies: `socket.timeout.ms` must be set <="));
  EXPECT_THAT(
      load({"--kafka=max.poll.interval.ms=6000", "--kafka=session.timeout.ms=7000"}).problems,
      problem("kafka", "for reading requests: `max.poll.interval.ms`"));
  EXPECT_THAT(
      load({"--kafka=security.protocol=ssl", "--kafka=ssl.ca.location=/no/such/file"}).problems,
      problem("kafka", "ssl.ca.location"));
}

TEST(ConfigOptions, AnOldLibraryHasNoBrokerSideGroups) {
  const Loaded loaded = load({"--kafka=group.protocol=consumer"});
  if (rd_kafka_version() >= 0x020c0000) {
    EXPECT_THAT(loaded.problems, IsEmpty());
  } else {
    EXPECT_THAT(loaded.problems, problem("kafka", "needs librdkafka 2.12 or newer; this is "));
  }
}

TEST(ConfigOptions, ABrokerSideGroupDecidesTheTimes) {
  EXPECT_THAT(load({"--kafka=group.protocol=consumer", "--kafka=session.timeout.ms=6000"}).problems,
              problem("kafka", "session.timeout.ms cannot be set with group.protocol=consumer"));
}

TEST(KafkaProperties, OnlyAClassicGroupSetsTimesAndAssignor) {
  WorkerConfig config;
  const std::vector<std::string> decided_by_broker = {
      "session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"};
  for (const std::string& name : decided_by_broker) {
    EXPECT_TRUE(consumer_properties(config).contains(name)) << name;
  }
  config.kafka["group.protocol"] = "classic";
  EXPECT_TRUE(consumer_properties(config).contains("session.timeout.ms"));
  config.kafka["group.protocol"] = "consumer";
  for (const std::string& name : decided_by_broker) {
    EXPECT_FALSE(consumer_properties(config).contains(name)) << name;
  }
  EXPECT_EQ(consumer_properties(config).at("max.poll.interval.ms"), "2400000");
}

TEST(KafkaProperties, TheBrokerWaitsLongerForAHandOverThanTheWorker) {
  WorkerConfig config;
  for (const auto& [limit, expected] :
       {std::pair(0, "300000"), std::pair(60'000, "300000"), std::pair(600'000, "800000")}) {
    config.handover_limit_ms = limit;
    EXPECT_EQ(consumer_properties(config).at("max.poll.interval.ms"), expected);
  }
  config.kafka["max.poll.interval.ms"] = "7000";
  EXPECT_EQ(consumer_properties(config).at("max.poll.interval.ms"), "7000");
}

TEST(ConfigOptions, ReportsEveryProblemTogether) {
  const Loaded loaded = load({"--max-jobs=many",
                              "--reply-topic=not a topic",
                              "--reply-topic-allow=(",
                              "--kafka=isolation.level=read_uncommitted",
                              "--kafka=no.such.property=1",
                              "--log-format=xml",
                              "--scratch=relative"},
                             {"ONNXFERRY_MAX_ATTEMPTS=0"});
  EXPECT_THAT(loaded.problems, problem("--max-jobs", "\"many\" is not a whole number"));
  EXPECT_THAT(loaded.problems, problem("reply-topic", "not a topic name"));
  EXPECT_THAT(loaded.problems, problem("reply-topic-allow", "not a regular expression"));
  EXPECT_THAT(loaded.problems, problem("kafka", "isolation.level cannot be set"));
  EXPECT_THAT(loaded.problems, problem("kafka", "no.such.property"));
  EXPECT_THAT(loaded.problems, problem("--log-format", "neither text nor json"));
  EXPECT_THAT(loaded.problems, problem("scratch", "not an absolute path"));
  EXPECT_THAT(loaded.problems, problem("max-attempts", "0 is outside 1 to 100"));
  EXPECT_EQ(loaded.problems.size(), 8U);
}

TEST(ConfigOptions, TheRetryTopicIsATopicOfItsOwn) {
  for (const char* other : {"in", "out", "dead", "stop", "steps"}) {
    EXPECT_THAT(load({"--request-topic=in",
                      "--reply-topic=out",
                      "--dlq-topic=dead",
                      "--cancel-topic=stop",
                      "--progress-topic=steps",
                      std::string("--retry-topic=") + other})
                    .problems,
                problem("retry-topic", "choose another name"))
        << other;
  }
  EXPECT_THAT(load({"--request-topic=in,in.retry"}).problems,
              problem("retry-topic", "\"in.retry\" is a request topic too"));
  EXPECT_THAT(load({"--request-topic=" + std::string(245, 'n')}).problems,
              problem("retry-topic", "is not a topic name"));
  const Loaded two = load({"--request-topic=b,a"});
  EXPECT_THAT(two.problems, IsEmpty());
  EXPECT_THAT(consumed_topics(two.config), testing::ElementsAre("a", "a.retry", "b", "b.retry"));
  EXPECT_EQ(dlq_topic_of(two.config, "b.retry"), "b.dlq");
}

TEST(ConfigOptions, SpansGoWhereTheFlagOrOpenTelemetrysVariablesSay) {
  const std::string variable = "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318";
  EXPECT_EQ(traces_url(load({}).config.tracing), "");
  const Loaded standard = load({}, {variable});
  EXPECT_THAT(standard.problems, IsEmpty());
  EXPECT_THAT(print_config(standard.config),
              HasSubstr("# spans go to http://collector:4318/v1/traces\n"));
  EXPECT_EQ(traces_url(load({"--otlp-endpoint=http://mine"}, {variable}).config.tracing),
            "http://mine/v1/traces");
  EXPECT_THAT(load({"--otlp-endpoint=mine:4318"}).problems,
              problem("otlp-endpoint", "expected http(s)://host[:port]"));
}

TEST(ConfigOptions, NamesUnknownKeysOfAFile) {
  const auto path = std::filesystem::path(testing::TempDir()) / "onnxferry-unknown-test.toml";
  std::ofstream(path) << "max-job = 2\n";
  const Loaded loaded = load({"--config=" + path.string()});
  std::filesystem::remove(path);
  EXPECT_THAT(loaded.problems, problem(path.string(), "unknown key \"max-job\""));
}

TEST(ConfigOptions, MasksSecretsWhenPrinted) {
  WorkerConfig config;
  config.kafka = {{"sasl.password", "geheim1"},
                  {"ssl.key.password", "geheim2"},
                  {"ssl.key.pem", "geheim3"},
                  {"client.rack", "visible"}};
  const std::string text = print_config(config);
  EXPECT_THAT(text, testing::Not(HasSubstr("geheim")));
  EXPECT_THAT(text, HasSubstr("client.rack = \"visible\""));
}

TEST(ConfigOptions, PrintedConfigurationLoadsAgain) {
  WorkerConfig config;
  config.group = "printed";
  config.max_jobs = 4;
  config.stores.retry.outage_bound = std::chrono::milliseconds(1234);
  const auto path = std::filesystem::path(testing::TempDir()) / "onnxferry-printed-test.toml";
  std::ofstream(path) << print_config(config);
  const Loaded loaded = load({"--config=" + path.string()});
  std::filesystem::remove(path);
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_EQ(print_config(loaded.config), print_config(config));
}

}  // namespace
}  // namespace onnxferry
