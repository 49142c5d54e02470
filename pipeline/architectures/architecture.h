#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/checkpoint/checkpoint.h"
#include "pipeline/checkpoint/model_config.h"
#include "pipeline/graph/builder.h"

namespace onnxferry {

/// What an architecture builds from.
struct BuildContext {
  const ModelConfig& config;
  const WeightFiles& tensors;
  std::string_view task;  ///< one of the architecture's tasks
  int opset = 17;
  /// Where modules.json lies, for the task sentence-similarity.
  std::filesystem::path model_root = {};

  /// Tasks of a decoder come with and without cache.
  [[nodiscard]] bool has_past() const { return task.ends_with("-with-past"); }
  [[nodiscard]] std::string_view base_task() const {
    return has_past() ? task.substr(0, task.size() - std::string_view("-with-past").size()) : task;
  }
  /// Tensors of a task's head must be in the checkpoint: a head is never invented.
  /// \throws Error{kUnsupportedModel} naming task, missing tensor and the checkpoint's class
  void require_head(std::string_view key) const;
};

/// One ONNX file of an export.
struct BuiltGraph {
  std::string file_name;  ///< "model.onnx"
  GraphModel model;
};

/// A model type that can be exported. One record per file in this folder, listed in registry.cc.
struct Architecture {
  std::string_view model_type;  ///< config.json's model_type
  std::span<const std::string_view>
      tasks;  ///< Optimum names; the order is the order of `onnxferry models`
  /// Checkpoint tensors that may be left over, as patterns with '*' (buffers, heads of other
  /// tasks).
  std::span<const std::string_view> ignored_tensors;
  /// Build every graph of the task. \throws Error{kUnsupportedModel, kCorruptCheckpoint}
  std::vector<BuiltGraph> (*build)(const BuildContext& context);
  double verify_atol = 1e-4;  ///< float32 tolerance of the numeric checks
  /// Tasks whose outputs depend on padding on the right by design, in transformers as here
  /// (convolutions that do not see the mask, a summary of the last position): verification does not
  /// expect padding to change nothing.
  std::span<const std::string_view> tasks_that_see_padding = {};
};

}  // namespace onnxferry
