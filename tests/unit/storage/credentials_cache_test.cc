// When temporary credentials are renewed, by whom, and what happens when that fails.
#include <atomic>
#include <latch>
#include <thread>

#include "pipeline/storage/credentials_source.h"
#include "tests/unit/storage/credentials_test_support.h"

namespace onnxferry::test {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

class CredentialsCache : public ::testing::Test {
 protected:
  CachedCredentials cache() {
    return {[this] {
              ++fetches_;
              if (fails_) {
                throw Error(ErrorCode::kUnavailable, "the source is away");
              }
              Credentials made{.access_key = "key" + std::to_string(fetches_),
                               .secret_key = "secret",
                               .session_token = "token"};
              if (life_) {
                made.expires = now_ + *life_;
              }
              return made;
            },
            [this] { return now_; }};
  }

  SystemTime now_ = std::chrono::sys_days{std::chrono::year{2030} / 1 / 1};
  std::optional<SystemTime::duration> life_ = hours(1);
  bool fails_ = false;
  int fetches_ = 0;
};

TEST_F(CredentialsCache, RenewsFiveMinutesBeforeTheEnd) {
  CachedCredentials cached = cache();
  EXPECT_EQ(cached.get().access_key, "key1");
  now_ += minutes(54);
  EXPECT_EQ(cached.get().access_key, "key1");
  now_ += minutes(2);
  EXPECT_EQ(cached.get().access_key, "key2");
}

TEST_F(CredentialsCache, ShortLivesAreUsedForHalfOfThem) {
  life_ = seconds(60);
  CachedCredentials cached = cache();
  cached.get();
  now_ += seconds(29);
  EXPECT_EQ(cached.get().access_key, "key1");
  now_ += seconds(2);
  EXPECT_EQ(cached.get().access_key, "key2");
}

TEST_F(CredentialsCache, KeepsTheOldOnesUntilTheyExpireWhenRenewingFails) {
  CachedCredentials cached = cache();
  cached.get();
  fails_ = true;
  now_ += minutes(56);
  EXPECT_EQ(cached.get().access_key, "key1");
  EXPECT_EQ(cached.get().access_key, "key1");
  EXPECT_EQ(fetches_, 2) << "a failed renewal is not repeated by every request";
  now_ += seconds(21);
  EXPECT_EQ(cached.get().access_key, "key1");
  EXPECT_EQ(fetches_, 3);
  now_ += minutes(5);
  EXPECT_THROW(cached.get(), Error) << "expired";
  fails_ = false;
  EXPECT_EQ(cached.get().access_key, "key5");
}

TEST_F(CredentialsCache, RefusesWhatHasAlreadyExpired) {
  life_ = -seconds(1);
  CachedCredentials cached = cache();
  EXPECT_THROW(cached.get(), Error);
}

TEST_F(CredentialsCache, LooksAgainAfterAWhileWhereNoEndIsKnown) {
  life_.reset();
  CachedCredentials cached = cache();
  cached.get();
  now_ += minutes(14);
  EXPECT_EQ(cached.get().access_key, "key1");
  now_ += minutes(2);
  fails_ = true;
  EXPECT_EQ(cached.get().access_key, "key1");
  fails_ = false;
  now_ += minutes(1);
  EXPECT_EQ(cached.get().access_key, "key3");
}

TEST_F(CredentialsCache, RefusedOnesAreRenewedOnce) {
  CachedCredentials cached = cache();
  const Credentials first = cached.get();
  cached.renew(first);
  cached.renew(first);  // another request that was signed with the same ones
  EXPECT_EQ(cached.get().access_key, "key2");
  EXPECT_EQ(fetches_, 2);
  fails_ = true;
  EXPECT_THROW(cached.renew(cached.get()), Error);
}

TEST(CredentialsCacheThreads, OneFetchServesAllThatWait) {
  constexpr int kThreads = 6;
  std::latch all_started(kThreads);
  std::atomic<int> fetches = 0;
  CachedCredentials cached(
      [&] {
        ++fetches;
        all_started.wait();  // the others are at get() or about to be
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return Credentials{.access_key = "key",
                           .secret_key = "secret",
                           .session_token = "",
                           .expires = std::chrono::system_clock::now() + hours(1)};
      },
      std::chrono::system_clock::now);
  std::atomic<int> served = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        all_started.count_down();
        served += cached.get().access_key == "key" ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(served, kThreads);
  EXPECT_EQ(fetches, 1);
}

TEST(CredentialsCacheThreads, OthersGoOnWithTheOldOnesDuringARenewal) {
  std::atomic<std::int64_t> clock_seconds = 0;
  std::latch renewing(1);
  std::latch may_end(1);
  int fetches = 0;
  CachedCredentials cached(
      [&] {
        if (++fetches == 2) {
          renewing.count_down();
          may_end.wait();
        }
        return Credentials{.access_key = "key" + std::to_string(fetches),
                           .secret_key = "secret",
                           .session_token = "",
                           .expires = SystemTime(hours(fetches))};
      },
      [&] { return SystemTime(seconds(clock_seconds)); });
  cached.get();
  clock_seconds = 56 * 60;
  std::jthread renewer([&] { EXPECT_EQ(cached.get().access_key, "key2"); });
  renewing.wait();
  EXPECT_EQ(cached.get().access_key, "key1");
  may_end.count_down();
}

}  // namespace
}  // namespace onnxferry::test
