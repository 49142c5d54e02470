// onnxferry export SRC OUT: one local job, with the flags that users of the Python exporters know.
#include <chrono>
#include <cstdio>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "pipeline/run.h"
#include "pipeline/storage/store_config.h"
#include "worker/commands.h"
#include "worker/environment.h"
#include "worker/local_job.h"

namespace onnxferry {
namespace {

struct ExportFlags {
  std::string source, output, output_flag, model_id, device = "cpu", dtype = "fp32", verify,
                                                     onnxruntime, scratch;
  std::string task = "auto";
  std::string strategy = "htp";
  int opset = 17;
  std::optional<double> atol, rtol;
  bool no_keep_weights = false, onnxslim = false, no_config = false, clean_onnx = false,
       overwrite = false;
};

void add_flags(CLI::App& command, ExportFlags& flags) {
  command
      .add_option("source",
                  flags.source,
                  "Model directory, archive (tar, tar.gz, tar.zst, zip), or s3:// URI")
      ->required();
  command.add_option("destination", flags.output, "Directory or s3:// prefix for the result");
  command.add_option("-o,--output", flags.output_flag, "The same as the second argument");
  command
      .add_option("--task",
                  flags.task,
                  "Task, e.g. text-generation-with-past; auto tells it from config.json")
      ->capture_default_str();
  command.add_option("-d,--device", flags.device, "cpu or cuda: where the result is verified")
      ->capture_default_str();
  command.add_option("-p,--dtype", flags.dtype, "fp32 or fp16 weights")->capture_default_str();
  command.add_option("--opset", flags.opset, "17 or 18")->capture_default_str();
  command.add_option(
      "--verify", flags.verify, "none, structure, load, run or full (default: load)");
  command.add_option("--atol", flags.atol, "Absolute tolerance of --verify full");
  command.add_option("--rtol", flags.rtol, "Relative tolerance of --verify full");
  command.add_option(
      "--model-id", flags.model_id, "Label for the metadata, e.g. Qwen/Qwen2.5-0.5B");
  command.add_option("--onnxruntime", flags.onnxruntime, "libonnxruntime.so to verify with");
  command.add_option(
      "--scratch", flags.scratch, "Where archives are unpacked (default: beside the output)");
  command.add_option("--strategy", flags.strategy, "Recorded in export_metadata.json")
      ->capture_default_str();
  command.add_flag("--clean-onnx", flags.clean_onnx, "Recorded in export_metadata.json");
  command.add_flag("--no-config", flags.no_config, "Leave config.json and tokenizer files out");
  command.add_flag("--no-keep-weights",
                   flags.no_keep_weights,
                   "Delete unpacked weights as soon as they are exported");
  command.add_flag("--overwrite", flags.overwrite, "Replace another export at the destination");
  command.add_flag("--onnxslim", flags.onnxslim, "Not offered yet: the graphs are emitted slim");
}

template <typename Value>
Value known(std::optional<Value> value,
            std::string_view flag,
            std::string_view found,
            std::string_view expected) {
  if (!value) {
    throw Error(ErrorCode::kInvalidRequest,
                fmt::format("{} is {}, expected {}", flag, found, expected),
                std::string(flag));
  }
  return *value;
}

/// "dir/model.onnx" means the directory "dir/model", as other exporters have it.
std::string output_prefix(std::string output) {
  constexpr std::string_view kOnnx = ".onnx";
  if (output.ends_with(kOnnx)) {
    output.erase(output.size() - kOnnx.size());
    fmt::print(stderr, "note: the result is a directory: {}\n", output);
  }
  if (!output.ends_with('/')) {
    output += '/';
  }
  return output.starts_with("s3://") || output.starts_with("file://")
             ? output
             : "file://" + std::filesystem::absolute(output).lexically_normal().string();
}

ExportOptions to_options(const ExportFlags& flags) {
  if (flags.onnxslim) {
    throw Error(
        ErrorCode::kUnsupportedOption,
        "--onnxslim is not offered yet; graphs have fewer nodes than a slimmed export already",
        "use_onnxslim");
  }
  const std::string output = flags.output.empty() ? flags.output_flag : flags.output;
  if (output.empty() || (!flags.output.empty() && !flags.output_flag.empty())) {
    throw Error(ErrorCode::kInvalidRequest,
                "name the output once: onnxferry export SOURCE OUTPUT",
                "output");
  }
  ExportOptions options;
  options.model_id = flags.model_id == "-" ? "" : flags.model_id;
  options.source_uri = flags.source;
  options.output_uri = output_prefix(output);
  options.device = known(find_device(flags.device), "--device", flags.device, "cpu or cuda");
  options.dtype = known(find_float_dtype(flags.dtype), "--dtype", flags.dtype, "fp32 or fp16");
  options.keep_weights = !flags.no_keep_weights;
  options.task = flags.task;
  options.opset = flags.opset;
  if (options.opset != 17 && options.opset != 18) {
    throw Error(ErrorCode::kUnsupportedOption,
                fmt::format("--opset is {}, offered are 17 and 18", flags.opset),
                "opset");
  }
  options.no_config = flags.no_config;
  options.verify_atol = flags.atol;
  options.verify_rtol = flags.rtol;
  options.overwrite = flags.overwrite;
  options.export_strategy = flags.strategy;
  options.clean_onnx = flags.clean_onnx;
  const auto now =
      std::chrono::time_point_cast<std::chrono::seconds>(std::chrono::system_clock::now());
  options.export_timestamp = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
  return options;
}

std::filesystem::path scratch_parent(const ExportFlags& flags, const ExportOptions& options) {
  if (!flags.scratch.empty()) {
    return flags.scratch;
  }
  const ObjectUri destination = ObjectUri::parse(options.output_uri);
  if (destination.scheme == ObjectUri::Scheme::kFile) {
    // On the output's file system, so that finished files are linked into place instead of copied.
    return std::filesystem::path(destination.key).parent_path().parent_path();
  }
  return std::filesystem::temp_directory_path();
}

void print_summary(const ExportReport& report) {
  if (report.answered_from_manifest) {
    fmt::print(
        "already exported from the same source with the same options (--overwrite does it "
        "again)\n");
  }
  fmt::print("{}: {}, {}, {} parameters, verified: {}\n",
             report.output_uri,
             report.model_type,
             report.task,
             report.parameters,
             report.verification.level);
  std::vector<FileReport> files = report.files;
  std::ranges::sort(files, {}, &FileReport::name);
  for (const FileReport& file : files) {
    fmt::print("  {:<28}{:>12}\n", file.name, human_bytes(file.bytes));
  }
  for (const Warning& warning : report.warnings) {
    fmt::print(stderr, "warning: {}\n", warning.text);
  }
}

int run_local_export(const ExportFlags& flags) {
  ExportOptions options = to_options(flags);
  const RuntimeChoice choice = choose_runtime(flags.verify, flags.onnxruntime);
  options.verify = choice.level;
  if (!choice.note.empty()) {
    fmt::print(stderr, "note: {}\n", choice.note);
  }
  StoreConfig store_config = store_config_from_environment(process_environment);
  store_config.allow_http = store_config.allow_local_addresses = true;  // the user's own machine
  store_config.notice = [](std::string_view sentence) {
    fmt::print(stderr, "note: {}\n", sentence);
  };
  const auto stores = make_stores(store_config, process_environment);
  const ScratchDirectory scratch(scratch_parent(flags, options));
  Workspace workspace{.scratch = scratch.path(), .limits = {}, .runtime = choice.runtime.get()};
  const auto observer = make_console_observer();
  const ExportReport report = run_export(options, *stores, workspace, *observer);
  print_summary(report);
  return kExitOk;
}

}  // namespace

void add_export_command(CLI::App& app, int& exit_code) {
  CLI::App* const command = app.add_subcommand("export", "Export one checkpoint, without a queue");
  const auto flags = std::make_shared<ExportFlags>();
  add_flags(*command, *flags);
  command->callback([flags, &exit_code] { exit_code = run_local_export(*flags); });
}

}  // namespace onnxferry
