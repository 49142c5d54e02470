#include "pipeline/plan.h"

#include <algorithm>
#include <future>
#include <unordered_map>

#include "pipeline/architectures/registry.h"
#include "pipeline/checkpoint/sentence_modules.h"
#include "pipeline/output/plan.h"
#include "pipeline/output/sidecars.h"
#include "pipeline/passes/pass_list.h"
#include "pipeline/verify_request.h"

namespace onnxferry {
namespace {

using TensorParameters = std::unordered_map<const TensorInfo*, std::uint64_t>;

/// Adds the tensors that `recipe` reads, with the number of values each holds.
void add_parameters(const Recipe& recipe, TensorParameters& tensors) {
  if (recipe->op == RecipeNode::Op::kMxfp4) {
    const TensorInfo* const blocks = recipe->inputs.front()->tensor;
    tensors.emplace(blocks, 2 * element_count(blocks->shape));  // the scales are no parameters
    return;
  }
  if (recipe->tensor != nullptr) {
    tensors.emplace(recipe->tensor, element_count(recipe->tensor->shape));
  }
  for (const Recipe& input : recipe->inputs) {
    add_parameters(input, tensors);
  }
}

std::uint64_t count_parameters(const std::vector<BuiltGraph>& graphs) {
  TensorParameters tensors;
  for (const BuiltGraph& graph : graphs) {
    for (const auto& [name, recipe] : graph.model.recipes) {
      add_parameters(recipe, tensors);
    }
  }
  std::uint64_t count = 0;
  for (const auto& [tensor, parameters] : tensors) {
    count += parameters;
  }
  return count;
}

ValueReport report_port(const std::string& file, const Port& port) {
  ValueReport report{
      .file = file, .name = port.name, .dtype = std::string(onnx_name(port.dtype)), .dims = {}};
  for (const Dim& dim : port.dims) {
    const auto* const size = std::get_if<std::int64_t>(&dim);
    report.dims.push_back(size != nullptr ? std::to_string(*size) : std::get<std::string>(dim));
  }
  return report;
}

void report_ports(const BuiltGraph& graph, ExportReport& report) {
  for (const Port& port : graph.model.inputs) {
    report.inputs.push_back(report_port(graph.file_name, port));
  }
  for (const Port& port : graph.model.outputs) {
    report.outputs.push_back(report_port(graph.file_name, port));
  }
}

VerifyRequest verify_request(const Checkpoint& checkpoint,
                             const Architecture& architecture,
                             const std::string& task,
                             const ExportOptions& options) {
  std::optional<double> tolerance;  // in half precision verify's own
  if (options.dtype == FloatDtype::kFp32) {
    tolerance = architecture.verify_atol;
  }
  VerifyRequest request = describe_model(checkpoint.config, task);
  request.level = options.verify;
  request.device = options.device;
  request.atol = options.verify_atol ? options.verify_atol : tolerance;
  request.rtol = options.verify_rtol ? options.verify_rtol : tolerance;
  return request;
}

}  // namespace

ExportPlan plan_export(const Checkpoint& checkpoint, const ExportOptions& options) {
  const Architecture& architecture = find_architecture(checkpoint.config);
  ExportPlan plan;
  plan.report.model_type = architecture.model_type;
  const auto& root = checkpoint.files.model_root;
  const Library library =
      has_sentence_modules(root) ? Library::kSentenceTransformers : Library::kTransformers;
  plan.report.task = resolve_task(options.task, architecture, checkpoint.config, library);
  plan.report.opset = options.opset;
  const BuildContext context{
      checkpoint.config, checkpoint.tensors, plan.report.task, options.opset, root};
  std::vector<BuiltGraph> graphs = architecture.build(context);
  check_tensors_consumed(architecture, checkpoint.tensors, graphs);
  for (const std::string& key : check_config_consumed(checkpoint.config)) {
    const std::string_view what =
        key.starts_with("auto_map")
            ? " names code beside the weights, which was not used: the graph is that of "
              "transformers' own class, as without trust_remote_code"
            : " is not a key of this model type; transformers ignores it, too";
    plan.report.warnings.push_back(
        {"UNKNOWN_CONFIG_KEY", std::string("config.json: ").append(key).append(what)});
  }
  plan.report.parameters = count_parameters(graphs);
  plan.verify = verify_request(checkpoint, architecture, plan.report.task, options);
  for (BuiltGraph& graph : graphs) {
    run_passes(graph.model, options);
    // Both only read the graph, and for a large one each takes its time.
    std::future<void> check = std::async(std::launch::async, [&] { check_graph(graph.model); });
    report_ports(graph, plan.report);
    plan.verify.onnx_files.push_back(graph.file_name);
    std::ranges::move(plan_files(graph.model, graph.file_name), std::back_inserter(plan.files));
    check.get();
  }
  return plan;
}

std::uint64_t ExportPlan::bytes() const {
  std::uint64_t sum = 0;
  for (const PlannedFile& file : files) {
    sum += file.bytes();
  }
  return sum;
}

ExportReport write_export(ExportPlan& plan,
                          const Checkpoint& checkpoint,
                          const ExportOptions& options,
                          const std::filesystem::path& directory,
                          StageScope& scope) {
  std::filesystem::create_directories(directory);
  ExportReport report = std::move(plan.report);
  report.files = write_files(plan.files, checkpoint.tensors, directory, scope);
  if (options.no_config) {
    report.warnings.push_back(
        {"NO_CONFIG", "no_config leaves config.json out; Optimum will not load this directory"});
  } else {
    const auto weight_files = checkpoint.tensors.file_names();
    const SidecarRequest request{.model_root = checkpoint.files.model_root,
                                 .files = checkpoint.files.files,
                                 .weight_files = {weight_files.begin(), weight_files.end()},
                                 .is_generating = report.task.starts_with("text-generation")};
    std::ranges::move(copy_sidecars(request, directory, scope), std::back_inserter(report.files));
  }
  report.files.push_back(write_export_metadata(options, report.model_type, report.task, directory));
  plan.verify.directory = directory;
  return report;
}

}  // namespace onnxferry
