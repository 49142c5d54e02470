// https:// inputs against a scripted server (over http, which the tests allow). Real servers are in
// tests/contract.
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>

#include "pipeline/error.h"
#include "pipeline/storage/http.h"
#include "pipeline/storage/store_config.h"
#include "tests/unit/storage/scripted_server.h"

namespace onnxferry::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class SilentObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override { return false; }
};

/// A reply as a server with ranges gives it.
ScriptedReply ranged(const ScriptedRequest& request,
                     const std::string& content,
                     std::map<std::string, std::string> headers = {{"ETag", "\"e1\""}}) {
  std::size_t first = 0;
  std::size_t last = 0;
  const auto range = request.headers.find("range");
  if (range == request.headers.end() ||
      std::sscanf(range->second.c_str(), "bytes=%zu-%zu", &first, &last) != 2) {
    return {.status = 200, .headers = std::move(headers), .body = content};
  }
  last = std::min(last, content.size() - 1);
  headers["Content-Range"] = "bytes " + std::to_string(first) + "-" + std::to_string(last) + "/" +
                             std::to_string(content.size());
  return {.status = 206,
          .headers = std::move(headers),
          .body = content.substr(first, last - first + 1)};
}

class WebStoreTest : public ::testing::Test {
 protected:
  WebStoreTest() {
    const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("onnxferry-web-" + std::string(test->name()) + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    config_.part_bytes = 5U << 20U;
    config_.retry.attempts = 3;
    config_.retry.backoff_base = std::chrono::milliseconds(1);
    config_.retry.backoff_cap = std::chrono::milliseconds(2);
    config_.retry.outage_bound = std::chrono::milliseconds(0);
    config_.allow_http = true;
    config_.allow_local_addresses = true;
  }
  ~WebStoreTest() override { std::filesystem::remove_all(folder_); }

  using Answer = std::function<ScriptedReply(const ScriptedRequest&, int)>;

  void serve(Answer answer) { server_ = std::make_unique<ScriptedServer>(std::move(answer)); }
  ObjectUri uri(std::string_view key = "/m.tar") {
    return ObjectUri::parse(server_->endpoint() + std::string(key));
  }
  ObjectStore& open(const ObjectUri& uri) {
    stores_ = make_stores(config_, [this](std::string_view name) -> std::optional<std::string> {
      const auto found = variables_.find(name);
      return found == variables_.end() ? std::nullopt : std::optional(found->second);
    });
    return stores_->open(uri);
  }
  std::string download(std::string_view key = "/m.tar") {
    const ObjectUri from = uri(key);
    info_ = open(from).download(from.key, folder_ / "copy", scope_);
    std::ostringstream text;
    text << std::ifstream(folder_ / "copy", std::ios::binary).rdbuf();
    return text.str();
  }
  template <typename Call>
  Error error_of(Call&& call) {
    try {
      std::forward<Call>(call)();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no Error";
    return {ErrorCode::kInternal, ""};
  }

  std::filesystem::path folder_;
  StoreConfig config_;
  std::map<std::string, std::string, std::less<>> variables_;
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<Stores> stores_;
  ObjectInfo info_;
  SilentObserver observer_;
  StageScope scope_{Stage::kDownload, observer_};
  const std::string content_ = std::string(std::size_t{6} << 20U, 'a') + "the end";
};

TEST_F(WebStoreTest, SizeIsAskedByARangedGetWithoutAnySignature) {
  variables_ = {{"AWS_ACCESS_KEY_ID", "AKID"}, {"AWS_SECRET_ACCESS_KEY", "secret"}};
  serve([&](const ScriptedRequest& request, int) { return ranged(request, content_); });
  const ObjectUri from = uri("/a%20b/m.tar?X-Amz-Signature=abc&x=%2F");
  const auto info = open(from).head(from.key, scope_);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->bytes, content_.size());
  EXPECT_EQ(info->etag, "e1");
  const ScriptedRequest request = server_->requests().at(0);
  EXPECT_EQ(request.method, "GET");
  EXPECT_EQ(request.target, "/a%20b/m.tar?X-Amz-Signature=abc&x=%2F");
  EXPECT_EQ(request.headers.at("range"), "bytes=0-0");
  EXPECT_FALSE(request.headers.contains("authorization"));
  EXPECT_FALSE(request.headers.contains("x-amz-date"));
}

TEST_F(WebStoreTest, RangesArePinnedToTheEtag) {
  serve([&](const ScriptedRequest& request, int) { return ranged(request, content_); });
  EXPECT_EQ(download(), content_);
  EXPECT_EQ(server_->requests().at(1).headers.at("if-match"), "\"e1\"");
  EXPECT_EQ(info_.etag, "e1");
}

TEST_F(WebStoreTest, WeakEtagsAreComparedAndLastModifiedStandsInForNone) {
  serve([&](const ScriptedRequest& request, int) {
    return ranged(request, content_, {{"ETag", "W/\"weak\""}});
  });
  EXPECT_EQ(download(), content_);
  EXPECT_FALSE(server_->requests().at(1).headers.contains("if-match"));
  EXPECT_EQ(info_.etag, "W/\"weak\"");
  const std::string date = "Wed, 21 Oct 2015 07:28:00 GMT";
  std::filesystem::remove(folder_ / "copy");
  serve([&](const ScriptedRequest& request, int) {
    return ranged(request, content_, {{"Last-Modified", date}});
  });
  EXPECT_EQ(download(), content_);
  EXPECT_EQ(server_->requests().at(1).headers.at("if-unmodified-since"), date);
  EXPECT_EQ(info_.etag, "last-modified:" + date);
}

TEST_F(WebStoreTest, WithoutEtagAndDateNoTwoStoresSeeTheSameObject) {
  serve([&](const ScriptedRequest& request, int) { return ranged(request, "abc", {}); });
  const ObjectUri from = uri();
  ObjectStore& one = open(from);
  const std::string first = one.head(from.key, scope_)->etag;
  EXPECT_EQ(one.download(from.key, folder_ / "copy", scope_).etag, first);
  EXPECT_NE(open(from).head(from.key, scope_)->etag, first);
}

TEST_F(WebStoreTest, ServerWithoutRangesIsReadInOnePiece) {
  serve([&](const ScriptedRequest&, int) -> ScriptedReply {
    return {.status = 200, .headers = {{"ETag", "\"e\""}}, .body = content_};
  });
  const ObjectUri from = uri();
  EXPECT_EQ(open(from).head(from.key, scope_)->bytes, content_.size());
  EXPECT_EQ(download(), content_);
  EXPECT_EQ(info_.bytes, content_.size());
  EXPECT_EQ(server_->requests().size(), 2U) << "one for the size, one for everything";
}

TEST_F(WebStoreTest, ReplacedObjectStartsOver) {
  const std::string other(content_.size() - 100, 'b');
  serve([&](const ScriptedRequest& request, int number) -> ScriptedReply {
    if (number == 0) {
      return ranged(request, content_);
    }
    const auto pinned = request.headers.find("if-match");
    if (pinned != request.headers.end() && pinned->second != "\"e2\"") {
      return {.status = 412, .headers = {}, .body = ""};
    }
    return ranged(request, other, {{"ETag", "\"e2\""}});
  });
  EXPECT_TRUE(download() == other);
}

TEST_F(WebStoreTest, RefusalsHaveTheirCodesAndHints) {
  int status = 0;
  serve([&](const ScriptedRequest&, int) -> ScriptedReply {
    return {
        .status = status,
        .headers = {},
        .body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"};
  });
  const ObjectUri from = uri("/m.tar?X-Amz-Signature=deadbeef&sig=cafe");
  const auto code = [&](int answer) {
    status = answer;
    const Error error = error_of([&] { open(from).download(from.key, folder_ / "copy", scope_); });
    EXPECT_THAT(error.message(), AllOf(Not(HasSubstr("deadbeef")), Not(HasSubstr("cafe"))));
    EXPECT_THAT(error.subject(), Not(HasSubstr("deadbeef")));
    return error;
  };
  EXPECT_EQ(code(403).code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(code(403).message(),
              AllOf(HasSubstr("/m.tar?***"),
                    HasSubstr("Request has expired"),
                    HasSubstr("a presigned url may have expired")));
  EXPECT_EQ(code(401).code(), ErrorCode::kPermissionDenied);
  EXPECT_EQ(code(404).code(), ErrorCode::kSourceNotFound);
  EXPECT_EQ(code(410).code(), ErrorCode::kSourceNotFound);
  EXPECT_EQ(code(400).code(), ErrorCode::kInvalidRequest);
  EXPECT_EQ(code(500).code(), ErrorCode::kUnavailable);
  status = 410;
  EXPECT_FALSE(open(from).head(from.key, scope_));
  EXPECT_FALSE(open(from).get(from.key, 10, scope_));
}

TEST_F(WebStoreTest, FollowsRedirectsAndRemembersThem) {
  serve([&](const ScriptedRequest& request, int) -> ScriptedReply {
    if (request.target == "/m.tar") {
      return {.status = 302, .headers = {{"Location", "cdn/x?t=1#part"}}, .body = ""};
    }
    return ranged(request, content_);
  });
  EXPECT_EQ(download(), content_);
  const auto requests = server_->requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[1].target, "/cdn/x?t=1");
  EXPECT_EQ(requests[2].target, "/cdn/x?t=1") << "later ranges go there at once";
}

TEST_F(WebStoreTest, LinkOfARedirectThatExpiresIsAskedForAnew) {
  serve([&](const ScriptedRequest& request, int number) -> ScriptedReply {
    if (request.target == "/m.tar") {
      return {.status = 307,
              .headers = {{"Location", "/cdn?link=" + std::to_string(number)}},
              .body = ""};
    }
    if (number == 2) {
      return {.status = 403, .headers = {}, .body = ""};  // the second range's link
    }
    return ranged(request, content_);
  });
  EXPECT_EQ(download(), content_);
  EXPECT_EQ(server_->requests().back().target, "/cdn?link=3");
}

TEST_F(WebStoreTest, RedirectsEndSomewhere) {
  serve([](const ScriptedRequest&, int number) -> ScriptedReply {
    return {.status = 308, .headers = {{"Location", "/" + std::to_string(number)}}, .body = ""};
  });
  const Error error = error_of([&] { download(); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
  EXPECT_THAT(error.message(), HasSubstr("too many"));
  EXPECT_EQ(server_->requests().size(), 6U);
}

TEST_F(WebStoreTest, RedirectsAreHeldToTheRules) {
  std::string location;
  serve([&](const ScriptedRequest&, int) -> ScriptedReply {
    return {.status = 302, .headers = {{"Location", location}}, .body = ""};
  });
  config_.allow_local_addresses = false;
  config_.endpoint = server_->endpoint();  // the only local server that may be asked
  for (const auto& [to, why] :
       std::map<std::string, std::string>{{"http://127.0.0.1:1/x", "loopback"},
                                          {"http://169.254.169.254/latest/", "link-local"},
                                          {"http://[::1]/x", "loopback"},
                                          {"file:///etc/passwd", "leads away from https://"},
                                          {"s3://bucket/key", "does not say where"},
                                          {"http://u:topsecret@host/x", "user name"},
                                          {"gopher://x/", "is not supported"}}) {
    location = to;
    const Error error = error_of([&] { download(); });
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest) << to;
    EXPECT_THAT(error.message(), AllOf(HasSubstr(why), Not(HasSubstr("topsecret")))) << to;
  }
  config_.allowed_hosts = {"127.0.0.1"};
  location = "http://example.com/x";
  EXPECT_THAT(error_of([&] { download(); }).message(), HasSubstr("\"example.com\" is not allowed"));
  EXPECT_EQ(server_->requests().size(), 8U) << "every refused one was asked for once";
}

TEST_F(WebStoreTest, LocalAddressesAreRefusedWhenTheConnectionIsMade) {
  serve([&](const ScriptedRequest& request, int) { return ranged(request, content_); });
  // Below the rules for names: as if a harmless name had resolved to it.
  HttpClient client(HttpOptions{});
  HttpRequest request{.method = "GET", .url = server_->endpoint() + "/x"};
  request.refuse_local_addresses = true;
  const auto transfer = client.start(request);
  while (!transfer->is_done()) {
    client.poll(std::chrono::milliseconds(100));
  }
  const HttpReply reply = transfer->take_reply();
  EXPECT_EQ(reply.refused_address, "127.0.0.1 (loopback)");
  EXPECT_EQ(reply.status, 0);
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(WebStoreTest, ForbiddenPlacesAreRefusedBeforeAnythingIsSent) {
  serve([&](const ScriptedRequest& request, int) { return ranged(request, content_); });
  config_.allow_local_addresses = false;
  const Error local = error_of([&] { open(uri()); });
  EXPECT_EQ(local.code(), ErrorCode::kInvalidRequest);
  EXPECT_THAT(local.message(), HasSubstr("loopback"));
  config_.allow_http = false;
  EXPECT_THAT(error_of([&] { open(uri()); }).message(), HasSubstr("use https://"));
  EXPECT_TRUE(server_->requests().empty());
}

TEST_F(WebStoreTest, NothingIsWrittenOverHttps) {
  const ObjectUri to = ObjectUri::parse("https://example.com/x");
  ObjectStore& store = open(to);
  for (const Error& error :
       {error_of([&] { store.put(to.key, "x", "t/p", PutCondition::kAlways, scope_); }),
        error_of([&] { store.put_file(to.key, folder_ / "f", "t/p", scope_); }),
        error_of([&] { store.remove(to.key, scope_); }),
        error_of([&] { store.list(to.key, scope_); })}) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
    EXPECT_THAT(error.message(), HasSubstr("use s3://"));
  }
}

TEST_F(WebStoreTest, RequestsGoThroughTheProxyOfTheEnvironment) {
  serve([&](const ScriptedRequest& request, int) { return ranged(request, "abc"); });
  variables_["http_proxy"] = server_->endpoint();
  const ObjectUri from = ObjectUri::parse("http://models.example.invalid/m.tar");
  EXPECT_EQ(open(from).get(from.key, 10, scope_), "abc");
  EXPECT_EQ(server_->requests().at(0).target, "http://models.example.invalid/m.tar");
  variables_["no_proxy"] = "example.invalid";
  error_of([&] { open(from).get(from.key, 10, scope_); });
  EXPECT_EQ(server_->requests().size(), 1U);
}

}  // namespace
}  // namespace onnxferry::test
