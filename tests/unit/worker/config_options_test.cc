#include "worker/config_options.h"

#include <filesystem>
#include <fstream>

#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace onnxferry {
namespace {

using testing::Contains;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;

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

TEST(ConfigOptions, PassesKafkaPropertiesThrough) {
  const Loaded loaded = load({"--kafka", "session.timeout.ms=6000", "--kafka", "client.rack=b=c"},
                             {"ONNXFERRY_KAFKA_SECURITY_PROTOCOL=ssl", "KAFKA_BROKERS=ignored"});
  EXPECT_THAT(loaded.problems, IsEmpty());
  EXPECT_EQ(
      loaded.config.kafka,
      (std::map<std::string, std::string>{
          {"client.rack", "b=c"}, {"security.protocol", "ssl"}, {"session.timeout.ms", "6000"}}));
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
