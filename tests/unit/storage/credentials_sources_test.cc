// Every source against an imitation of its endpoint that checks the request as the real one would.
#include <chrono>
#include <set>
#include <thread>

#include <gmock/gmock.h>

#include "pipeline/storage/credentials_source.h"
#include "pipeline/storage/digest.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/storage/sigv4.h"
#include "tests/unit/storage/credentials_test_support.h"
#include "tests/unit/storage/scripted_server.h"

namespace onnxferry::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string header(const ScriptedRequest& request, const std::string& name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? "" : found->second;
}

/// The fields of a form, decoded.
std::map<std::string, std::string> form_fields(std::string_view body) {
  std::map<std::string, std::string> fields;
  while (!body.empty()) {
    const std::string_view field = body.substr(0, body.find('&'));
    body.remove_prefix(std::min(field.size() + 1, body.size()));
    const std::size_t equals = field.find('=');
    fields[uri_decode(field.substr(0, equals)).value()] =
        uri_decode(field.substr(equals + 1)).value();
  }
  return fields;
}

ScriptedReply say(int status, std::string body = "") {
  return {.status = status, .headers = {}, .body = std::move(body)};
}

// ---- web identity

class WebIdentity : public CredentialsTest {
 protected:
  void serve(std::function<ScriptedReply(const ScriptedRequest&, int)> answer) {
    server_ = std::make_unique<ScriptedServer>(std::move(answer));
    variables_["AWS_ENDPOINT_URL_STS"] = server_->endpoint();
    variables_["AWS_ROLE_ARN"] = "arn:aws:iam::1:role/worker";
    variables_["AWS_WEB_IDENTITY_TOKEN_FILE"] = write("token", "jwt.one+/=");
  }
  std::unique_ptr<ScriptedServer> server_;
};

TEST_F(WebIdentity, TradesTheTokenForCredentials) {
  serve([](const ScriptedRequest&, int) { return say(200, sts_xml("ASIA1")); });
  variables_["AWS_ROLE_SESSION_NAME"] = "pod-7";
  variables_["https_proxy"] = "http://127.0.0.1:1";
  const Credentials found = provider().get();
  EXPECT_EQ(found.access_key, "ASIA1");
  EXPECT_EQ(found.secret_key, "made-secret");
  EXPECT_EQ(found.session_token, "made-token");
  EXPECT_EQ(found.expires, std::chrono::sys_days{std::chrono::year{2100} / 1 / 1});
  const ScriptedRequest request = server_->requests().at(0);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "/");
  EXPECT_THAT(header(request, "content-type"), HasSubstr("application/x-www-form-urlencoded"));
  EXPECT_EQ(header(request, "authorization"), "") << "the token is the authorization";
  EXPECT_EQ(form_fields(request.body),
            (std::map<std::string, std::string>{{"Action", "AssumeRoleWithWebIdentity"},
                                                {"Version", "2011-06-15"},
                                                {"RoleArn", "arn:aws:iam::1:role/worker"},
                                                {"RoleSessionName", "pod-7"},
                                                {"WebIdentityToken", "jwt.one+/="}}));
}

TEST_F(WebIdentity, ReadsARotatedTokenAtEveryRefresh) {
  std::set<std::string> tokens;
  serve([&](const ScriptedRequest& request, int number) {
    tokens.insert(form_fields(request.body)["WebIdentityToken"]);
    return say(200, sts_xml("ASIA" + std::to_string(number)));
  });
  CredentialsProvider provider(lookup(), tuning_);
  const Credentials first = provider.get();
  EXPECT_EQ(provider.get(), first) << "kept, not fetched again";
  write("token", "jwt.two\n");
  EXPECT_TRUE(provider.refresh(first));
  EXPECT_EQ(tokens, (std::set<std::string>{"jwt.one+/=", "jwt.two"}));
  EXPECT_EQ(server_->requests().size(), 2U);
}

