#include "pipeline/checkpoint/sentence_modules.h"

#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/checkpoint/checkpoint_files.h"

namespace onnxferry {
namespace {

using testing::ElementsAre;
using enum ErrorCode;

constexpr std::string_view kTransformer =
    R"({"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"})";

std::string module(std::string_view path, std::string_view type) {
  return fmt::format(
      R"({{"idx":1,"name":"1","path":"{}","type":"sentence_transformers.models.{}"}})", path, type);
}

std::string list(std::initializer_list<std::string_view> modules) {
  return fmt::format("[{}]", fmt::join(modules, ","));
}

/// A directory with a Transformer and a Pooling, to change in one place.
class Directory {
 public:
  Directory() {
    for (const char* folder : {"1_Pooling", "2_Dense", "2_Normalize"}) {
      std::filesystem::create_directory(files_.path() / folder);
    }
    modules(list({kTransformer, module("1_Pooling", "Pooling")}));
    pooling(R"({"word_embedding_dimension":8})");
  }
  void modules(std::string_view json) const { files_.write("modules.json", json); }
  void pooling(std::string_view json) const { files_.write("1_Pooling/config.json", json); }
  void dense(std::string_view json) const {
    files_.write("2_Dense/config.json", json);
    modules(list({kTransformer, module("1_Pooling", "Pooling"), module("2_Dense", "Dense")}));
  }
  void write(const std::string& name, std::string_view text) const { files_.write(name, text); }
  [[nodiscard]] SentenceModules load() const { return load_sentence_modules(files_.path()); }
  void expect_refused(ErrorCode code, std::string_view part) const {
    expect_error(error_of([&] { static_cast<void>(load()); }), code, part);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return files_.path(); }

