#include <algorithm>
#include <cerrno>
#include <charconv>

#include <curl/curl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "pipeline/storage/file_handle.h"
#include "pipeline/storage/s3_transfer.h"

namespace onnxferry {
namespace {

constexpr int kMaxRestarts = 3;

/// "bytes 0-9/100", or "bytes */0" (then first and last are absent).
struct ContentRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t total = 0;
  bool has_range = false;
};

bool take_number(std::string_view& text, char end, std::uint64_t& number) {
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  const auto used = static_cast<std::size_t>(stop - text.data());
  if (problem != std::errc{} ||
      (end == '\0' ? used != text.size() : !text.substr(used).starts_with(end))) {
    return false;
  }
  text.remove_prefix(std::min(text.size(), used + 1));
  return true;
}

std::optional<ContentRange> parse_content_range(std::string_view text) {
  constexpr std::string_view kUnit = "bytes ";
  if (!text.starts_with(kUnit)) {
    return std::nullopt;
  }
  text.remove_prefix(kUnit.size());
  ContentRange range;
  if (text.starts_with("*/")) {
    text.remove_prefix(2);
    return take_number(text, '\0', range.total) ? std::optional(range) : std::nullopt;
  }
  range.has_range = true;
  const bool is_whole = take_number(text, '-', range.first) && take_number(text, '/', range.last) &&
                        take_number(text, '\0', range.total);
  return is_whole && range.first <= range.last && range.last < range.total ? std::optional(range)
                                                                           : std::nullopt;
}

/// What all ranges of one download share.
struct Download {
  std::string key;
  int descriptor = -1;
  std::uint64_t part_bytes = 0;
  std::optional<ObjectInfo> info;  // from the first reply
  bool is_replaced = false;
  bool is_whole = false;  // the server knows no ranges: one GET brings all
  int write_errno = 0;
};

/// One range; a broken one goes on where it stopped.
class RangeExchange : public S3Exchange, private HttpSink {
 public:
  RangeExchange(Connection& connection, Download& shared, std::uint64_t first)
      : S3Exchange(connection,
                   {.method = "GET", .key = shared.key, .access = Access::kRead, .sink = this}),
        shared_(shared),
        first_(first),
        end_(first + shared.part_bytes) {
    clip_end();
  }

  HttpRequest prepare(int failures) override {
    clip_end();
    is_range_wrong_ = false;
    request().headers.clear();
    if (shared_.is_whole) {
      received_ = 0;  // from the beginning: there is no other way
    } else {
      request().headers.emplace_back("Range",
                                     fmt::format("bytes={}-{}", first_ + received_, end_ - 1));
    }
    const auto pin = shared_.info ? connection().pin(shared_.info->etag) : std::nullopt;
    if (pin) {
      request().headers.push_back(*pin);
    }
    return S3Exchange::prepare(failures);
  }

  Verdict judge(HttpReply& reply) override {
    if (shared_.write_errno != 0) {
      throw file_error(shared_.write_errno, "write", shared_.key, ErrorCode::kInternal);
    }
    if (reply.status == 412 || shared_.is_replaced) {
      shared_.is_replaced = true;
      throw Error(ErrorCode::kUnavailable, "replaced");
    }
    if (is_empty_object(reply)) {
      shared_.info = ObjectInfo{.bytes = 0,
                                .etag = connection().identity(reply.headers),
                                .version = std::string(reply.headers.find("x-amz-version-id"))};
      return accept(reply);
    }
    if (reply.status == 416) {
      shared_.is_replaced = true;  // it has become shorter than it was
      throw Error(ErrorCode::kUnavailable, "replaced");
    }
    if (reply.transport == 0 && reply.status == 200 && !shared_.is_whole) {
      throw Error(ErrorCode::kUnsupportedOption,
                  fmt::format("{}: the store answered 200 to a ranged GET, expected 206{}",
                              connection().uri(shared_.key),
                              connection().takes_whole_objects()
                                  ? " or the whole object with its Content-Length"
                                  : "; it does not support ranges"),
                  connection().uri(shared_.key));
    }
    if (is_range_wrong_ || (reply.is_success() && first_ + received_ != end_)) {
      return Verdict::kFailed;
    }
    return S3Exchange::judge(reply);
  }

