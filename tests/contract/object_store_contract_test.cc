// What every ObjectStore promises (pipeline/storage/object_store.h), run against a local directory
// and against a real S3 server.
#include <barrier>
#include <thread>

#include <gmock/gmock.h>

#include "pipeline/storage/encoding.h"
#include "pipeline/storage/sigv4.h"
#include "tests/contract/storage_test_support.h"

namespace onnxferry::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

/// One kind of store, with a place of its own for the keys of a test.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::unique_ptr<Stores> make() const = 0;
  [[nodiscard]] virtual ObjectUri root() const = 0;  ///< key ends with '/'
};

class FileBackend : public Backend {
 public:
  [[nodiscard]] std::unique_ptr<Stores> make() const override {
    return make_stores(StoreConfig{}, [](std::string_view) { return std::nullopt; });
  }
  [[nodiscard]] ObjectUri root() const override {
    return ObjectUri::parse(folder_.path().string() + "/");
  }

 private:
  TemporaryFolder folder_;
};

class S3Backend : public Backend {
 public:
  [[nodiscard]] std::unique_ptr<Stores> make() const override {
    return make_stores(server_.config(), server_.credentials());
  }
  [[nodiscard]] ObjectUri root() const override {
    return ObjectUri::parse("s3://" + server_.bucket + "/" + prefix_);
  }

 private:
  TestServer server_ = TestServer::from_environment("ONNXFERRY_TEST_S3_ENDPOINT");
  std::string prefix_ = unique_prefix();
};

class ObjectStoreContract : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (is_s3() && TestServer::is_left_out()) {
      GTEST_SKIP() << "ONNXFERRY_TEST_S3=skip";
    }
    if (is_s3()) {
      backend_ = std::make_unique<S3Backend>();
    } else {
      backend_ = std::make_unique<FileBackend>();
    }
    root_ = backend_->root();
    stores_ = backend_->make();
    store_ = &stores_->open(root_);
  }

  [[nodiscard]] static bool is_s3() { return GetParam() == "S3"; }
  [[nodiscard]] std::string key(std::string_view name) const {
    return root_.key + std::string(name);
  }
  [[nodiscard]] std::filesystem::path local(std::string_view name) const {
    return folder_.path() / name;
  }
  PutResult put(std::string_view name,
                std::string_view bytes,
                PutCondition condition = PutCondition::kAlways) {
    return store_->put(key(name), bytes, "application/json", condition, scope_);
  }
  std::optional<std::string> get(std::string_view name) {
    return store_->get(key(name), kMiB, scope_);
  }
  void put_file(std::string_view name, std::string_view bytes) {
    write_file(local("source"), bytes);
    store_->put_file(key(name), local("source"), "application/octet-stream", scope_);
  }

  std::unique_ptr<Backend> backend_;
  ObjectUri root_;
  std::unique_ptr<Stores> stores_;
  ObjectStore* store_ = nullptr;
  TemporaryFolder folder_;
  RecordingObserver observer_;
  StageScope scope_{Stage::kUpload, observer_};
};

TEST_P(ObjectStoreContract, ReadsBackWhatWasPut) {
  EXPECT_EQ(put("a/b.json", "{\"x\": 1}"), PutResult::kWritten);
  EXPECT_EQ(get("a/b.json"), "{\"x\": 1}");
  const auto info = store_->head(key("a/b.json"), scope_);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->bytes, 8U);
  EXPECT_FALSE(info->etag.empty());
}

TEST_P(ObjectStoreContract, AbsentObjectsAreNotErrorsToHeadGetAndRemove) {
  EXPECT_FALSE(store_->head(key("absent"), scope_));
  EXPECT_FALSE(get("absent"));
  EXPECT_NO_THROW(store_->remove(key("absent"), scope_));
}

