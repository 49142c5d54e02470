#include "pipeline/output/publish.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "pipeline/output/layout.h"
#include "pipeline/output/report_json.h"
#include "pipeline/output/sha256.h"
#include "pipeline/output/sidecars.h"
#include "pipeline/version.h"

namespace onnxferry {

using Json = nlohmann::ordered_json;

namespace {

constexpr std::uint64_t kMaxManifestBytes = 64ULL << 20;
// S3 allows no smaller part, so smaller files are never uploaded in parts.
constexpr std::uint64_t kLeastPartBytes = 5ULL << 20;

std::string_view content_type(std::string_view name) {
  return name.ends_with(".json")  ? "application/json"
         : name.ends_with(".txt") ? "text/plain"
                                  : "application/octet-stream";
}

std::string checksums(const std::vector<FileReport>& files) {
  std::vector<const FileReport*> sorted;
  sorted.reserve(files.size());
  for (const FileReport& file : files) {
    sorted.push_back(&file);
  }
  std::ranges::sort(
      sorted, {}, [](const FileReport* file) { return std::string_view(file->name); });
  std::string text;
  for (const FileReport* const file : sorted) {
    text += fmt::format("{}  {}\n", file->sha256, file->name);
  }
  return text;
}

/// Ends a clean-up after a few seconds, whatever state the job and the store are in.
class CleanupObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view /*reason*/) override {}
  [[nodiscard]] bool is_cancelled() const override {
    return std::chrono::steady_clock::now() > end_;
  }

 private:
  std::chrono::steady_clock::time_point end_ =
      std::chrono::steady_clock::now() + std::chrono::seconds(5);
};

}  // namespace

struct Publisher::Manifest {
  nlohmann::json json;
  std::string sha256;

  [[nodiscard]] std::string text(const char* name) const {
    return json.is_object() && json.contains(name) && json.at(name).is_string()
               ? json.at(name).get<std::string>()
               : "";
  }
};

std::string export_key(const SourceIdentity& source, const ExportOptions& options) {
  const std::string identity = source.info.version.empty() ? source.info.etag : source.info.version;
  return sha256_hex(
      fmt::format("{}\n{}\n{}", identity, source.info.bytes, canonical_options(options)));
}

Publisher::Publisher(ObjectStore& store, const ObjectUri& destination, const ExportOptions& options)
    : store_(store), destination_(destination), options_(options) {}

std::string Publisher::key(std::string_view name) const {
  return destination_.key + std::string(name);
}

void Publisher::throw_conflict(std::string_view what, std::string_view owner) const {
  throw Error(
      ErrorCode::kDestinationConflict,
      fmt::format(
          "{} holds {} of another export (request {}); set overwrite or choose another output_dir",
          destination_.to_string(),
          what,
          owner.empty() ? "unknown" : owner),
      destination_.to_string());
}

std::optional<Publisher::Manifest> Publisher::read_manifest(StageScope& scope) {
  const auto text = [&] {
    try {
      return store_.get(key(kManifestName), kMaxManifestBytes, scope);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kSourceNotFound) {
        throw;
      }
      // A store calls a bucket that it cannot read from a missing source; here it is the
      // destination's.
      throw Error(ErrorCode::kDestinationNotFound, error.message(), destination_.to_string());
    }
  }();
  if (!text) {
    return std::nullopt;
  }
  return Manifest{nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false),
                  sha256_hex(*text)};
}

std::optional<ExportReport> Publisher::find_published(const SourceIdentity& source,
                                                      StageScope& scope) {
  export_key_ = onnxferry::export_key(source, options_);
  const auto manifest = read_manifest(scope);
  if (!manifest) {
    return std::nullopt;
  }
  const bool is_same_key = manifest->text("export_key") == export_key_;
  const bool is_same_request =
      !options_.request_id.empty() && manifest->text("request_id") == options_.request_id;
  if (is_same_request) {
    remove_left_claim(scope);
  }
  if (is_same_request || (is_same_key && !options_.overwrite)) {
    ExportReport report =
        report_from_json(manifest->json.value("result", nlohmann::json::object()));
    report.manifest_sha256 = manifest->sha256;
    report.answered_from_manifest = true;
    return report;
  }
  if (!options_.overwrite) {
    throw_conflict("a manifest", manifest->text("request_id"));
  }
  return std::nullopt;
}

// An attempt that died right after its manifest left its claim.
void Publisher::remove_left_claim(StageScope& scope) {
  const auto found = store_.get(key(kClaimName), kMaxManifestBytes, scope);
  const auto json = nlohmann::json::parse(found.value_or(""), nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.value("request_id", "") == options_.request_id) {
    store_.remove(key(kClaimName), scope);
  }
}

