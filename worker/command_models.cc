// onnxferry models: what can be exported, from the registry.
#include <cstdio>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/architectures/registry.h"
#include "worker/commands.h"

namespace onnxferry {

void add_models_command(CLI::App& app, int& exit_code) {
  CLI::App* const command = app.add_subcommand("models", "List model types and their tasks");
  command->callback([&exit_code] {
    for (const Architecture* const architecture : architectures()) {
      fmt::print("{:<16}{}\n", architecture->model_type, fmt::join(architecture->tasks, ", "));
    }
    exit_code = kExitOk;
  });
}

}  // namespace onnxferry
