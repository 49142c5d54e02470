#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/worker_config.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace onnxferry {

/// The flags, environment variables and configuration-file keys of `serve`, from one table.
///
/// `--max-jobs 2`, `ONNXFERRY_MAX_JOBS=2` and `max-jobs = 2` in the file given with `--config` mean
/// the same; the flag wins over the environment, the environment over the file. `--kafka key=value`
/// (repeatable), `ONNXFERRY_KAFKA_<PROPERTY>` and `[kafka]` pass librdkafka properties through.
///
/// Use: construct with the subcommand before the parse, load() in its callback.
class ConfigOptions {
 public:
  /// NAME=VALUE strings, as in `environ`.
  using EnvironmentList = std::vector<std::string>;

  explicit ConfigOptions(CLI::App& app);
  ~ConfigOptions();
  ConfigOptions(const ConfigOptions&) = delete;
  ConfigOptions& operator=(const ConfigOptions&) = delete;

  /// Build the configuration. Problems of every source and of the whole are collected.
  /// \param config  starts as the defaults the caller wants (store settings of the environment)
  /// \return all problems; `config` may be used only when there are none
  std::vector<FieldProblem> load(const EnvironmentList& environment, WorkerConfig& config) const;

  [[nodiscard]] bool check_only() const { return check_only_; }

 private:
  struct Row;
  static const std::vector<Row>& table();
  friend std::string print_config(const WorkerConfig& config);
  friend std::vector<std::string> config_option_names();

  std::map<std::string, CLI::Option*> options_;
  std::vector<std::string> kafka_;
  std::string config_file_;
  bool check_only_ = false;
};

/// The effective configuration as a configuration file, secrets masked.
std::string print_config(const WorkerConfig& config);

/// Flag names in table order, for the test that compares README and table.
std::vector<std::string> config_option_names();

/// One sentence for each variable that begins with ONNXFERRY_ and that nothing reads: a misspelt
/// one would be ignored in silence. Values are not shown. What Kubernetes adds for services is left
/// out.
std::vector<std::string> find_unread_variables(const ConfigOptions::EnvironmentList& environment);

/// This process's environment.
ConfigOptions::EnvironmentList environment_list();

}  // namespace onnxferry