Publisher::ClaimOwner Publisher::claim(const std::filesystem::path& directory,
                                       ExportReport& report,
                                       StageScope& scope) {
  constexpr int kTries = 5;
  for (int i = 0; i < kTries; ++i) {
    const std::string text = Json{{"request_id", options_.request_id},
                                  {"export_key", export_key_},
                                  {"export_timestamp", options_.export_timestamp}}
                                 .dump();
    const auto put = [&](PutCondition condition) {
      return store_.put(key(kClaimName), text, "application/json", condition, scope);
    };
    if (put(PutCondition::kIfAbsent) == PutResult::kWritten) {
      return ClaimOwner::kThisJob;
    }
    const auto found = store_.get(key(kClaimName), kMaxManifestBytes, scope);
    if (!found) {
      continue;  // its owner has just finished
    }
    const auto json = nlohmann::json::parse(*found, nullptr, /*allow_exceptions=*/false);
    const auto field = [&json](const char* name, const std::string& missing) {
      return json.is_object() ? json.value(name, missing) : missing;
    };
    const std::string owner = field("request_id", "");
    const std::string timestamp = field("export_timestamp", options_.export_timestamp);
    if (owner == options_.request_id && timestamp != options_.export_timestamp &&
        field("export_key", "") == export_key_) {
      adopt_timestamp(timestamp, directory, report);
      return ClaimOwner::kShared;
    }
    // The same record's: left by an attempt that died.
    const bool is_left_over =
        owner == options_.request_id && timestamp == options_.export_timestamp;
    if (!is_left_over && !options_.overwrite) {
      throw_conflict("the claim", owner);
    }
    put(PutCondition::kAlways);
    return ClaimOwner::kThisJob;
  }
  throw Error(ErrorCode::kUnavailable,
              fmt::format("the claim at {} comes and goes; other jobs write to the same place",
                          destination_.to_string()),
              destination_.to_string());
}

// Two records of one request, done at the same time, must write the same bytes: whoever is last
// writes over files that the other's manifest names. Only the time of the record differs.
void Publisher::adopt_timestamp(const std::string& timestamp,
                                const std::filesystem::path& directory,
                                ExportReport& report) {
  options_.export_timestamp = timestamp;
  std::filesystem::remove(directory / kMetadataName);
  const FileReport written =
      write_export_metadata(options_, report.model_type, report.task, directory);
  const auto entry = std::ranges::find(report.files, written.name, &FileReport::name);
  EXPORT_CHECK(entry != report.files.end(), "an export without its metadata file");
  *entry = written;
}

void Publisher::remove_replaced_export(StageScope& scope) {
  const auto manifest = read_manifest(scope);
  if (!manifest) {
    return;
  }
  // The manifest goes first: from here on readers see no export until the new one is whole.
  store_.remove(key(kManifestName), scope);
  for (const FileReport& file :
       report_from_json(manifest->json.value("result", nlohmann::json::object())).files) {
    store_.remove(key(file.name), scope);
  }
}

void Publisher::publish(const std::filesystem::path& directory,
                        const SourceIdentity& source,
                        ExportReport& report,
                        StageScope& scope) {
  const ClaimOwner owner = claim(directory, report, scope);
  try {
    // Somebody may have finished here between our first look and the claim.
    if (auto published = find_published(source, scope)) {
      report = *std::move(published);
    } else {
      upload_all(directory, source, report, scope);
    }
  } catch (...) {
    if (owner == ClaimOwner::kThisJob) {
      withdraw(scope.stage());
    }
    throw;
  }
  try {
    store_.remove(key(kClaimName), scope);
  } catch (...) {
    withdraw(scope.stage());  // a job that is cancelled now has no next attempt that would do it
    throw;
  }
}

void Publisher::withdraw(Stage stage) noexcept {
  // A failed job must not block the destination. Best effort: the store may be what failed.
  try {
    CleanupObserver observer;
    StageScope scope(stage, observer);
    store_.remove(key(kClaimName), scope);
  } catch (const std::exception&) {
    return;  // the next attempt of this request owns the claim; another one can use `overwrite`
  }
}

// config.json comes after all others: tools that know no manifest take a directory with one for a
// model.
void Publisher::upload_files(const std::filesystem::path& directory,
                             const std::vector<FileReport>& files,
                             StageScope& scope) {
  std::vector<FileUpload> first;
  std::vector<FileUpload> last;
  for (const FileReport& file : files) {
    if (file.bytes >= kLeastPartBytes) {
      store_.abort_stale_uploads(key(file.name), scope);  // left by an attempt that died
    }
    (file.name == kConfigName ? last : first)
        .push_back({.key = key(file.name),
                    .from = directory / file.name,
                    .content_type = std::string(content_type(file.name))});
  }
  store_.put_files(first, scope);
  store_.put_files(last, scope);
}

void Publisher::upload_all(const std::filesystem::path& directory,
                           const SourceIdentity& source,
                           ExportReport& report,
                           StageScope& scope) {
  if (options_.overwrite) {
    remove_replaced_export(scope);
  }
  upload_files(directory, report.files, scope);
  const std::string sums = checksums(report.files);
  store_.put(key(kChecksumsName), sums, "text/plain", PutCondition::kAlways, scope);
  report.files.push_back({std::string(kChecksumsName), sums.size(), sha256_hex(sums), "checksums"});

  report.output_uri = destination_.to_string();
  report.manifest_uri = destination_.to_string() + std::string(kManifestName);
  Json manifest;
  manifest["format"] = 1;
  manifest["exporter"] = {{"name", "onnxferry"}, {"version", version()}};
  manifest["request_id"] = options_.request_id;
  manifest["export_key"] = export_key_;
  manifest["source"] = {{"uri", source.uri},
                        {"etag", source.info.etag},
                        {"version", source.info.version},
                        {"bytes", std::to_string(source.info.bytes)}};
  manifest["options"] = nlohmann::json::parse(canonical_options(options_));
  manifest["result"] = report_to_json(report);
  const std::string text = manifest.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  report.manifest_sha256 = sha256_hex(text);
  if (store_.put(key(kManifestName), text, "application/json", PutCondition::kIfAbsent, scope) ==
      PutResult::kExists) {
    const auto winner = read_manifest(scope);
    if (!winner || winner->sha256 != report.manifest_sha256) {
      throw_conflict("a manifest", winner ? winner->text("request_id") : "");
    }
  }
}

}  // namespace onnxferry
