#include "pipeline/architectures/registry.h"

#include <algorithm>
#include <map>
#include <ostream>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <onnx/onnx_pb.h>

#include "tests/support/fixture.h"
#include "tests/support/tests_dir.h"

namespace onnxferry {
namespace {

using testing::checkpoint_dir;
using testing::expect_error;

std::vector<BuiltGraph> build(const std::filesystem::path& directory,
                              std::string_view task,
                              int opset = 17) {
  const ModelConfig config = ModelConfig::load(directory);
  static std::vector<std::unique_ptr<WeightFiles>> kept;  // recipes point into them
  kept.push_back(std::make_unique<WeightFiles>(WeightFiles::open(directory)));
  const Architecture& architecture = find_architecture(config);
  auto graphs = architecture.build({config, *kept.back(), task, opset, directory});
  check_tensors_consumed(architecture, *kept.back(), graphs);
  check_config_consumed(config);
  return graphs;
}

struct GoldenCase {
  std::string fixture;
  std::string task;

  // NOLINTNEXTLINE(readability-identifier-naming): gtest looks for this name
  friend void PrintTo(const GoldenCase& c, std::ostream* out) {
    *out << c.fixture << " " << c.task;
  }
};

std::vector<GoldenCase> golden_cases() {
  std::vector<GoldenCase> cases;
  for (const auto& fixture : std::filesystem::directory_iterator(tests_dir() / "fixtures")) {
    const auto expected = fixture.path() / "expected";
    if (!std::filesystem::is_directory(expected)) {
      continue;
    }
    for (const auto& file : std::filesystem::directory_iterator(expected)) {
      if (file.path().extension() == ".json") {
        cases.push_back({fixture.path().filename().string(), file.path().stem().string()});
      }
    }
  }
  std::ranges::sort(cases, {}, [](const GoldenCase& c) { return c.fixture + c.task; });
  return cases;
}

class GoldenGraph : public ::testing::TestWithParam<GoldenCase> {};

// The whole graph as text. A change shows as a diff; ONNXFERRY_UPDATE_GOLDEN=1 writes the files
// anew.
TEST_P(GoldenGraph, IsUnchanged) {
  const auto& [fixture, task] = GetParam();
  const auto graphs = build(checkpoint_dir(fixture), task);
  ASSERT_EQ(graphs.size(), 1U);
  check_graph(graphs.front().model);
  const std::string text = print_graph(graphs.front().model);
  const auto path = tests_dir() / "golden" / fmt::format("{}.{}.txt", fixture, task);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): gtest runs tests one after the other
  if (std::getenv("ONNXFERRY_UPDATE_GOLDEN") != nullptr) {
    testing::write_text(path, text);
  }
  const std::string golden = testing::read_text(path);
  const auto [differs, expected] = std::ranges::mismatch(text, golden);
  const auto line_at = [](const std::string& all, auto position) {
    const auto offset = static_cast<std::size_t>(position - all.begin());
    const std::size_t begin = all.substr(0, offset).rfind('\n') + 1;
    return all.substr(begin, all.find('\n', offset) - begin);
  };
  EXPECT_TRUE(text == golden) << path << "\n  found:    " << line_at(text, differs)
                              << "\n  expected: " << line_at(golden, expected);
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, GoldenGraph, ::testing::ValuesIn(golden_cases()), [](const auto& param_info) {
      std::string name = param_info.param.fixture + "__" + param_info.param.task;
      std::ranges::replace_if(
          name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
      return name;
    });

TEST(Registry, EveryArchitectureHasAFixture) {
  const auto cases = golden_cases();
  for (const Architecture* const architecture : architectures()) {
    EXPECT_TRUE(std::ranges::any_of(cases, [&](const GoldenCase& c) {
      return ModelConfig::load(checkpoint_dir(c.fixture)).model_type() == architecture->model_type;
    })) << architecture->model_type;
  }
}

/// Model types by the tasks that they have: the README's table.
std::string support_table() {
  std::map<std::string, std::vector<std::string>> types;
  for (const Architecture* const architecture : architectures()) {
    std::vector<std::string> tasks;
    for (const std::string_view task : architecture->tasks) {
      const std::string base(task.substr(0, task.find("-with-past")));
      const bool has_past = base.size() != task.size();
      if (has_past) {
        std::erase(tasks, base);
      }
      tasks.push_back(has_past ? base + " (with and without past)" : base);
    }
    types[fmt::format("{}", fmt::join(tasks, ", "))].push_back(
        fmt::format("`{}`", architecture->model_type));
  }
  std::string table = fmt::format(
      "{} model types, each proven on fixtures with transformers' own outputs:\n\n"
      "| model types | tasks |\n|---|---|\n",
      architectures().size());
  for (const auto& [tasks, names] : types) {
    table += fmt::format("| {} | {} |\n", fmt::join(names, ", "), tasks);
  }
  return table;
}

TEST(Registry, ReadmeHasItsTable) {
  const auto path = tests_dir().parent_path() / "README.md";
  constexpr std::string_view kBegin = "<!-- model types: written by unit_architectures -->\n";
  constexpr std::string_view kEnd = "<!-- end of model types -->";
  std::string text = testing::read_text(path);
  const std::size_t begin = text.find(kBegin) + kBegin.size();
  const std::size_t length = text.find(kEnd) - begin;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): gtest runs tests one after the other
  if (std::getenv("ONNXFERRY_UPDATE_GOLDEN") != nullptr) {
    text.replace(begin, length, support_table());
    testing::write_text(path, text);
    return;
  }
  EXPECT_EQ(text.substr(begin, length), support_table())
      << "run this program with ONNXFERRY_UPDATE_GOLDEN=1";
}

TEST(Registry, IsSortedByModelType) {
  EXPECT_TRUE(std::ranges::is_sorted(architectures(), {}, &Architecture::model_type));
}

TEST(Registry, UnknownModelTypeNamesTheNearest) {
  expect_error(ErrorCode::kUnsupportedModel,
               "model_type distilbrt has no builder, nearest is distilbert",
               [] { find_architecture(ModelConfig::parse(R"({"model_type": "distilbrt"})")); });
  expect_error(ErrorCode::kUnsupportedModel, "model_type (absent)", [] {
    find_architecture(ModelConfig::parse("{}"));
  });
}

std::string task_of(std::string_view requested, const std::string& json) {
  const auto config = ModelConfig::parse(json);
  return resolve_task(requested, find_architecture(config), config);
}

TEST(ResolveTask, TellsTheTaskFromTheClass) {
  EXPECT_EQ(task_of("auto", R"({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})"),
            "text-generation-with-past");
  EXPECT_EQ(task_of("auto", R"({"model_type": "qwen2", "architectures": ["Qwen2Model"]})"),
            "feature-extraction");
  EXPECT_EQ(
      task_of("auto",
              R"({"model_type": "qwen2", "architectures": ["Qwen2ForSequenceClassification"]})"),
      "text-classification");
  EXPECT_EQ(task_of("auto", R"({"model_type": "bert", "architectures": ["BertForPreTraining"]})"),
            "fill-mask");
  EXPECT_EQ(task_of("", R"({"model_type": "bert", "architectures": ["BertForMultipleChoice"]})"),
            "multiple-choice");
  EXPECT_EQ(task_of("", R"({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})"),
            "text-generation-with-past");
  EXPECT_EQ(task_of("", R"({"model_type": "xlm", "architectures": ["XLMWithLMHeadModel"]})"),
            "fill-mask");
  EXPECT_EQ(
      task_of("", R"({"model_type": "xlm", "architectures": ["XLMForQuestionAnsweringSimple"]})"),
      "question-answering");
}

TEST(ResolveTask, TakesExplicitTasksAndSynonymsAsTheyAre) {
  const std::string qwen2 = R"({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})";
  EXPECT_EQ(task_of("text-generation", qwen2), "text-generation");
  EXPECT_EQ(task_of("causal-lm-with-past", qwen2), "text-generation-with-past");
  EXPECT_EQ(task_of("default", qwen2), "feature-extraction");
}

TEST(ResolveTask, PoolsInDirectoriesOfSentenceTransformers) {
  const auto bert =
      ModelConfig::parse(R"({"model_type": "bert", "architectures": ["BertForMaskedLM"]})");
  const auto qwen2 =
      ModelConfig::parse(R"({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]})");
  const auto resolve = [](std::string_view task, const ModelConfig& config, Library library) {
    return resolve_task(task, find_architecture(config), config, library);
  };
  using enum Library;
  EXPECT_EQ(resolve("auto", bert, kSentenceTransformers), "sentence-similarity");
  EXPECT_EQ(resolve("sentence-similarity", bert, kSentenceTransformers), "sentence-similarity");
  EXPECT_EQ(resolve("feature-extraction", bert, kSentenceTransformers), "feature-extraction");
  // Optimum's synonym where there is nothing to pool with.
  EXPECT_EQ(resolve("sentence-similarity", bert, kTransformers), "feature-extraction");
  EXPECT_EQ(resolve("auto", bert, kTransformers), "fill-mask");
  EXPECT_EQ(resolve("auto", qwen2, kSentenceTransformers), "sentence-similarity");
}

TEST(ResolveTask, RefusesWithAHint) {
  const std::string bert = R"({"model_type": "bert", "architectures": ["BertForMaskedLM"]})";
  expect_error(ErrorCode::kInvalidRequest,
               "unknown task \"fill-mask \"; did you mean \"fill-mask\"?",
               [&] { task_of("fill-mask ", bert); });
  expect_error(ErrorCode::kUnsupportedModel, "bert has no task text-generation", [&] {
    task_of("text-generation", bert);
  });
  expect_error(ErrorCode::kUnsupportedModel, "architectures (absent)", [&] {
    task_of("auto", R"({"model_type": "bert"})");
  });
}

TEST(Build, NeverInventsAHead) {
  expect_error(ErrorCode::kUnsupportedModel, "needs the tensor classifier.weight", [] {
    build(checkpoint_dir("bert-fill-mask"), "text-classification");
  });
  expect_error(ErrorCode::kUnsupportedModel, "needs the tensor lm_head.weight", [] {
    build(checkpoint_dir("qwen2-text-classification"), "text-generation");
  });
  expect_error(ErrorCode::kUnsupportedModel, "needs the tensor score.weight", [] {
    build(checkpoint_dir("qwen2"), "text-classification");
  });
}

TEST(Build, RefusesTensorsThatHaveNoPlace) {
  const testing::TempDir temp;
  const auto copy = testing::copy_checkpoint("qwen2", temp);
  // One layer less in the config leaves a layer's tensors over.
  std::string config = testing::read_text(copy / "config.json");
  const auto replace = [&](std::string_view from, std::string_view to) {
    const auto at = config.find(from);
    ASSERT_NE(at, std::string::npos);
    config.replace(at, from.size(), to);
  };
  replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
  replace("\"full_attention\",\n    \"full_attention\"", "\"full_attention\"");
  testing::write_text(copy / "config.json", config);
  expect_error(
      ErrorCode::kUnsupportedModel, "model.layers.1.", [&] { build(copy, "text-generation"); });
}

TEST(Build, OpsetEighteenBuilds) {
  const auto graphs = build(checkpoint_dir("qwen2"), "text-generation-with-past", 18);
  EXPECT_EQ(graphs.front().model.proto->opset_import(0).version(), 18);
}

}  // namespace
}  // namespace onnxferry
