// onnxferry models: what can be exported, from the registry.
#include <algorithm>
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
    std::size_t width = 0;
    for (const Architecture* const architecture : architectures()) {
      width = std::max(width, architecture->model_type.size());
    }
    for (const Architecture* const architecture : architectures()) {
      fmt::print(
          "{:<{}}  {}\n", architecture->model_type, width, fmt::join(architecture->tasks, ", "));
    }
    exit_code = kExitOk;
  });
}

}  // namespace onnxferry
