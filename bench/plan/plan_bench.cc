// bench_plan FIXTURES [MODEL_TYPE[=SIZES.json]]...: how long and in how much memory an export is
// planned at real sizes. Planning is everything before the first weight is read: config, headers,
// graph, checks, layout of the files.
//
// Sizes are transformers' defaults of each type (most of them those of the 7B model) unless a file
// holds others, flags those of a fixture; weights are a hole in the file. Each type runs in a
// process of its own.

#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <map>
#include <span>

#include <fmt/format.h>
#include <malloc.h>
#include <nlohmann/json.hpp>
#include <onnx/onnx_pb.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pipeline/architectures/registry.h"
#include "pipeline/plan.h"
#include "tests/support/implied_checkpoint.h"

namespace onnxferry {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSizeKeys[] = {"d_ff",
                                          "d_model",
                                          "embedding_size",
                                          "expansion_ratio",
                                          "ffn_dim",
                                          "ffn_hidden_size",
                                          "head_dim",
                                          "hidden_size",
                                          "intermediate_size",
                                          "kv_lora_rank",
                                          "layer_types",
                                          "max_position_embeddings",
                                          "max_seq_len",
                                          "moe_intermediate_size",
                                          "n_embd",
                                          "n_head",
                                          "n_heads",
                                          "n_inner",
                                          "n_layer",
                                          "n_layers",
                                          "n_positions",
                                          "n_routed_experts",
                                          "no_rope_layers",
                                          "num_attention_heads",
                                          "num_experts",
                                          "num_experts_per_tok",
                                          "num_heads",
                                          "num_hidden_layers",
                                          "num_key_value_heads",
                                          "num_kv_heads",
                                          "num_layers",
                                          "num_local_experts",
                                          "attention_layers",
                                          "attention_types",
                                          "mlp_only_layers",
                                          "pooler_hidden_size",
                                          "q_lora_rank",
                                          "qk_head_dim",
                                          "qk_nope_head_dim",
                                          "qk_rope_head_dim",
                                          "rotary_dim",
                                          "shared_expert_intermediate_size",
                                          "v_head_dim",
                                          "vocab_size",
                                          "word_embed_proj_dim",
                                          "n_group",
                                          "topk_group",
                                          "first_k_dense_replace",
                                          "dim",
                                          "hidden_dim",
                                          "attn_config",
                                          "rope_scaling"};

/// Where the class has no default, or not that of a published model.
constexpr std::string_view kOverrides = R"({
  "apertus": {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": 8192}},
  "deepseek_v2": {"n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2, "n_group": 1, "topk_group": 1,
                  "topk_method": "greedy", "first_k_dense_replace": 1},
  "dots1": {"n_routed_experts": 128, "num_experts_per_tok": 6, "n_shared_experts": 2, "n_group": 1, "topk_group": 1},
  "glm4_moe": {"head_dim": 128},
  "granitemoehybrid": {"hidden_size": 2560, "num_hidden_layers": 40, "num_attention_heads": 40, "num_key_value_heads": 8,
                       "shared_intermediate_size": 8192, "vocab_size": 100352, "num_local_experts": 0,
                       "num_experts_per_tok": 0, "position_embedding_type": "rope", "mamba_n_heads": 128, "mamba_d_head": 40,
                       "layer_types": ["attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention",
                                       "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention",
                                       "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention",
                                       "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention",
                                       "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention"]},
  "hunyuan_v1_moe": {"num_experts": 64, "moe_topk": 8},
  "longformer": {"attention_window": 512},
  "ministral": {"head_dim": 128},
  "gpt_oss": {"max_position_embeddings": 131072, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
                               "original_max_position_embeddings": 4096}}
})";

/// The fixture's config with the sizes of the config class, or those in the file `sizes`.
std::string real_config(const std::filesystem::path& fixture, const std::string& sizes) {
  std::ifstream file(fixture / "checkpoint" / "config.json");
  Json config = Json::parse(file);
  for (Json* const part :
       {&config, config.contains("text_config") ? &config["text_config"] : nullptr}) {
    for (const std::string_view key : kSizeKeys) {
      if (part != nullptr) {
        part->erase(std::string(key));
      }
    }
  }
  config.update(
      Json::parse(kOverrides).value(config["model_type"].get<std::string>(), Json::object()));
  if (!sizes.empty()) {
    std::ifstream sizes_file(sizes);
    config.update(Json::parse(sizes_file));
  }
  return config.dump();
}

/// From now on VmHWM is the peak since now; what was freed before does not hide what is taken.
void forget_peak() {
  malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << '5';
}

std::uint64_t status_kib(std::string_view field) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with(field)) {
      return std::stoull(line.substr(field.size()));
    }
  }
  return 0;
}