TEST_F(WebIdentity, SaysWhyItGotNone) {
  const std::string denied =
      "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>s3cr3t</Message>"
      "</Error></ErrorResponse>";
  const struct {
    ScriptedReply reply;
    ErrorCode code;
    std::string_view says;
    std::size_t requests;
  } cases[] = {
      {say(403, denied), ErrorCode::kPermissionDenied, "403 AccessDenied", 1},
      {say(500, "made-secret"), ErrorCode::kUnavailable, "gave up after 3 attempts", 3},
      {say(400, "<Error><Code>IDPCommunicationError</Code></Error>"),
       ErrorCode::kUnavailable,
       "IDPCommunicationError",
       3},
      {say(400, "<Error><Code>ExpiredTokenException</Code></Error>"),
       ErrorCode::kPermissionDenied,
       "ExpiredTokenException",
       1},
      {say(200, "made-secret"), ErrorCode::kUnavailable, "answered without AccessKeyId", 1},
      {say(200, sts_xml("ASIA", "soon")), ErrorCode::kUnavailable, "and Expiration", 1},
      {say(200, sts_xml("ASIA", "2001-01-01T00:00:00Z")),
       ErrorCode::kUnavailable,
       "already expired",
       1},
      {say(200, std::string(40'000, 'x')), ErrorCode::kUnavailable, "more than", 1},
  };
  for (const auto& one : cases) {
    serve([&](const ScriptedRequest&, int) { return one.reply; });
    const Error error = failure();
    EXPECT_EQ(error.code(), one.code) << one.says;
    EXPECT_THAT(
        error.message(),
        AllOf(HasSubstr(one.says), Not(HasSubstr("s3cr3t")), Not(HasSubstr("made-secret"))));
    EXPECT_EQ(server_->requests().size(), one.requests) << one.says;
  }
}

TEST_F(WebIdentity, AFailingServiceIsNotReplacedByTheNextSource) {
  serve([](const ScriptedRequest&, int) { return say(403); });
  const ScriptedServer metadata([](const ScriptedRequest&, int) { return say(200, "x"); });
  variables_.erase("AWS_EC2_METADATA_DISABLED");
  variables_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata.endpoint();
  EXPECT_THAT(failure().message(), HasSubstr("AssumeRoleWithWebIdentity"));
}

TEST_F(WebIdentity, NeedsARoleAndAToken) {
  serve([](const ScriptedRequest&, int) { return say(200, sts_xml("ASIA")); });
  std::filesystem::remove(folder_ / "token");
  EXPECT_THAT(failure().message(), HasSubstr("cannot be opened"));
  write("token", "");
  EXPECT_THAT(failure().message(), HasSubstr("is empty"));
  variables_.erase("AWS_ROLE_ARN");
  EXPECT_THAT(failure().message(), HasSubstr("AWS_ROLE_ARN is not"));
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(WebIdentity, AsksTheServiceOfTheRegion) {
  variables_["AWS_REGION"] = "eu-central-1";
  EXPECT_EQ(find_sts(lookup(), "").url, "https://sts.eu-central-1.amazonaws.com");
  variables_["AWS_REGION"] = "cn-north-1";
  EXPECT_EQ(find_sts(lookup(), "").url, "https://sts.cn-north-1.amazonaws.com.cn");
  variables_["AWS_ENDPOINT_URL"] = "http://minio:9000/";
  EXPECT_EQ(find_sts(lookup(), "").url, "http://minio:9000");
  variables_["AWS_ENDPOINT_URL_STS"] = "http://user:pass@sts";
  EXPECT_THAT(error_of([&] { find_sts(lookup(), ""); }).message(),
              AllOf(HasSubstr("STS endpoint"), Not(HasSubstr("pass"))));
}

// ---- roles of profiles

class RoleProfile : public CredentialsTest {};

TEST_F(RoleProfile, SignsForTheRoleWithTheSourceProfile) {
  ScriptedServer sts([](const ScriptedRequest&, int) { return say(200, sts_xml("ASIAROLE")); });
  write("credentials", "[base]\naws_access_key_id = AKID\naws_secret_access_key = base-secret\n");
  write("config",
        "[profile job]\nrole_arn = arn:aws:iam::1:role/x y\nsource_profile = base\n"
        "external_id = e&1\nduration_seconds = 900\nrole_session_name = s\nregion = eu-west-1\n");
  variables_["AWS_PROFILE"] = "job";
  variables_["AWS_ENDPOINT_URL_STS"] = sts.endpoint();
  EXPECT_EQ(provider().get().access_key, "ASIAROLE");
  const ScriptedRequest request = sts.requests().at(0);
  EXPECT_EQ(form_fields(request.body),
            (std::map<std::string, std::string>{{"Action", "AssumeRole"},
                                                {"Version", "2011-06-15"},
                                                {"RoleArn", "arn:aws:iam::1:role/x y"},
                                                {"RoleSessionName", "s"},
                                                {"ExternalId", "e&1"},
                                                {"DurationSeconds", "900"}}));
  EXPECT_THAT(header(request, "authorization"),
              AllOf(HasSubstr("Credential=AKID/"),
                    HasSubstr("/eu-west-1/sts/aws4_request"),
                    HasSubstr("SignedHeaders=content-type;host;x-amz-date")));
  // The service's own view of it: the same signature over what arrived.
  SigV4Signer signer("sts", PathRule::kNormalized);
  const std::string date = header(request, "x-amz-date");
  const auto at =
      parse_timestamp(date.substr(0, 4) + "-" + date.substr(4, 2) + "-" + date.substr(6, 5) + ":" +
                      date.substr(11, 2) + ":" + date.substr(13, 3));
  ASSERT_TRUE(at);
  const auto added = signer.sign({.method = "POST",
                                  .path = "/",
                                  .query = {},
                                  .headers = {{"host", header(request, "host")},
                                              {"content-type", header(request, "content-type")}},
                                  .payload_hash = to_hex(sha256(request.body))},
                                 {"AKID", "base-secret", ""},
                                 "eu-west-1",
                                 *at);
  EXPECT_THAT(added,
              ::testing::Contains(NameValue("Authorization", header(request, "authorization"))));
}

TEST_F(RoleProfile, RolesChain) {
  ScriptedServer sts([](const ScriptedRequest& request, int) {
    return say(200, sts_xml("for-" + form_fields(request.body)["RoleArn"]));
  });
  write("config",
        "[default]\nrole_arn = two\nsource_profile = mid\n[profile mid]\nrole_arn = one\n"
        "source_profile = mid\naws_access_key_id = AKID\naws_secret_access_key = s\n");
  variables_["AWS_ENDPOINT_URL_STS"] = sts.endpoint();
  EXPECT_EQ(provider().get().access_key, "for-two");
  ASSERT_EQ(sts.requests().size(), 2U);
  EXPECT_THAT(header(sts.requests()[0], "authorization"), HasSubstr("Credential=AKID/"));
  EXPECT_THAT(header(sts.requests()[1], "authorization"), HasSubstr("Credential=for-one/"));
  EXPECT_EQ(header(sts.requests()[1], "x-amz-security-token"), "made-token");
}

TEST_F(RoleProfile, TakesATokenFileOrTheContainerAsItsSource) {
  ScriptedServer server([](const ScriptedRequest& request, int) {
    return request.method == "GET" ? say(200, credentials_json("ASIACONTAINER"))
                                   : say(200, sts_xml("ASIAROLE"));
  });
  variables_["AWS_ENDPOINT_URL_STS"] = server.endpoint();
  write("config",
        "[default]\nrole_arn = r\nweb_identity_token_file = " + write("token", "jwt") + "\n");
  EXPECT_EQ(provider().get().access_key, "ASIAROLE");
  EXPECT_EQ(form_fields(server.requests().at(0).body)["WebIdentityToken"], "jwt");
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = server.endpoint() + "/c";
  write("config", "[default]\nrole_arn = r\ncredential_source = EcsContainer\n");
  EXPECT_EQ(provider().get().access_key, "ASIAROLE");
  EXPECT_THAT(header(server.requests().at(2), "authorization"),
              HasSubstr("Credential=ASIACONTAINER/"));
}

TEST_F(RoleProfile, AChangedProfileIsUsedWithoutARestart) {
  ScriptedServer sts([](const ScriptedRequest&, int) { return say(200, sts_xml("ASIAROLE")); });
  variables_["AWS_ENDPOINT_URL_STS"] = sts.endpoint();
  write("credentials", "[default]\naws_access_key_id = AKID\naws_secret_access_key = s\n");
  CredentialsProvider provider(lookup(), tuning_);
  EXPECT_EQ(provider.get().access_key, "AKID");
  write("config", "[default]\nrole_arn = r\nsource_profile = default\n");
  EXPECT_EQ(provider.get().access_key, "ASIAROLE");
  write("config", "[default]\nrole_arn = r\nsource_profile = default\n");  // touched only
  EXPECT_EQ(provider.get().access_key, "ASIAROLE");
  EXPECT_EQ(sts.requests().size(), 1U) << "the same contents keep what was fetched";
}

// ---- container

class Container : public CredentialsTest {};

TEST_F(Container, AsksTheRelativeUriOfTheAgent) {
  ScriptedServer agent(
      [](const ScriptedRequest&, int) { return say(200, credentials_json("ASIA1")); });
  tuning_.container_endpoint = agent.endpoint();
  variables_["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/v2/credentials/1?x=y";
  variables_["http_proxy"] = "http://127.0.0.1:1";
  EXPECT_EQ(provider().get().access_key, "ASIA1");
  const ScriptedRequest request = agent.requests().at(0);
  EXPECT_EQ(request.method + " " + request.target, "GET /v2/credentials/1?x=y");
  EXPECT_EQ(header(request, "authorization"), "");
  EXPECT_EQ(CredentialsTuning().container_endpoint, "http://169.254.170.2");
}

TEST_F(Container, TheTokenFileWinsAndIsReadAgain) {
  ScriptedServer agent([](const ScriptedRequest& request, int number) {
    return header(request, "authorization").starts_with("file-")
               ? say(200, credentials_json("ASIA" + std::to_string(number)))
               : say(400);
  });
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = agent.endpoint() + "/v1/credentials";
  variables_["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "fixed";
  variables_["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = write("token", "file-1");
  CredentialsProvider provider(lookup(), tuning_);
  const Credentials first = provider.get();
  write("token", "file-2");
  EXPECT_TRUE(provider.refresh(first));
  EXPECT_EQ(header(agent.requests().at(0), "authorization"), "file-1");
  EXPECT_EQ(header(agent.requests().at(1), "authorization"), "file-2");
  variables_.erase("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  EXPECT_EQ(failure().code(), ErrorCode::kPermissionDenied);
  EXPECT_EQ(header(agent.requests().at(2), "authorization"), "fixed");
}

TEST_F(Container, SendsNoTokenToStrangers) {
  for (const char* const uri : {"http://example.com/c",
                                "http://169.254.170.3/c",
                                "http://169.254.169.254/c",
                                "http://127.0.0.1.example.com/c",
                                "http://127.0.0.1@example.com/c",
                                "http://[fd00:ec2::24]/c",
                                "http://[::ffff:1.2.3.4]/c",
                                "ftp://127.0.0.1/c",
                                "http://127.0.0.1/c\r\nX: y",
                                "c"}) {
    variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = uri;
    EXPECT_EQ(error_of([&] { container_fetcher(lookup(), tuning_); }).code(),
              ErrorCode::kPermissionDenied)
        << uri;
  }
  for (const char* const uri : {"http://127.8.9.1:80/c",
                                "http://localhost/c",
                                "http://[::1]:81/c",
                                "http://169.254.170.2/c",
                                "http://169.254.170.23/v1/credentials",
                                "http://[fd00:ec2::23]/v1/credentials",
                                "https://example.com/c"}) {
    variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = uri;
    EXPECT_NO_THROW(container_fetcher(lookup(), tuning_)) << uri;
  }
}

TEST_F(Container, ATokenWithALineEndIsNotSent) {
  ScriptedServer agent([](const ScriptedRequest&, int) { return say(200); });
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = agent.endpoint() + "/c";
  variables_["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "token\r\nX-Evil: 1";
  const Error error = failure();
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("line ends"), Not(HasSubstr("Evil"))));
  EXPECT_TRUE(agent.requests().empty());
}

TEST_F(Container, SaysWhyItGotNone) {
  const struct {
    ScriptedReply reply;
    ErrorCode code;
    std::string_view says;
  } cases[] = {
      {say(404), ErrorCode::kPermissionDenied, "answered 404"},
      {say(503), ErrorCode::kUnavailable, "gave up after 3 attempts"},
      {say(200, "{\"AccessKeyId\": 1"), ErrorCode::kUnavailable, "not a JSON object"},
      {say(200, R"({"AccessKeyId": "a"})"), ErrorCode::kUnavailable, "SecretAccessKey"},
      {say(200, R"({"AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "x"})"),
       ErrorCode::kUnavailable,
       "Expiration"},
  };
  for (const auto& one : cases) {
    const ScriptedServer agent([&](const ScriptedRequest&, int) { return one.reply; });
    variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = agent.endpoint() + "/c";
    const Error error = failure();
    EXPECT_EQ(error.code(), one.code) << one.says;
    EXPECT_THAT(error.message(), HasSubstr(one.says));
  }
}

// ---- instance metadata

/// Version 2 of the service, as strict as the real one.
class Instance : public CredentialsTest {
 protected:
  Instance() {
    variables_.erase("AWS_EC2_METADATA_DISABLED");
    variables_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = server_.endpoint() + "/";
  }

  ScriptedReply answer(const ScriptedRequest& request) {
    if (request.method == "PUT" && request.target == "/latest/api/token") {
      return header(request, "x-aws-ec2-metadata-token-ttl-seconds") == "21600"
                 ? say(200, "token" + std::to_string(++tokens_))
                 : say(400);
    }
    if (header(request, "x-aws-ec2-metadata-token") != "token" + std::to_string(valid_token_)) {
      return say(401);
    }
    if (request.target == "/latest/meta-data/iam/security-credentials/") {
      return role_reply_;
    }
    return request.target == "/latest/meta-data/iam/security-credentials/the%20role"
               ? credentials_reply_
               : say(404);
  }

  int tokens_ = 0;
  int valid_token_ = 1;
  ScriptedReply role_reply_ = say(200, "the role\nanother");
  ScriptedReply credentials_reply_ = say(200, credentials_json("ASIAINSTANCE"));
  ScriptedServer server_{[this](const ScriptedRequest& request, int) { return answer(request); }};
};

TEST_F(Instance, GetsATokenARoleAndItsCredentials) {
  variables_["http_proxy"] = "http://127.0.0.1:1";
  EXPECT_EQ(provider().get().access_key, "ASIAINSTANCE");
  EXPECT_EQ(server_.requests().size(), 3U);
}

TEST_F(Instance, ARefusedTokenIsRenewedOnce) {
  valid_token_ = 2;
  EXPECT_EQ(provider().get().access_key, "ASIAINSTANCE");
  EXPECT_EQ(tokens_, 2);
  valid_token_ = 0;
  EXPECT_EQ(failure().code(), ErrorCode::kPermissionDenied);
  EXPECT_EQ(tokens_, 4);
}

TEST_F(Instance, SaysWhyItGotNone) {
  role_reply_ = say(404);
  EXPECT_THAT(failure().message(), HasSubstr("this instance has no role"));
  role_reply_ = say(200, "");
  valid_token_ = tokens_ + 1;
  EXPECT_THAT(failure().message(), HasSubstr("names no role"));
  role_reply_ = say(500);
  valid_token_ = tokens_ + 1;
  EXPECT_EQ(failure().code(), ErrorCode::kUnavailable);
  role_reply_ = say(200, "the role");
  credentials_reply_ = say(200, R"({"Code": "AssumeRoleUnauthorizedAccess"})");
  valid_token_ = tokens_ + 1;
  EXPECT_THAT(failure().message(), HasSubstr("without AccessKeyId"));
}

TEST_F(Instance, IsNotAskedWhenDisabledOrWhenSomethingElseIsSet) {
  variables_["AWS_EC2_METADATA_DISABLED"] = "TRUE";
  EXPECT_THAT(failure().message(), HasSubstr("metadata service is disabled"));
  variables_.erase("AWS_EC2_METADATA_DISABLED");
  variables_["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = server_.endpoint() + "/none";
  EXPECT_THAT(failure().message(), HasSubstr("container credentials endpoint"));
  EXPECT_EQ(tokens_, 0);
}

TEST_F(Instance, AConfiguredServiceThatIsAwayIsAnOutage) {
  variables_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = "http://127.0.0.1:1";
  EXPECT_EQ(failure().code(), ErrorCode::kUnavailable);
}

TEST_F(Instance, TheAddressFollowsTheMode) {
  variables_.erase("AWS_EC2_METADATA_SERVICE_ENDPOINT");
  variables_["AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"] = "IPv5";
  EXPECT_THAT(failure().message(), HasSubstr("expected IPv4 or IPv6"));
}

TEST_F(Instance, ASilentServiceEndsInTime) {
  ScriptedServer silent([](const ScriptedRequest&, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1'200));
    return say(200, "late");
  });
  variables_["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = silent.endpoint();
  const Error error = failure();
  EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(error.message(), HasSubstr("gave up after 2 attempts"));
}

// ---- process

class Process : public CredentialsTest {
 protected:
  void use(std::string_view script) {
    write(
        "config",
        "[default]\ncredential_process = /bin/sh \"" + write("give me.sh", script) + "\" 'a b'\n");
  }
};

TEST_F(Process, RunsTheProgramWithoutAShell) {
  write("out.json", credentials_json("ASIAPROCESS", "SessionToken"));
  use("[ \"$1\" = 'a b' ] && cat '" + (folder_ / "out.json").string() + "'\n");
  const Credentials found = provider().get();
  EXPECT_EQ(found.access_key, "ASIAPROCESS");
  EXPECT_EQ(found.session_token, "made-token");
  EXPECT_TRUE(found.expires);
}

TEST_F(Process, SaysWhyItGotNone) {
  const struct {
    std::string_view script;
    std::string_view says;
  } cases[] = {
      {"echo s3cr3t >&2; exit 3", "ended with exit code 3"},
      {"kill -9 $$", "died of signal 9"},
      {"echo hello", "did not print a JSON object with \"Version\": 1"},
      {R"(echo '{"Version": 2, "AccessKeyId": "a", "SecretAccessKey": "b"}')", "\"Version\": 1"},
      {R"(echo '{"Version": 1, "AccessKeyId": "a"}')", "SecretAccessKey"},
      {"head -c 100000 /dev/zero", "printed more than"},
  };
  for (const auto& one : cases) {
    use(one.script);
    const Error error = failure();
    EXPECT_EQ(error.code(), ErrorCode::kUnavailable) << one.script;
    EXPECT_THAT(error.message(), AllOf(HasSubstr(one.says), Not(HasSubstr("s3cr3t"))));
  }
  write("config", "[default]\ncredential_process = /does/not/exist\n");
  EXPECT_THAT(failure().message(), HasSubstr("could not be started: No such file"));
}

TEST_F(Process, IsEndedWhenItHangs) {
  tuning_.process_timeout = std::chrono::milliseconds(100);
  for (const char* const script : {"sleep 60", "exec >&-; sleep 60"}) {
    use(script);
    EXPECT_THAT(failure().message(), HasSubstr("did not end in time")) << script;
  }
}

TEST(SplitCommand, IsThatOfAShellWithoutExpansion) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(split_command("  a  b\tc "), (Words{"a", "b", "c"}));
  EXPECT_EQ(split_command(R"("a b" 'c "d' e\ f "g\"h" "i\n" '')"),
            (Words{"a b", "c \"d", "e f", "g\"h", "i\\n", ""}));
  EXPECT_EQ(split_command("$HOME `id` *"), (Words{"$HOME", "`id`", "*"}));
  EXPECT_EQ(split_command("a 'b"), std::nullopt);
  EXPECT_EQ(split_command(""), Words{});
}

TEST(CredentialsTimestamp, ReadsWhatServicesWrite) {
  const SystemTime noon =
      std::chrono::sys_days{std::chrono::year{2026} / 11 / 21} + std::chrono::hours(12);
  for (const char* const text : {"2026-11-21T12:00:00Z",
                                 "2026-11-21T12:00:00.123456Z",
                                 "2026-11-21T12:00:00+00:00",
                                 "2026-11-21T14:30:00+02:30",
                                 "2026-11-21T07:00:00-05:00"}) {
    EXPECT_EQ(parse_timestamp(text), noon) << text;
  }
  for (const char* const text : {"",
                                 "2026-11-21",
                                 "2026-13-21T12:00:00Z",
                                 "2026-02-30T12:00:00Z",
                                 "2026-11-21T12:00:00",
                                 "2026-11-21T24:00:00Z",
                                 "2026-11-21T12:00:00Zx",
                                 "1795262400"}) {
    EXPECT_EQ(parse_timestamp(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace onnxferry::test
