#pragma once

#include <string>
#include <vector>

#include "pipeline/storage/object_store.h"

namespace onnxferry {

/// ObjectStore on local directories; keys are absolute paths. A file appears complete or not at
/// all (temporary name, then rename or link); nothing is flushed to the disk, so a power cut can
/// still lose what the system had not written yet. Thread: one.
class FileStore : public ObjectStore {
 public:
  std::optional<ObjectInfo> head(const std::string& key, StageScope& scope) override;
  ObjectInfo download(const std::string& key,
                      const std::filesystem::path& to,
                      StageScope& scope) override;
  std::optional<std::string> get(const std::string& key,
                                 std::uint64_t max_bytes,
                                 StageScope& scope) override;
  void put_file(const std::string& key,
                const std::filesystem::path& from,
                std::string_view content_type,
                StageScope& scope) override;
  PutResult put(const std::string& key,
                std::string_view bytes,
                std::string_view content_type,
                PutCondition condition,
                StageScope& scope) override;
  void remove(const std::string& key, StageScope& scope) override;
  std::vector<std::string> list(const std::string& prefix, StageScope& scope) override;
  void abort_stale_uploads(const std::string& key, StageScope& scope) override;
};

}  // namespace onnxferry