std::string task_of(const Architecture& architecture) {
  const bool generates = std::ranges::find(architecture.tasks, "text-generation-with-past") !=
                         architecture.tasks.end();
  return std::string(generates ? "text-generation-with-past" : architecture.tasks.front());
}

void write_real_sizes(const Architecture& architecture,
                      const std::filesystem::path& fixture,
                      const std::string& sizes,
                      const std::filesystem::path& place) {
  const std::string config = real_config(fixture, sizes);
  const auto tensors = testing::implied_tensors(config, task_of(architecture), place);
  testing::write_checkpoint(config, tensors, testing::Fill::kHole, place);
}

void plan_once(const Architecture& architecture, const std::filesystem::path& place) {
  const std::string task = task_of(architecture);
  ExportOptions options;
  options.task = task;
  options.source_uri = place.string();
  options.export_timestamp = "2026-01-01T00:00:00Z";
  forget_peak();
  const std::uint64_t before = status_kib("VmRSS:");
  const std::clock_t cpu_begin = std::clock();
  const auto begin = std::chrono::steady_clock::now();
  ExtractedArchive files;
  files.model_root = place;
  files.files = {"config.json", "model.safetensors"};
  const Checkpoint checkpoint{files, ModelConfig::load(place), WeightFiles::open(place)};
  const ExportPlan plan = plan_export(checkpoint, options);
  const auto took = std::chrono::steady_clock::now() - begin;
  const std::clock_t cpu_end = std::clock();
  const std::uint64_t after = status_kib("VmHWM:");
  fmt::print("{:<18}{:>8.2f}{:>9}{:>9.1f}{:>9.1f}{:>9.1f}\n",
             architecture.model_type,
             static_cast<double>(plan.report.parameters) / 1e9,
             checkpoint.tensors.tensors().size(),
             std::chrono::duration<double, std::milli>(took).count(),
             static_cast<double>(cpu_end - cpu_begin) * 1e3 / CLOCKS_PER_SEC,
             static_cast<double>(after - std::min(before, after)) / 1024);
  static_cast<void>(std::fflush(stdout));
}

/// In a process of its own: an export runs in one, too, and its heap is new.
bool run_alone(std::string_view model_type, const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      work();
      _exit(0);
    } catch (const Error& error) {
      fmt::print("{:<18}{}\n", model_type, error.message());
      static_cast<void>(std::fflush(stdout));
      _exit(1);
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  return status == 0;
}

bool bench(const Architecture& architecture,
           const std::filesystem::path& fixture,
           const std::string& sizes) {
  std::string name = (std::filesystem::temp_directory_path() / "bench-plan-XXXXXX").string();
  const std::filesystem::path place = mkdtemp(name.data());
  const bool is_done = run_alone(architecture.model_type,
                                 [&] { write_real_sizes(architecture, fixture, sizes, place); }) &&
                       run_alone(architecture.model_type, [&] { plan_once(architecture, place); });
  std::filesystem::remove_all(place);
  return is_done;
}

std::filesystem::path fixture_of(const std::filesystem::path& fixtures,
                                 std::string_view model_type) {
  for (const auto& entry : std::filesystem::directory_iterator(fixtures)) {
    const auto checkpoint = entry.path() / "checkpoint";
    if (std::filesystem::exists(checkpoint / "config.json") &&
        ModelConfig::load(checkpoint).model_type() == model_type) {
      return entry.path();
    }
  }
  return {};
}

int run(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "usage: bench_plan tests/fixtures [MODEL_TYPE[=SIZES.json]]...\n");
    return 2;
  }
  fmt::print(
      "{:<18}{:>8}{:>9}{:>9}{:>9}{:>9}\n", "model type", "10^9", "tensors", "ms", "cpu ms", "MiB");
  static_cast<void>(std::fflush(stdout));
  std::map<std::string, std::string> wanted;  // type → file of sizes
  for (const std::string argument : std::span(argv, argc).subspan(2)) {
    const std::size_t end = argument.find('=');
    wanted[argument.substr(0, end)] = end == std::string::npos ? "" : argument.substr(end + 1);
  }
  int failures = 0;
  const bool is_all = wanted.empty();
  for (const Architecture* const architecture : architectures()) {
    const std::string model_type(architecture->model_type);
    if (!is_all && !wanted.contains(model_type)) {
      continue;
    }
    const bool is_done = bench(*architecture, fixture_of(argv[1], model_type), wanted[model_type]);
    failures += is_done ? 0 : 1;
  }
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace onnxferry

int main(int argc, char** argv) try {
  return onnxferry::run(argc, argv);
} catch (const std::exception& error) {
  static_cast<void>(std::fprintf(stderr, "bench_plan: %s\n", error.what()));
  return 1;
}