  [[nodiscard]] FailureFacts facts(const HttpReply& reply) const override {
    if (is_range_wrong_ || reply.is_success()) {
      return {.transport = CURLE_WEIRD_SERVER_REPLY, .status = reply.status, .s3_code = {}};
    }
    return S3Exchange::facts(reply);
  }

  [[nodiscard]] std::string describe(const HttpReply& reply) const override {
    if (is_range_wrong_) {
      return fmt::format("the store sent \"Content-Range: {}\", expected bytes {}-{}",
                         reply.headers.find("content-range"),
                         first_ + received_,
                         end_ - 1);
    }
    return S3Exchange::describe(reply);
  }

  [[nodiscard]] std::uint64_t done_bytes() const override { return done_; }

 private:
  bool begin(const HttpReply& head) noexcept override {
    if (head.status != 206 && head.status != 200) {
      return false;
    }
    try {
      return head.status == 206 ? take_head(head) : take_whole(head);
    } catch (...) {
      is_range_wrong_ = true;
      return false;
    }
  }

  /// A server without ranges sends everything at once.
  bool take_whole(const HttpReply& head) {
    std::string_view length = head.headers.find("content-length");
    std::uint64_t total = 0;
    if (!connection().takes_whole_objects() || first_ != 0 || !take_number(length, '\0', total) ||
        total == 0) {
      return false;
    }
    const std::string etag = connection().identity(head.headers);
    if (shared_.info && (total != shared_.info->bytes || etag != shared_.info->etag)) {
      shared_.is_replaced = true;
      return false;
    }
    shared_.is_whole = true;
    shared_.info = ObjectInfo{.bytes = total, .etag = etag, .version = {}};
    received_ = 0;
    end_ = total;
    return true;
  }

  bool take_head(const HttpReply& head) {
    const auto range = parse_content_range(head.headers.find("content-range"));
    const std::string etag = connection().identity(head.headers);
    if (shared_.info && range &&
        (range->total != shared_.info->bytes || etag != shared_.info->etag)) {
      shared_.is_replaced = true;  // a store that ignores If-Match
      return false;
    }
    const std::uint64_t total = range ? range->total : 0;
    is_range_wrong_ =
        !range || range->first != first_ + received_ || range->last + 1 != std::min(end_, total);
    if (is_range_wrong_) {
      return false;
    }
    if (!shared_.info) {
      shared_.info = ObjectInfo{.bytes = total,
                                .etag = etag,
                                .version = std::string(head.headers.find("x-amz-version-id"))};
      clip_end();
    }
    return true;
  }

  bool write(std::string_view bytes) noexcept override {
    if (bytes.size() > end_ - first_ - received_) {
      is_range_wrong_ = true;
      return false;
    }
    while (!bytes.empty()) {
      const ssize_t written = ::pwrite(
          shared_.descriptor, bytes.data(), bytes.size(), static_cast<off_t>(first_ + received_));
      if (written < 0 && errno == EINTR) {
        continue;
      }
      if (written <= 0) {
        shared_.write_errno = written < 0 ? errno : EIO;
        return false;
      }
      received_ += static_cast<std::uint64_t>(written);
      done_ = std::max(done_, received_);
      bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
  }

  /// A ranged GET of no bytes is 416 on most stores, 200 without a body on some.
  [[nodiscard]] bool is_empty_object(const HttpReply& reply) const {
    if (reply.transport != 0 || first_ != 0 || received_ != 0) {
      return false;
    }
    if (reply.status == 200) {
      return reply.headers.find("content-length") == "0";
    }
    const auto range = parse_content_range(reply.headers.find("content-range"));
    return reply.status == 416 && (!range || range->total == 0);
  }

  void clip_end() {
    if (shared_.info) {
      end_ = shared_.is_whole ? shared_.info->bytes : std::min(end_, shared_.info->bytes);
    }
  }

  Download& shared_;
  std::uint64_t first_;
  std::uint64_t end_;
  std::uint64_t received_ = 0;
  std::uint64_t done_ = 0;  // the most that was ever received
  bool is_range_wrong_ = false;
};

/// The first range alone until it has told the size, then all others.
class RangeSource : public ExchangeSource {
 public:
  RangeSource(Connection& connection,
              Download& shared,
              const FileHandle& file,
              const std::filesystem::path& path,
              StageScope& scope)
      : connection_(connection), shared_(shared), file_(file), path_(path), scope_(scope) {}