 private:
  TempDirectory files_;
};

TEST(SentenceModules, MeanIsTheModeWhenNoneIsNamed) {
  const Directory directory;
  EXPECT_TRUE(has_sentence_modules(directory.path()));
  const SentenceModules modules = directory.load();
  EXPECT_THAT(modules.pooling, ElementsAre(PoolingMode::kMean));
  EXPECT_EQ(modules.word_embedding_dimension, 8);
  EXPECT_TRUE(modules.after_pooling.empty());
}

TEST(SentenceModules, ConcatenatesInTheLibrarysOrder) {
  const Directory directory;
  directory.pooling(R"({"word_embedding_dimension":8,"pooling_mode_lasttoken":true,
    "pooling_mode_weightedmean_tokens":true,"pooling_mode_mean_sqrt_len_tokens":true,
    "pooling_mode_mean_tokens":true,"pooling_mode_max_tokens":true,"pooling_mode_cls_token":true,
    "include_prompt":true})");
  EXPECT_THAT(directory.load().pooling,
              ElementsAre(PoolingMode::kFirstToken,
                          PoolingMode::kMax,
                          PoolingMode::kMean,
                          PoolingMode::kMeanSqrtLength,
                          PoolingMode::kWeightedMean,
                          PoolingMode::kLastToken));
}

TEST(SentenceModules, ReadsTheKeysAndClassesOfVersion6) {
  const Directory directory;
  directory.modules(
      R"([{"idx":0,"name":"0","path":"","type":"sentence_transformers.base.modules.transformer.Transformer"},
          {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
          {"idx":2,"name":"2","path":"2_Normalize","type":"sentence_transformers.base.modules.normalize.Normalize"}])");
  directory.pooling(R"({"embedding_dimension":8,"pooling_mode":["lasttoken","cls"]})");
  directory.write("2_Normalize/config.json",
                  R"({"module_input_name":"sentence_embedding","module_output_name":null})");
  directory.write("sentence_bert_config.json",
                  R"({"transformer_task":"feature-extraction","max_seq_length":64})");
  const SentenceModules modules = directory.load();
  EXPECT_THAT(modules.pooling, ElementsAre(PoolingMode::kLastToken, PoolingMode::kFirstToken));
  ASSERT_EQ(modules.after_pooling.size(), 1U);
  EXPECT_TRUE(std::holds_alternative<SentenceNormalize>(modules.after_pooling.front()));
}

TEST(SentenceModules, ReadsADense) {
  const Directory directory;
  directory.dense(
      R"({"in_features":8,"out_features":4,"bias":false,"activation_function":"torch.nn.modules.linear.Identity"})");
  const SentenceModules modules = directory.load();
  const auto& dense = std::get<SentenceDense>(modules.after_pooling.at(0));
  EXPECT_EQ(dense.name, "2_Dense");
  EXPECT_EQ(dense.in_features, 8);
  EXPECT_EQ(dense.out_features, 4);
  EXPECT_FALSE(dense.has_bias);
  EXPECT_EQ(dense.activation, "Identity");
}

struct Refused {
  const char* name;
  const char* modules;
  ErrorCode code;
  const char* part;
};

class RefusedModules : public testing::TestWithParam<Refused> {};

TEST_P(RefusedModules, SaysWhy) {
  const Directory directory;
  directory.modules(GetParam().modules);
  directory.expect_refused(GetParam().code, GetParam().part);
}

#define TRANSFORMER R"({"path":"","type":"sentence_transformers.models.Transformer"})"
#define POOLING R"({"path":"1_Pooling","type":"sentence_transformers.models.Pooling"})"

INSTANTIATE_TEST_SUITE_P(
    SentenceModules,
    RefusedModules,
    testing::Values(
        Refused{"NotJson", "[", kCorruptCheckpoint, "no JSON array"},
        Refused{"Object", "{}", kCorruptCheckpoint, "no JSON array"},
        Refused{"Empty", "[]", kCorruptCheckpoint, "no JSON array"},
        Refused{"OfTexts", R"(["a"])", kCorruptCheckpoint, "no object"},
        Refused{"NoType", R"([{"path":""}])", kCorruptCheckpoint, "without the text \"type\""},
        Refused{"TypeNumber", R"([{"path":"","type":1}])", kCorruptCheckpoint, "without the text"},
        Refused{"OtherModule",
                "[" TRANSFORMER "," POOLING
                R"(,{"path":"2_LSTM","type":"sentence_transformers.models.LSTM"}])",
                kUnsupportedModel,
                "sentence_transformers.models.LSTM"},
        Refused{"OwnCode",
                R"([{"path":"","type":"custom_st.Transformer"}])",
                kUnsupportedModel,
                "custom_st.Transformer"},
        Refused{"TransformerInAFolder",
                R"([{"path":"0_BERT","type":"sentence_transformers.models.Transformer"}])",
                kUnsupportedModel,
                "does not begin with a Transformer at the model's root"},
        Refused{"NoPooling", "[" TRANSFORMER "]", kUnsupportedModel, "no Pooling"},
        Refused{"TwoPoolings",
                "[" TRANSFORMER "," POOLING "," POOLING "]",
                kUnsupportedModel,
                "behind its Pooling"},
        Refused{"PathOutside",
                "[" TRANSFORMER
                R"(,{"path":"../x","type":"sentence_transformers.models.Pooling"}])",
                kCorruptCheckpoint,
                "name of a folder"},
        Refused{"PathParent",
                "[" TRANSFORMER R"(,{"path":"..","type":"sentence_transformers.models.Pooling"}])",
                kCorruptCheckpoint,
                "name of a folder"},
        Refused{
            "Kwargs",
            R"([{"path":"","type":"sentence_transformers.models.Transformer","kwargs":["task"]}])",
            kUnsupportedModel,
            "kwargs"},
        Refused{"FolderMissing",
                "[" TRANSFORMER
                R"(,{"path":"9_Pooling","type":"sentence_transformers.models.Pooling"}])",
                kCorruptCheckpoint,
                "config.json"}),
    case_name<Refused>);

TEST(SentenceModules, RefusesSettingsThatAreNotImplemented) {
  const Directory directory;
  const auto expect_pooling = [&](std::string_view json, std::string_view part) {
    directory.pooling(json);
    directory.expect_refused(kUnsupportedModel, part);
  };
  expect_pooling(R"({"word_embedding_dimension":8,"include_prompt":false})", "include_prompt");
  expect_pooling(R"({"word_embedding_dimension":8,"pooling_mode_mean_tokens":false})",
                 "no pooling mode");
  expect_pooling(R"({"word_embedding_dimension":8,"pooling_mode_first_last":true})",
                 "pooling_mode_first_last");
  expect_pooling(R"({"embedding_dimension":8,"pooling_mode":"attention"})", "no such mode");
  const auto expect_dense = [&](std::string_view more, std::string_view part) {
    directory.pooling(R"({"word_embedding_dimension":8})");
    directory.dense(fmt::format(R"({{"in_features":8,"out_features":4,{}}})", more));
    directory.expect_refused(kUnsupportedModel, part);
  };
  expect_dense(R"("activation_function":"os.system")", "only activations of torch.nn");
  expect_dense(R"("use_residual":true)", "residual");
  expect_dense(R"("module_input_name":"token_embeddings")", "module_input_name");
  expect_dense(R"("scale":2)", "scale");
}

TEST(SentenceModules, RefusesAnotherTransformerTask) {
  const Directory directory;
  directory.write("sentence_bert_config.json", R"({"transformer_task":"fill-mask"})");
  directory.expect_refused(kUnsupportedModel, "transformer_task");
}

}  // namespace
}  // namespace onnxferry
