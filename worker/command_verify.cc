// onnxferry verify DIR: check an exported directory, ours or another exporter's.
#include <cstdio>
#include <memory>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/verify_request.h"
#include "worker/commands.h"
#include "worker/local_job.h"

namespace onnxferry {
namespace {

struct VerifyFlags {
  std::string directory, level, device = "cpu", onnxruntime;
  std::optional<double> tolerance;
};

VerifyRequest to_request(const VerifyFlags& flags, VerifyLevel level) {
  const auto device = find_device(flags.device);
  if (!device) {
    throw Error(ErrorCode::kInvalidRequest,
                fmt::format("--device is {}, expected cpu or cuda", flags.device),
                "device");
  }
  VerifyRequest request = describe_directory(flags.directory);
  request.level = level;
  request.device = *device;
  request.atol = flags.tolerance;
  request.rtol = flags.tolerance;
  return request;
}

int run_verify(const VerifyFlags& flags) {
  const RuntimeChoice choice = choose_runtime(flags.level, flags.onnxruntime);
  const VerifyRequest request = to_request(flags, choice.level);
  const auto observer = make_console_observer();
  StageScope scope(Stage::kVerify, *observer);
  const VerificationReport report = verify(request, choice.runtime.get(), scope);
  for (const OutputCheck& check : report.outputs) {
    fmt::print("  {:<28}max abs diff {:.3g}, cosine {:.9f}, argmax agreement {:.4f}\n",
               check.output,
               check.max_abs_diff,
               check.cosine,
               check.argmax_agreement);
  }
  fmt::print(
      "{}: ok ({}) {}\n", flags.directory, report.level, fmt::join(request.onnx_files, ", "));
  return kExitOk;
}

}  // namespace

void add_verify_command(CLI::App& app, int& exit_code) {
  CLI::App* const command = app.add_subcommand("verify", "Check an exported directory");
  const auto flags = std::make_shared<VerifyFlags>();
  command->add_option("directory", flags->directory, "Directory with model.onnx and config.json")
      ->required()
      ->check(CLI::ExistingDirectory);
  command->add_option("--level", flags->level, "structure, load, run or full (default: load)");
  command->add_option("-d,--device", flags->device, "cpu or cuda")->capture_default_str();
  command->add_option(
      "--tolerance",
      flags->tolerance,
      "Absolute and relative, for level full (default: 1e-4, for weights in half precision 5e-2)");
  command->add_option("--onnxruntime", flags->onnxruntime, "libonnxruntime.so to verify with");
  command->callback([flags, &exit_code] { exit_code = run_verify(*flags); });
}

}  // namespace onnxferry