  std::unique_ptr<Exchange> next() override {
    if (next_ == 0) {
      return take();
    }
    if (!shared_.info) {
      return nullptr;
    }
    if (!is_sized_) {
      is_sized_ = true;
      bytes_ = shared_.info->bytes;
      scope_.set_total(bytes_);
      reserve_size(file_, bytes_, path_);
      next_ = shared_.is_whole ? bytes_ : next_;
    }
    return next_ < bytes_ ? take() : nullptr;
  }

  [[nodiscard]] bool is_exhausted() const override { return is_sized_ && next_ >= bytes_; }

 private:
  std::unique_ptr<Exchange> take() {
    auto range = std::make_unique<RangeExchange>(connection_, shared_, next_);
    next_ += shared_.part_bytes;
    return range;
  }

  Connection& connection_;
  Download& shared_;
  const FileHandle& file_;
  const std::filesystem::path& path_;
  StageScope& scope_;
  std::uint64_t next_ = 0;
  std::uint64_t bytes_ = 0;
  bool is_sized_ = false;
};

/// Removes a file that was not finished.
class UnfinishedFile {
 public:
  explicit UnfinishedFile(const std::filesystem::path& path) : path_(path) {}
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  ~UnfinishedFile() {
    if (!is_finished_) {
      std::error_code ignored;
      std::filesystem::remove(path_, ignored);
    }
  }
  void finish() { is_finished_ = true; }

 private:
  const std::filesystem::path& path_;
  bool is_finished_ = false;
};

/// The 416 of an empty object carries no ETag on most stores.
std::string etag_by_head(Connection& connection, const std::string& key, StageScope& scope) {
  S3Exchange head(connection, {.method = "HEAD", .key = key, .access = Access::kRead});
  connection.run(head, scope);
  return unquote_etag(head.reply().headers.find("etag"));
}

}  // namespace

ObjectInfo download_object(Connection& connection,
                           const std::string& key,
                           const std::filesystem::path& to,
                           StageScope& scope) {
  FileHandle file = create_to_write(to, 0600);
  UnfinishedFile guard(to);
  for (int restart = 0; restart <= kMaxRestarts; ++restart) {
    Download shared{.key = key,
                    .descriptor = file.get(),
                    .part_bytes = connection.config().part_bytes,
                    .info = {}};
    RangeSource source(connection, shared, file, to, scope);
    try {
      connection.run_all(source, scope);
    } catch (const Error&) {
      if (!shared.is_replaced) {
        throw;
      }
      continue;
    }
    if (const int error_number = file.close(); error_number != 0) {
      throw file_error(error_number, "close", to, ErrorCode::kInternal);
    }
    guard.finish();
    ObjectInfo info = shared.info.value_or(ObjectInfo{});
    if (info.etag.empty() && !connection.takes_whole_objects()) {
      info.etag = etag_by_head(connection, key, scope);
    }
    return info;
  }
  throw Error(ErrorCode::kUnavailable,
              fmt::format("{} was replaced {} times while it was downloaded; send the request "
                          "when its writer has finished",
                          connection.uri(key),
                          kMaxRestarts + 1),
              connection.uri(key));
}

}  // namespace onnxferry
