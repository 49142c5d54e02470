#include <cstdio>
#include <exception>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <google/protobuf/stubs/logging.h>

#include "messages/text.h"
#include "pipeline/error.h"
#include "pipeline/storage/encoding.h"
#include "pipeline/version.h"
#include "worker/commands.h"
#include "worker/kafka_client.h"

namespace onnxferry {
namespace {

constexpr std::string_view kAbout =
    "Convert Hugging Face checkpoints to ONNX natively: one at a time (export) or as a queue "
    "worker "
    "(serve).";

constexpr std::string_view kExitCodes =
    "Exit codes: 0 done, 1 the job failed, 2 wrong flags or configuration, 3 no reply in time "
    "(submit).";

/// "exprt" as the command: name the one that was meant.
bool is_unknown_command(const CLI::App& app, int argc, char** argv) {
  if (argc < 2 || *argv[1] == '-') {
    return false;
  }
  std::vector<std::string_view> names;
  for (const CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == argv[1]) {
      return false;
    }
    if (!command->get_group().empty()) {
      names.emplace_back(command->get_name());
    }
  }
  fmt::print(stderr,
             "unknown command {}{}\nRun onnxferry --help for the commands.\n",
             messages::quote(argv[1]),
             messages::did_you_mean(argv[1], names));
  return true;
}

int print_error(const Error& error) {
  fmt::print(stderr, "{}: {}\n", describe(error.code()).name, mask_secrets(error.message()));
  return error.code() == ErrorCode::kInvalidRequest ? kExitUsage : kExitFailure;
}

int run(int argc, char** argv) {
#if GOOGLE_PROTOBUF_VERSION < 4022000  // removed later
  // It would print what hostile requests are made of, in its own form, between our log lines; every
  // such failure is reported by its caller.
  google::protobuf::SetLogHandler(nullptr);
#endif
  CLI::App app{std::string(kAbout), "onnxferry"};
  app.set_version_flag("--version", fmt::format("onnxferry {}", version()));
  app.require_subcommand(1);
  app.footer(std::string(kExitCodes));
  int exit_code = kExitOk;
  add_export_command(app, exit_code);
  add_serve_command(app, exit_code);
  add_submit_command(app, exit_code);
  add_verify_command(app, exit_code);
  add_models_command(app, exit_code);
  add_demo_command(app, exit_code);
  add_job_command(app, exit_code);
  if (is_unknown_command(app, argc, argv)) {
    return kExitUsage;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return exit_code;
}

int run_and_report(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    return print_error(error);
  } catch (const std::exception& error) {
    fmt::print(stderr, "INTERNAL: {}\n", mask_secrets(error.what()));
    return kExitFailure;
  }
}

}  // namespace
}  // namespace onnxferry

int main(int argc, char** argv) {
  onnxferry::end_process(onnxferry::run_and_report(argc, argv));
}
