#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/stage.h"

namespace onnxferry {

/// A parsed s3://bucket/key, https://host/path, file:///absolute/path or plain local path.
struct ObjectUri {
  enum class Scheme : std::uint8_t {
    kS3,
    kFile,
    kWeb,  ///< https:// and http://: read only, never signed
  };
  Scheme scheme = Scheme::kFile;
  std::string bucket;  ///< empty for kFile; the origin for kWeb, e.g. "https://host:8443"
  /// No leading '/' for kS3; the absolute path for kFile; "/path?query" byte for byte for kWeb.
  std::string key;

  /// \throws Error{kInvalidRequest} naming what is wrong; secrets in the text are masked
  static ObjectUri parse(std::string_view uri);
  /// For messages and metadata: of kWeb the query, where presigned URLs have their secrets, is
  /// replaced by "?***".
  [[nodiscard]] std::string to_string() const;
  /// What names the object's file, without a query: for looking at its ending.
  [[nodiscard]] std::string_view path() const;
};

/// What identifies the exact bytes of an object.
struct ObjectInfo {
  std::uint64_t bytes = 0;
  std::string etag;     ///< without quotes; opaque. file://: derived from size and mtime
  std::string version;  ///< object version id, empty where the store has none
};

enum class PutCondition : std::uint8_t { kAlways, kIfAbsent };
enum class PutResult : std::uint8_t { kWritten, kExists };

/// A local file and the object that it becomes.
struct FileUpload {
  std::string key;
  std::filesystem::path from;
  std::string content_type;
};

/// One bucket of an S3 server, or one local directory tree. Every call ends with success, with an
/// expected outcome in its return value, or with Error: kPermissionDenied, kSourceNotFound (reads),
/// kDestinationNotFound (writes: bucket missing), kUnavailable (after the outage bound),
/// kCancelled. Retries, backoff and waiting for an unavailable store happen inside, in the one
/// retry loop. Thread: one object per thread; implementations use their own transfer threads inside
/// a call.
class ObjectStore {
 public:
  virtual ~ObjectStore() = default;

  /// Absent objects give nullopt.
  virtual std::optional<ObjectInfo> head(const std::string& key, StageScope& scope) = 0;

  /// Download one object into a new file, in parallel ranges pinned to one ETag.
  /// \throws Error{kSourceNotFound} if absent
  virtual ObjectInfo download(const std::string& key,
                              const std::filesystem::path& to,
                              StageScope& scope) = 0;

  /// Read a small object whole; absent gives nullopt. \throws Error{kLimitExceeded} past
  /// `max_bytes`
  virtual std::optional<std::string> get(const std::string& key,
                                         std::uint64_t max_bytes,
                                         StageScope& scope) = 0;

  /// Upload a file; a large one as a multipart upload that is aborted on failure. `from` must not
  /// change afterwards: a store on the same file system may keep it as a hard link instead of a
  /// copy.
  virtual void put_file(const std::string& key,
                        const std::filesystem::path& from,
                        std::string_view content_type,
                        StageScope& scope) = 0;

  /// put_file() for each, in any order and side by side where that is faster. After the first
  /// failure no further file is begun and those under way are ended; what was written stays.
  virtual void put_files(std::span<const FileUpload> files, StageScope& scope) {
    for (const FileUpload& file : files) {
      put_file(file.key, file.from, file.content_type, scope);
    }
  }

  /// Write a small object. With kIfAbsent exactly one of several racing writers gets kWritten; a
  /// lost reply is resolved by reading back, so a retry never mistakes its own object for
  /// another's.
  virtual PutResult put(const std::string& key,
                        std::string_view bytes,
                        std::string_view content_type,
                        PutCondition condition,
                        StageScope& scope) = 0;

  /// Absent objects are not an error.
  virtual void remove(const std::string& key, StageScope& scope) = 0;

  /// Keys that begin with `prefix`, sorted.
  virtual std::vector<std::string> list(const std::string& prefix, StageScope& scope) = 0;

  /// Abort unfinished multipart uploads of exactly this key (left by a dead attempt).
  virtual void abort_stale_uploads(const std::string& key, StageScope& scope) = 0;
};

/// Opens stores by URI. Owns configuration (endpoint, credentials, allow-lists), shared
/// connections.
class Stores {
 public:
  virtual ~Stores() = default;
  /// The store that holds `uri`; keys given to it are `uri.key`-style keys of the same bucket, for
  /// file:// absolute paths. \throws Error{kInvalidRequest} when the allow-lists forbid the bucket
  /// or file://
  virtual ObjectStore& open(const ObjectUri& uri) = 0;
};

}  // namespace onnxferry
