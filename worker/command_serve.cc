#include <csignal>
#include <memory>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "worker/commands.h"
#include "worker/config_options.h"
#include "worker/environment.h"
#include "worker/serve.h"

namespace onnxferry {
namespace {

int serve(const ConfigOptions& options) {
  WorkerConfig config;
  config.stores = store_config_from_environment(process_environment);
  config.stores.allow_file = false;  // requests come from others
  const std::vector<FieldProblem> problems = options.load(environment_list(), config);
  for (const auto& [field, text] : problems) {
    fmt::print(stderr, "{}: {}\n", field, text);
  }
  if (!problems.empty() || options.check_only()) {
    for (const std::string& warning : find_unread_variables(environment_list())) {
      fmt::print(stderr, "warning: {}\n", warning);
    }
  }
  if (!problems.empty()) {
    return kExitUsage;
  }
  if (options.check_only()) {
    fmt::print("{}", print_config(config));
    return kExitOk;
  }
  return run_worker(config);
}

}  // namespace

void add_serve_command(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("serve", "Work through export requests from Kafka until told to stop");
  const auto options = std::make_shared<ConfigOptions>(*command);
  command->callback([options, &exit_code] { exit_code = serve(*options); });
}

}  // namespace onnxferry
