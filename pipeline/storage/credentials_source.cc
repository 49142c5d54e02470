#include "pipeline/storage/credentials_source.h"

#include <algorithm>
#include <fstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr std::chrono::minutes kRenewBefore{5};
constexpr std::chrono::minutes kKeepWithoutExpiry{15};
// After a failed renewal the old credentials are used this long before the next attempt, so that
// a dead source does not slow down every request.
constexpr std::chrono::seconds kPauseAfterFailure{20};
constexpr std::size_t kMaxTokenBytes = 64U << 10U;

/// A fixed-width decimal number; false when a digit is missing.
bool read_digits(std::string_view& text, std::size_t count, int& value) {
  if (text.size() < count ||
      !std::ranges::all_of(text.substr(0, count), [](char c) { return c >= '0' && c <= '9'; })) {
    return false;
  }
  value = 0;
  for (const char digit : text.substr(0, count)) {
    value = value * 10 + (digit - '0');
  }
  text.remove_prefix(count);
  return true;
}

bool read_mark(std::string_view& text, char mark) {
  if (!text.starts_with(mark)) {
    return false;
  }
  text.remove_prefix(1);
  return true;
}

/// "Z" or "+hh:mm" at the end of a timestamp.
std::optional<std::chrono::minutes> read_zone(std::string_view text) {
  if (text == "Z") {
    return std::chrono::minutes(0);
  }
  const bool is_west = text.starts_with('-');
  int hours = 0;
  int minutes = 0;
  if ((!read_mark(text, '+') && !read_mark(text, '-')) || !read_digits(text, 2, hours) ||
      !read_mark(text, ':') || !read_digits(text, 2, minutes) || !text.empty()) {
    return std::nullopt;
  }
  const std::chrono::minutes offset = std::chrono::hours(hours) + std::chrono::minutes(minutes);
  return is_west ? -offset : offset;
}

std::string text_member(const nlohmann::json& document, std::string_view name) {
  const auto found = document.find(name);
  return found != document.end() && found->is_string() ? found->get<std::string>() : "";
}

}  // namespace

std::optional<std::string> find_nonempty(const EnvironmentLookup& environment,
                                         std::string_view name) {
  std::optional<std::string> value = environment(name);
  return value && !value->empty() ? value : std::nullopt;
}

std::optional<SystemTime> parse_timestamp(std::string_view text) {
  int year = 0;
  int month = 0;
  int day = 0;
  int hour = 0;
  int minute = 0;
  int second = 0;
  const bool is_complete =
      read_digits(text, 4, year) && read_mark(text, '-') && read_digits(text, 2, month) &&
      read_mark(text, '-') && read_digits(text, 2, day) && read_mark(text, 'T') &&
      read_digits(text, 2, hour) && read_mark(text, ':') && read_digits(text, 2, minute) &&
      read_mark(text, ':') && read_digits(text, 2, second);
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!is_complete || !date.ok() || hour > 23 || minute > 59 || second > 60) {
    return std::nullopt;
  }
  if (read_mark(text, '.')) {
    text.remove_prefix(std::min(text.find_first_not_of("0123456789"), text.size()));
  }
  const std::optional<std::chrono::minutes> zone = read_zone(text);
  if (!zone) {
    return std::nullopt;
  }
  return std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(second) - *zone;
}

Credentials parse_credentials_json(std::string_view text,
                                   std::string_view token_name,
                                   std::string_view what) {
  const nlohmann::json document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("no S3 credentials: {} answered with what is not a JSON object", what));
  }
  Credentials found{.access_key = text_member(document, "AccessKeyId"),
                    .secret_key = text_member(document, "SecretAccessKey"),
                    .session_token = text_member(document, token_name)};
  if (found.access_key.empty() || found.secret_key.empty()) {
    throw Error(ErrorCode::kUnavailable,
                fmt::format("no S3 credentials: {} answered without AccessKeyId and "
                            "SecretAccessKey",
                            what));
  }
  if (const std::string expiration = text_member(document, "Expiration"); !expiration.empty()) {
    found.expires = parse_timestamp(expiration);
    if (!found.expires) {
      throw Error(ErrorCode::kUnavailable,
                  fmt::format("no S3 credentials: {} answered with an Expiration that is not of "
                              "the form 2026-01-31T12:00:00Z",
                              what));
    }
  }
  return found;
}

std::string read_token_file(const std::string& path, std::string_view what) {
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxTokenBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  const auto bytes = static_cast<std::size_t>(in.gcount());
  if (!in.is_open() || bytes == 0 || bytes > kMaxTokenBytes) {
    throw Error(ErrorCode::kPermissionDenied,
                fmt::format("no S3 credentials: {} \"{}\" {}; expected a token of at most {} bytes",
                            what,
                            path,
                            !in.is_open() ? "cannot be opened"
                            : bytes == 0  ? "is empty or cannot be read"
                                          : "is too long",
                            kMaxTokenBytes));
  }
  text.resize(bytes);
  return text;
}

bool CachedCredentials::is_usable(SystemTime now) const {
  if (current_ == nullptr) {
    return false;
  }
  const std::optional<SystemTime>& expires = current_->expires;
  return !expires || now < *expires;
}

void CachedCredentials::take(const Credentials& fetched) {
  const SystemTime now = now_();
  if (fetched.expires && *fetched.expires <= now) {
    throw Error(ErrorCode::kUnavailable,
                "no S3 credentials: the ones handed out have already expired; check this "
                "machine's clock");
  }
  // Half of a short life at most, or else every request would ask for new ones.
  renew_at_ = now + kKeepWithoutExpiry;
  if (fetched.expires) {
    const SystemTime::duration life = *fetched.expires - now;
    renew_at_ = *fetched.expires - std::min<SystemTime::duration>(kRenewBefore, life / 2);
  }
  current_ = std::make_shared<const Credentials>(fetched);
  failure_ = nullptr;
}

/// Afterwards either failure_ is set or current_ is new.
void CachedCredentials::fetch_or_wait(std::unique_lock<std::mutex>& lock) {
  if (is_fetching_) {
    fetched_.wait(lock, [this] { return !is_fetching_; });
    return;
  }
  is_fetching_ = true;
  lock.unlock();
  Credentials fetched;
  std::exception_ptr failure;
  try {
    fetched = fetch_();
  } catch (...) {
    failure = std::current_exception();
  }
  lock.lock();
  is_fetching_ = false;
  try {
    if (failure != nullptr) {
      std::rethrow_exception(failure);
    }
    take(fetched);
  } catch (...) {
    failure_ = std::current_exception();
    renew_at_ = now_() + kPauseAfterFailure;
  }
  fetched_.notify_all();
}

Credentials CachedCredentials::get() {
  std::unique_lock lock(mutex_);
  const SystemTime now = now_();
  if (is_usable(now) && (now < renew_at_ || is_fetching_)) {
    return *current_;
  }
  fetch_or_wait(lock);
  if (failure_ != nullptr && !is_usable(now_())) {
    std::rethrow_exception(failure_);
  }
  return *current_;
}

void CachedCredentials::renew(const Credentials& refused) {
  std::unique_lock lock(mutex_);
  if (current_ != nullptr && *current_ != refused) {
    return;
  }
  fetch_or_wait(lock);
  if (failure_ != nullptr) {
    std::rethrow_exception(failure_);
  }
}

}  // namespace onnxferry
