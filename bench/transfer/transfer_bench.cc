// One GET or PUT of one object through the store, as a job does it; bench/transfer/transfer.py
// times it beside curl.
#include <cstdlib>
#include <iostream>

#include <CLI/CLI.hpp>

#include "pipeline/error.h"
#include "pipeline/storage/store_config.h"

namespace onnxferry::bench {
namespace {

class SilentObserver : public StageObserver {
 public:
  void stage_started(Stage /*stage*/) override {}
  void stage_finished(const StageTiming& /*timing*/) override {}
  void progress(Stage /*stage*/, std::uint64_t /*done*/, std::uint64_t /*total*/) override {}
  void waiting(Stage /*stage*/, bool /*waiting*/, std::string_view reason) override {
    std::cerr << "waiting for the store: " << reason << "\n";
  }
  [[nodiscard]] bool is_cancelled() const override { return false; }
};

std::optional<std::string> environment(std::string_view name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  const char* const value = std::getenv(std::string(name).c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

struct Options {
  std::string operation;
  std::string uri;
  std::string file;
  int connections = 8;
  std::uint64_t part_mib = 16;
  bool has_checksum = true;
};

void transfer(const Options& options) {
  StoreConfig config = store_config_from_environment(environment);
  config.connections = options.connections;
  config.part_bytes = options.part_mib << 20U;
  config.checksum = options.has_checksum ? UploadChecksum::kAuto : UploadChecksum::kNone;
  const auto stores = make_stores(config, environment);
  const ObjectUri uri = ObjectUri::parse(options.uri);
  ObjectStore& store = stores->open(uri);
  SilentObserver observer;
  const bool is_get = options.operation == "get";
  StageScope scope(is_get ? Stage::kDownload : Stage::kUpload, observer);
  if (is_get) {
    store.download(uri.key, options.file, scope);
  } else {
    store.put_file(uri.key, options.file, "application/octet-stream", scope);
  }
}

}  // namespace
}  // namespace onnxferry::bench

int main(int argc, char** argv) {
  onnxferry::bench::Options options;
  CLI::App app("GET or PUT one object with the onnxferry store");
  app.add_option("operation", options.operation)->required()->check(CLI::IsMember({"get", "put"}));
  app.add_option("uri", options.uri, "s3://bucket/key")->required();
  app.add_option("file", options.file)->required();
  app.add_option("--connections", options.connections)->capture_default_str();
  app.add_option("--part-mib", options.part_mib)->capture_default_str();
  app.add_flag(
      "--checksum,!--no-checksum", options.has_checksum, "of what is put; default: as jobs do");
  CLI11_PARSE(app, argc, argv);
  try {
    onnxferry::bench::transfer(options);
    return 0;
  } catch (const onnxferry::Error& error) {
    std::cerr << error.message() << "\n";
    return 1;
  }
}