TEST_P(ObjectStoreContract, DownloadOfAnAbsentObjectIsSourceNotFoundAndLeavesNoFile) {
  const Error error =
      error_of([&] { store_->download(key("no/such.tar"), local("copy"), scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kSourceNotFound);
  EXPECT_THAT(error.message(), HasSubstr("no/such.tar"));
  EXPECT_FALSE(std::filesystem::exists(local("copy")));
}

TEST_P(ObjectStoreContract, MovesFilesOfEverySizeUnchanged) {
  const std::uint64_t part = 5 * kMiB;
  for (const std::uint64_t bytes :
       {std::uint64_t{0}, std::uint64_t{1}, part - 1, part, part + 1, 3 * part, 3 * part + 17}) {
    SCOPED_TRACE(bytes);
    const std::string content = random_bytes(bytes, static_cast<unsigned>(bytes));
    put_file("file.bin", content);
    const ObjectInfo info = store_->download(key("file.bin"), local("copy"), scope_);
    EXPECT_EQ(info.bytes, bytes);
    EXPECT_TRUE(read_file(local("copy")) == content);
    EXPECT_EQ(store_->head(key("file.bin"), scope_)->etag, info.etag);
    std::filesystem::remove(local("copy"));
  }
}

TEST_P(ObjectStoreContract, MovesManyFilesOfMixedSizesAtOnce) {
  std::vector<FileUpload> files;
  std::vector<std::string> contents;
  std::uint64_t total = 0;
  for (unsigned i = 0; i < 20; ++i) {
    const std::string name = "f" + std::to_string(i);
    contents.push_back(random_bytes(i == 7 ? 11 * kMiB : std::uint64_t{i} * 1000, i));
    total += contents.back().size();
    write_file(local(name), contents.back());
    files.push_back(
        {.key = key("many/" + name), .from = local(name), .content_type = "text/plain"});
  }
  store_->put_files(files, scope_);
  EXPECT_EQ(scope_.bytes(), total);
  for (std::size_t i = 0; i < files.size(); ++i) {
    EXPECT_TRUE(store_->get(files[i].key, 12 * kMiB, scope_) == contents[i]) << files[i].key;
  }
}

TEST_P(ObjectStoreContract, ReportsProgressOfBothDirections) {
  const std::string content = random_bytes(12 * kMiB, 1);
  put_file("file.bin", content);
  EXPECT_EQ(scope_.bytes(), content.size());
  StageScope download(Stage::kDownload, observer_);
  store_->download(key("file.bin"), local("copy"), download);
  EXPECT_EQ(download.bytes(), content.size());
  EXPECT_EQ(observer_.total(), content.size());
}

// No backslash: SeaweedFS takes it for a slash.
TEST_P(ObjectStoreContract, KeepsOddKeysApart) {
  const std::vector<std::string> names = {"a b",
                                          "a+b",
                                          "a%20b",
                                          "%41",
                                          "A",
                                          "ünïcode/日本",
                                          "q?uery=1#x",
                                          "~*'()!",
                                          ";:=@$&,",
                                          "\"<>|`{}^[]"};
  for (const std::string& name : names) {
    put("odd/" + name, name);
  }
  std::vector<std::string> expected;
  for (const std::string& name : names) {
    EXPECT_EQ(get("odd/" + name), name);
    EXPECT_TRUE(store_->head(key("odd/" + name), scope_)) << name;
    expected.push_back(key("odd/" + name));
  }
  std::ranges::sort(expected);
  EXPECT_EQ(store_->list(key("odd/"), scope_), expected);
  for (const std::string& name : names) {
    put_file("odd/" + name, name + " again");
    store_->download(key("odd/" + name), local("copy"), scope_);
    EXPECT_EQ(read_file(local("copy")), name + " again");
    std::filesystem::remove(local("copy"));
    store_->remove(key("odd/" + name), scope_);
    EXPECT_FALSE(store_->head(key("odd/" + name), scope_)) << name;
  }
}

TEST_P(ObjectStoreContract, PutIfAbsentKeepsTheFirst) {
  EXPECT_EQ(put("claim", "first", PutCondition::kIfAbsent), PutResult::kWritten);
  EXPECT_EQ(put("claim", "second", PutCondition::kIfAbsent), PutResult::kExists);
  EXPECT_EQ(get("claim"), "first");
  // Not even with the same bytes: the second writer has to learn that it is not the first.
  EXPECT_EQ(put("claim", "first", PutCondition::kIfAbsent), PutResult::kExists);
}

TEST_P(ObjectStoreContract, ExactlyOneOfRacingWritersWins) {
  constexpr int kWriters = 8;
  std::vector<PutResult> results(kWriters, PutResult::kExists);
  std::barrier start(kWriters);
  {
    std::vector<std::jthread> writers;
    for (int i = 0; i < kWriters; ++i) {
      writers.emplace_back([&, i] {
        const std::unique_ptr<Stores> stores = backend_->make();
        ObjectStore& store = stores->open(root_);
        RecordingObserver observer;
        StageScope scope(Stage::kUpload, observer);
        start.arrive_and_wait();
        results[static_cast<std::size_t>(i)] = store.put(key("race"),
                                                         "writer " + std::to_string(i),
                                                         "text/plain",
                                                         PutCondition::kIfAbsent,
                                                         scope);
      });
    }
  }
  ASSERT_EQ(std::ranges::count(results, PutResult::kWritten), 1);
  const auto winner = std::ranges::find(results, PutResult::kWritten) - results.begin();
  EXPECT_EQ(get("race"), "writer " + std::to_string(winner));
}

TEST_P(ObjectStoreContract, PutAlwaysAndPutFileReplace) {
  put("k", "one");
  const auto before = store_->head(key("k"), scope_);
  EXPECT_EQ(put("k", "three"), PutResult::kWritten);
  EXPECT_EQ(get("k"), "three");
  EXPECT_NE(store_->head(key("k"), scope_)->etag, before->etag);
  put_file("k", "a file");
  EXPECT_EQ(get("k"), "a file");
}

TEST_P(ObjectStoreContract, GetRefusesMoreThanTheLimit) {
  put("k", std::string(100'000, 'x'));
  EXPECT_EQ(store_->get(key("k"), 100'000, scope_)->size(), 100'000U);
  const Error error = error_of([&] { store_->get(key("k"), 99'999, scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kLimitExceeded);
  EXPECT_THAT(error.message(), AllOf(HasSubstr("100000"), HasSubstr("99999")));
}

TEST_P(ObjectStoreContract, ListsByStringPrefixSorted) {
  for (const std::string_view name : {"m/b", "m/a/x", "m/a.txt", "m-10/z", "n"}) {
    put(name, "x");
  }
  EXPECT_THAT(store_->list(key("m/"), scope_),
              ElementsAre(key("m/a.txt"), key("m/a/x"), key("m/b")));
  EXPECT_THAT(store_->list(key("m"), scope_),
              ElementsAre(key("m-10/z"), key("m/a.txt"), key("m/a/x"), key("m/b")));
  EXPECT_THAT(store_->list(key("m/a"), scope_), ElementsAre(key("m/a.txt"), key("m/a/x")));
  EXPECT_THAT(store_->list(key("absent/"), scope_), ElementsAre());
}

TEST_P(ObjectStoreContract, ListsMoreKeysThanFitOnAPage) {
  constexpr int kKeys = 1'050;  // S3 pages hold 1,000
  std::vector<std::string> expected;
  for (int i = 0; i < kKeys; ++i) {
    const std::string name = "many/" + std::to_string(i + 10'000) + " +";
    put(name, "");
    expected.push_back(key(name));
  }
  EXPECT_EQ(store_->list(key("many/"), scope_), expected);
}

TEST_P(ObjectStoreContract, CancellationEndsTransfersAndLeavesNothing) {
  put_file("big", random_bytes(20 * kMiB, 2));
  observer_.cancel_after = scope_.bytes() + 1;
  StageScope scope(Stage::kDownload, observer_);
  observer_.cancel_after = 1;
  EXPECT_EQ(error_of([&] { store_->download(key("big"), local("copy"), scope); }).code(),
            ErrorCode::kCancelled);
  EXPECT_FALSE(std::filesystem::exists(local("copy")));
  EXPECT_EQ(error_of([&] { store_->put_file(key("other"), local("source"), "x/y", scope); }).code(),
            ErrorCode::kCancelled);
  observer_.cancel_after = ~0ULL;
  EXPECT_FALSE(store_->head(key("other"), scope_));
  EXPECT_THAT(store_->list(key(""), scope_), ElementsAre(key("big")));
}

TEST_P(ObjectStoreContract, AbortStaleUploadsLeavesObjectsAlone) {
  put("k", "x");
  EXPECT_NO_THROW(store_->abort_stale_uploads(key("k"), scope_));
  EXPECT_NO_THROW(store_->abort_stale_uploads(key("absent"), scope_));
  EXPECT_EQ(get("k"), "x");
}

INSTANTIATE_TEST_SUITE_P(Stores,
                         ObjectStoreContract,
                         ::testing::Values("File", "S3"),
                         [](const auto& instance) { return instance.param; });

TEST(FileStore, MissingParentThatIsAFileIsDestinationNotFound) {
  const TemporaryFolder folder;
  write_file(folder.path() / "file", "x");
  const FileBackend backend;
  const auto stores = backend.make();
  const ObjectUri uri = ObjectUri::parse((folder.path() / "file" / "k").string());
  RecordingObserver observer;
  StageScope scope(Stage::kUpload, observer);
  const Error error = error_of(
      [&] { stores->open(uri).put(uri.key, "x", "text/plain", PutCondition::kAlways, scope); });
  EXPECT_EQ(error.code(), ErrorCode::kDestinationNotFound);
}

TEST(FileStore, IsRefusedWhereNotAllowed) {
  StoreConfig config;
  config.allow_file = false;
  config.allowed_buckets = {"good"};
  const auto stores = make_stores(config, [](std::string_view) { return std::nullopt; });
  EXPECT_EQ(error_of([&] { stores->open(ObjectUri::parse("/etc/passwd")); }).code(),
            ErrorCode::kInvalidRequest);
  EXPECT_EQ(error_of([&] { stores->open(ObjectUri::parse("s3://other/k")); }).code(),
            ErrorCode::kInvalidRequest);
  EXPECT_NO_THROW(stores->open(ObjectUri::parse("s3://good/k")));
}

class S3Server : public ::testing::Test {
 protected:
  void SetUp() override {
    if (TestServer::is_left_out()) {
      GTEST_SKIP() << "ONNXFERRY_TEST_S3=skip";
    }
    server_ = TestServer::from_environment("ONNXFERRY_TEST_S3_ENDPOINT");
  }
  ObjectStore& open(const TestServer& server) {
    stores_ = make_stores(server.config(), server.credentials());
    return stores_->open(ObjectUri::parse("s3://" + server.bucket + "/x"));
  }

  TestServer server_;
  std::unique_ptr<Stores> stores_;
  TemporaryFolder folder_;
  RecordingObserver observer_;
  StageScope scope_{Stage::kDownload, observer_};
};

TEST_F(S3Server, WrongSecretIsPermissionDeniedWithS3sReason) {
  TestServer wrong = server_;
  wrong.secret_key = "not-the-secret";
  ObjectStore& store = open(wrong);
  for (const Error& error :
       {error_of([&] { store.head("x", scope_); }),
        error_of([&] { store.get("x", 10, scope_); }),
        error_of([&] { store.download("x", folder_.path() / "x", scope_); }),
        error_of([&] { store.list("", scope_); }),
        error_of([&] { store.put("x", "y", "t/p", PutCondition::kIfAbsent, scope_); })}) {
    EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
    EXPECT_THAT(error.message(),
                AllOf(HasSubstr("403 SignatureDoesNotMatch"), Not(HasSubstr("not-the-secret"))));
  }
  EXPECT_TRUE(observer_.waits.empty());
}

TEST_F(S3Server, UnknownAccessKeyIsPermissionDenied) {
  TestServer wrong = server_;
  wrong.access_key = "nobody";
  const Error error = error_of([&] { open(wrong).get("x", 10, scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(error.message(), HasSubstr("InvalidAccessKeyId"));
}

TEST_F(S3Server, MissingBucketIsNamedByReadsAndWrites) {
  TestServer missing = server_;
  missing.bucket = "no-such-bucket-here";
  ObjectStore& store = open(missing);
  write_file(folder_.path() / "f", std::string(11 * kMiB, 'x'));
  const auto read_code = [&](auto&& call) {
    const Error error = error_of(call);
    EXPECT_THAT(error.message(), HasSubstr("no-such-bucket-here"));
    return error.code();
  };
  EXPECT_EQ(read_code([&] { store.head("x", scope_); }), ErrorCode::kSourceNotFound);
  EXPECT_EQ(read_code([&] { store.get("x", 10, scope_); }), ErrorCode::kSourceNotFound);
  EXPECT_EQ(read_code([&] { store.list("x", scope_); }), ErrorCode::kSourceNotFound);
  EXPECT_EQ(read_code([&] { store.download("x", folder_.path() / "x", scope_); }),
            ErrorCode::kSourceNotFound);
  EXPECT_EQ(read_code([&] { store.put("x", "y", "t/p", PutCondition::kAlways, scope_); }),
            ErrorCode::kDestinationNotFound);
  EXPECT_EQ(read_code([&] { store.put("x", "y", "t/p", PutCondition::kIfAbsent, scope_); }),
            ErrorCode::kDestinationNotFound);
  EXPECT_EQ(read_code([&] { store.put_file("x", folder_.path() / "f", "t/p", scope_); }),
            ErrorCode::kDestinationNotFound);
}

TEST_F(S3Server, NobodyListeningIsUnavailableAfterTheBoundAndIsReported) {
  TestServer gone = server_;
  gone.endpoint = "http://127.0.0.1:1";
  StoreConfig config = gone.config();
  config.retry.outage_notice = std::chrono::milliseconds(50);
  config.retry.outage_bound = std::chrono::milliseconds(300);
  const auto stores = make_stores(config, gone.credentials());
  const Error error = error_of(
      [&] { stores->open(ObjectUri::parse("s3://" + gone.bucket + "/x")).get("x", 10, scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(error.message(), HasSubstr("127.0.0.1:1"));
  ASSERT_EQ(observer_.waits.size(), 2U);
  EXPECT_TRUE(observer_.waits[0].first);
  EXPECT_FALSE(observer_.waits[1].first);
}

TEST_F(S3Server, SourceReplacedDuringDownloadGivesTheNewBytesWhole) {
  const std::string before = random_bytes(30 * kMiB, 3);
  const std::string after = random_bytes(30 * kMiB, 4);
  const std::string key = unique_prefix() + "replaced";
  write_file(folder_.path() / "before", before);
  write_file(folder_.path() / "after", after);
  open(server_).put_file(key, folder_.path() / "before", "t/p", scope_);
  StoreConfig config = server_.config();
  config.connections = 1;  // so that ranges are left when the first has come
  const auto reader = make_stores(config, server_.credentials());
  RecordingObserver other;
  StageScope other_scope(Stage::kUpload, other);
  bool is_replaced = false;
  observer_.on_progress = [&] {
    if (!is_replaced) {
      is_replaced = true;
      stores_->open(ObjectUri::parse("s3://" + server_.bucket + "/x"))
          .put_file(key, folder_.path() / "after", "t/p", other_scope);
    }
  };
  ObjectStore& store = reader->open(ObjectUri::parse("s3://" + server_.bucket + "/x"));
  const ObjectInfo info = store.download(key, folder_.path() / "copy", scope_);
  EXPECT_TRUE(is_replaced);
  EXPECT_TRUE(read_file(folder_.path() / "copy") == after);
  EXPECT_EQ(info.etag, store.head(key, scope_)->etag);
}

TEST_F(S3Server, SourceReplacedAgainAndAgainIsUnavailable) {
  const std::string key = unique_prefix() + "restless";
  int version = 0;
  RecordingObserver other;
  StageScope other_scope(Stage::kUpload, other);
  ObjectStore& writer = open(server_);
  const auto replace = [&] {
    write_file(folder_.path() / "f", random_bytes(11 * kMiB, static_cast<unsigned>(++version)));
    writer.put_file(key, folder_.path() / "f", "t/p", other_scope);
  };
  replace();
  StoreConfig config = server_.config();
  config.connections = 1;
  const auto reader = make_stores(config, server_.credentials());
  observer_.on_progress = replace;
  const Error error = error_of([&] {
    reader->open(ObjectUri::parse("s3://" + server_.bucket + "/x"))
        .download(key, folder_.path() / "copy", scope_);
  });
  EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(error.message(), HasSubstr("was replaced 4 times"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "copy"));
}

/// A URL that reads one object without further credentials.
std::string presigned(const TestServer& server,
                      const std::string& key,
                      std::chrono::seconds age = std::chrono::seconds(0)) {
  const std::string host = server.endpoint.substr(server.endpoint.find("://") + 3);
  SigV4Signer signer("s3", PathRule::kS3);
  const std::string path = "/" + server.bucket + "/" + key;
  const std::string query = signer.presign(
      {.method = "GET",
       .path = path,
       .query = {},
       .headers = {{"host", host}},
       .payload_hash = std::string(kUnsignedPayload)},
      {.access_key = server.access_key, .secret_key = server.secret_key, .session_token = {}},
      "us-east-1",
      std::chrono::system_clock::now() - age,
      std::chrono::seconds(60));
  return server.endpoint + uri_encode(path, Slash::kKeep) + "?" + query;
}

class PresignedInput : public S3Server {
 protected:
  void SetUp() override {
    S3Server::SetUp();
    if (IsSkipped()) {
      return;
    }
    write_file(folder_.path() / "source", content_);
    open(server_).put_file(key_, folder_.path() / "source", "t/p", scope_);
    config_ = server_.config();
    config_.allow_http = true;  // the operator's own endpoint needs no more than this
    reader_ = make_stores(config_, [](std::string_view) { return std::nullopt; });
  }

  const std::string content_ = random_bytes(12 * kMiB, 8);
  std::string key_ = unique_prefix() + "a b/\u00fc+m.tar";
  StoreConfig config_;
  std::unique_ptr<Stores> reader_;
};

TEST_F(PresignedInput, IsReadInRangesWithoutCredentials) {
  const ObjectUri uri = ObjectUri::parse(presigned(server_, key_));
  ObjectStore& store = reader_->open(uri);
  const auto info = store.head(uri.key, scope_);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->bytes, content_.size());
  const ObjectInfo fetched = store.download(uri.key, folder_.path() / "copy", scope_);
  EXPECT_TRUE(read_file(folder_.path() / "copy") == content_);
  EXPECT_EQ(fetched.etag, info->etag);
  EXPECT_EQ(info->etag, open(server_).head(key_, scope_)->etag) << "one object by either name";
}

TEST_F(PresignedInput, ExpiredUrlIsPermissionDeniedAndSaysSo) {
  const ObjectUri uri = ObjectUri::parse(presigned(server_, key_, std::chrono::seconds(600)));
  const Error error = error_of([&] { reader_->open(uri).head(uri.key, scope_); });
  EXPECT_EQ(error.code(), ErrorCode::kPermissionDenied);
  EXPECT_THAT(error.message(), HasSubstr("a presigned url may have expired"));
  EXPECT_THAT(error.message(), Not(HasSubstr(uri.key.substr(uri.key.rfind('=') + 1))));
}

TEST_F(PresignedInput, AbsentObjectIsNotAnErrorToHeadAndSourceNotFoundToDownload) {
  const ObjectUri uri = ObjectUri::parse(presigned(server_, unique_prefix() + "absent"));
  ObjectStore& store = reader_->open(uri);
  EXPECT_FALSE(store.head(uri.key, scope_));
  EXPECT_EQ(error_of([&] { store.download(uri.key, folder_.path() / "copy", scope_); }).code(),
            ErrorCode::kSourceNotFound);
}

TEST_F(PresignedInput, OtherLocalServersAreRefused) {
  config_.endpoint = "http://s3.example.invalid";
  const auto reader = make_stores(config_, [](std::string_view) { return std::nullopt; });
  const Error error = error_of([&] { reader->open(ObjectUri::parse(presigned(server_, key_))); });
  EXPECT_EQ(error.code(), ErrorCode::kInvalidRequest);
}

TEST_F(S3Server, CertificateOfAnUnknownAuthorityIsRefusedWithWhatToDo) {
  if (!server_.endpoint.starts_with("https://")) {
    GTEST_SKIP() << "this server is reached by plain http; the runner repeats the suite over TLS";
  }
  StoreConfig config = server_.config();
  config.ca_bundle.clear();
  const auto stores = make_stores(config, server_.credentials());
  const Error error = error_of([&] {
    stores->open(ObjectUri::parse("s3://" + server_.bucket + "/x")).get("x", 10, scope_);
  });
  EXPECT_EQ(error.code(), ErrorCode::kUnavailable);
  EXPECT_THAT(error.message(), HasSubstr("AWS_CA_BUNDLE"));
  EXPECT_TRUE(observer_.waits.empty()) << "waiting does not make it trusted";
}

TEST_F(S3Server, TakesEveryChecksum) {
  const std::string content = random_bytes(12 * kMiB, 9);
  write_file(folder_.path() / "f", content);
  for (const UploadChecksum kind : {UploadChecksum::kMd5,
                                    UploadChecksum::kCrc32c,
                                    UploadChecksum::kCrc64Nvme,
                                    UploadChecksum::kNone}) {
    StoreConfig config = server_.config();
    config.checksum = kind;
    const auto stores = make_stores(config, server_.credentials());
    ObjectStore& store = stores->open(ObjectUri::parse("s3://" + server_.bucket + "/x"));
    const std::string key = unique_prefix() + "sum";
    store.put_file(key, folder_.path() / "f", "t/p", scope_);
    std::filesystem::remove(folder_.path() / "copy");
    store.download(key, folder_.path() / "copy", scope_);
    EXPECT_TRUE(read_file(folder_.path() / "copy") == content) << static_cast<int>(kind);
    EXPECT_EQ(store.put(key, "small", "t/p", PutCondition::kAlways, scope_), PutResult::kWritten);
    EXPECT_EQ(store.get(key, 10, scope_), "small");
  }
}

}  // namespace
}  // namespace onnxferry::test
