#include "worker/request_options.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "messages/codec.h"
#include "messages/timestamps.h"
#include "pipeline/error.h"
#include "pipeline/tasks.h"

namespace onnxferry {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

const RequestContext kContext{.export_timestamp = "2026-05-01T10:00:00Z", .now = {}};

v1::ExportRequest request(std::string_view json) {
  v1::ExportRequest request;
  const auto problems = messages::parse_request_json(json, request);
  EXPECT_THAT(problems, IsEmpty()) << json;
  request.set_request_id("r-1");
  return request;
}

/// A sound request with one more field.
v1::ExportRequest request_with(const std::string& field) {
  return request(R"({"minio_tar_uri":"s3://bucket/m.tar","output_dir":"s3://bucket/out/",)" +
                 field + "}");
}

/// "CODE\nfield: text\n…", or "ok".
std::string outcome(const v1::ExportRequest& request, const RequestContext& context = kContext) {
  try {
    to_export_options(request, context);
    return "ok";
  } catch (const Error& error) {
    std::string text = std::string(describe(error.code()).name) + "\n";
    for (const FieldProblem& problem : error.problems()) {
      text += problem.field + ": " + problem.text + "\n";
    }
    return text;
  }
}

TEST(RequestOptions, TakesTheSeedRequestWithItsDefaults) {
  const ExportOptions options =
      to_export_options(request(R"({"minio_tar_uri": "s3://bucket/qwen/llm/qwen-2.5-0.5B-LLM.tar",
                  "output_dir": "s3://bucket/exports/qwen2.5-0.5b/", "device": "cpu", "dtype": "fp32",
                  "keep_weights": true, "use_onnxslim": false})"),
                        kContext);
  EXPECT_EQ(options.request_id, "r-1");
  EXPECT_EQ(options.model_id, "");
  EXPECT_EQ(options.source_uri, "s3://bucket/qwen/llm/qwen-2.5-0.5B-LLM.tar");
  EXPECT_EQ(options.output_uri, "s3://bucket/exports/qwen2.5-0.5b/");
  EXPECT_EQ(options.device, Device::kCpu);
  EXPECT_EQ(options.dtype, FloatDtype::kFp32);
  EXPECT_TRUE(options.keep_weights);
  EXPECT_EQ(options.task, "auto");
  EXPECT_EQ(options.opset, 17);
  EXPECT_EQ(options.verify, VerifyLevel::kLoad);
  EXPECT_FALSE(options.overwrite);
  EXPECT_EQ(options.export_timestamp, "2026-05-01T10:00:00Z");
}

TEST(RequestOptions, MapsEveryOfferedField) {
  const ExportOptions options = to_export_options(
      request(
          R"({"model_id":"Qwen/Qwen2.5-0.5B-Instruct","source_uri":"file:///data/m.tar.gz","output_dir":"file:///data/out",
                  "device":"cuda","dtype":"fp16","cleanup_weights_after_export":true,"task":"causal-lm-with-past",
                  "layout":"optimum","float_io":"fp32","optimize":"none","opset":18,"no_config":true,"overwrite":true,
                  "model_card":{"enabled":false},
                  "verify":{"level":"full","atol":0.001,"rtol":0}})"),
      kContext);
  EXPECT_EQ(options.model_id, "Qwen/Qwen2.5-0.5B-Instruct");
  EXPECT_EQ(options.source_uri, "file:///data/m.tar.gz");
  EXPECT_EQ(options.output_uri, "file:///data/out/");
  EXPECT_EQ(options.device, Device::kCuda);
  EXPECT_EQ(options.dtype, FloatDtype::kFp16);
  EXPECT_FALSE(options.keep_weights);
  EXPECT_EQ(options.task, "text-generation-with-past");
  EXPECT_EQ(options.opset, 18);
  EXPECT_TRUE(options.no_config);
  EXPECT_TRUE(options.overwrite);
  EXPECT_EQ(options.verify, VerifyLevel::kFull);
  EXPECT_EQ(options.verify_atol, 0.001);
  EXPECT_EQ(options.verify_rtol, 0.0);
}

TEST(RequestOptions, ReportsEveryProblemAtOnce) {
  EXPECT_EQ(
      outcome(request(
          R"({"minio_tar_uri":"bucket/m.tar","device":"gpu","dtype":"fp61","task":"fill-mask ",
                "keep_weights":true,"cleanup_weights_after_export":true,"layout":"optimun","variants":["q9",""],
                "optimize":"o2","opset":0,"verify":{"level":"laod","atol":-1},"quantize":{"preset":"avx3"}})")),
      "INVALID_REQUEST\n"
      "minio_tar_uri: \"bucket/m.tar\" has no scheme; expected s3://bucket/key or file:///path\n"
      "output_dir: missing; expected a destination, as in s3://bucket/exports/my-model/\n"
      "device: \"gpu\" is unknown; expected cpu, cuda\n"
      "dtype: \"fp61\" is unknown; expected fp32, fp16, bf16\n"
      "cleanup_weights_after_export: true contradicts keep_weights true; give one of them\n"
      "task: \"fill-mask \" is unknown; did you mean \"fill-mask\"?\n"
      "opset: 0 is not an opset; expected 17 or 18\n"
      "verify.level: \"laod\" is unknown; expected none, structure, load, run, full\n"
      "verify.atol: -1 is not a tolerance; expected a number from 0 on\n"
      "layout: \"optimun\" is unknown; expected optimum, transformers_js; did you mean "
      "\"optimum\"?\n"
      "optimize: \"o2\" is unknown; expected none, O1, O2, O3, O4; did you mean \"O2\"?\n"
      "variants[0]: \"q9\" is unknown; expected fp16, q8, int8, uint8, q4, q4f16, bnb4\n"
      "variants[1]: empty; expected fp16, q8, int8, uint8, q4, q4f16, bnb4\n"
      "quantize.preset: \"avx3\" is unknown; expected arm64, avx2, avx512, avx512_vnni, ppc64le, "
      "tensorrt; did you mean \"avx2\"?\n");
}

TEST(RequestOptions, MessageAloneSaysWhatIsWrong) {
  try {
    to_export_options(request(R"({"output_dir":"s3://bucket/o/","dtype":"x"})"), kContext);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.message(),
              "2 problems: minio_tar_uri: missing; expected the model archive, as in "
              "s3://bucket/path/model.tar; dtype: "
              "\"x\" is unknown; expected fp32, fp16, bf16");
    EXPECT_EQ(error.subject(), "minio_tar_uri");
  }
}

struct Later {
  std::string field;
  std::string problem;
};

class RequestOptionsLater : public testing::TestWithParam<Later> {};

TEST_P(RequestOptionsLater, IsRefusedByNameNeverIgnored) {
  EXPECT_EQ(outcome(request_with(GetParam().field)),
            "UNSUPPORTED_OPTION\n" + GetParam().problem + "\n");
}

INSTANTIATE_TEST_SUITE_P(
    Capabilities,
    RequestOptionsLater,
    testing::Values(
        Later{R"("dtype":"bf16")", "dtype: \"bf16\" is not built in yet"},
        Later{R"("use_onnxslim":true)", "use_onnxslim: slimming is not built in yet"},
        Later{R"("layout":"transformers_js")", "layout: \"transformers_js\" is not built in yet"},
        Later{R"("variants":["q8"])", "variants[0]: \"q8\" is not built in yet"},
        Later{R"("float_io":"model")", "float_io: \"model\" is not built in yet"},
        Later{R"("quantize":{})", "quantize: quantization is not built in yet"},
        Later{R"("optimize":"O2")", "optimize: \"O2\" is not built in yet"},
        Later{R"("opset":13)", "opset: 13 is not offered; expected 17 or 18"},
        Later{R"("hierarchy":{"strategy":"htp"})",
              "hierarchy: hierarchy tagging is not built in yet"},
        Later{R"("split":{"blocks":4})", "split: a split export is not built in yet"},
        Later{R"("genai":true)", "genai: the GenAI form is not built in yet"},
        Later{R"("model_card":{"license":"mit"})", "model_card: a model card is not built in yet"},
        Later{R"("verify":{"sample_texts":["a"]})",
              "verify.sample_texts: verification with texts is not built in yet"},
        Later{R"("verify":{"samples_uri":"s3://bucket/s"})",
              "verify.samples_uri: verification with texts is not built in yet"}));

TEST(RequestOptions, RefusesLaterSourcesByName) {
  const auto with_source = [](const std::string& uri) {
    return outcome(request(R"({"minio_tar_uri":")" + uri + R"(","output_dir":"s3://bucket/o/"})"));
  };
  EXPECT_EQ(with_source("https://host/m.tar?X-Amz-Signature=abc"), "ok");
  EXPECT_THAT(with_source("https://host/?m.tar"), HasSubstr("names no object"));
  EXPECT_THAT(with_source("https://user:topsecret@host/m.tar"),
              testing::AllOf(HasSubstr("presigned"), testing::Not(HasSubstr("topsecret"))));
  EXPECT_EQ(with_source("s3://bucket/m.zip"),
            "UNSUPPORTED_OPTION\nminio_tar_uri: a .zip archive is not built in yet\n");
  EXPECT_EQ(with_source("s3://bucket/m.TAR.ZST"),
            "UNSUPPORTED_OPTION\nminio_tar_uri: a .zst archive is not built in yet\n");
}

TEST(RequestOptions, InvalidComesBeforeUnsupported) {
  EXPECT_THAT(outcome(request_with(R"("optimize":"O2","device":"gpu")")),
              testing::AllOf(HasSubstr("INVALID_REQUEST"), testing::Not(HasSubstr("optimize"))));
}

TEST(RequestOptions, ChecksWhereTheArchiveIs) {
  const auto with_source = [](const std::string& uri) {
    return outcome(request(R"({"minio_tar_uri":")" + uri + R"(","output_dir":"s3://bucket/o/"})"));
  };
  EXPECT_EQ(with_source("s3://bucket/a/b.tar"), "ok");
  EXPECT_EQ(with_source("file:///data/m.tar"), "ok");
  for (const char* bad : {"s3://bucket",
                          "s3://bucket/dir/",
                          "s3://B_d/m.tar",
                          "ftp://host/m.tar",
                          "file://host/m.tar",
                          "s3://",
                          "s3://bucket/a\\u0000b"}) {
    EXPECT_THAT(with_source(bad), HasSubstr("INVALID_REQUEST\nminio_tar_uri: ")) << bad;
  }
  EXPECT_EQ(outcome(request_with(R"("source_uri":"s3://bucket/other.tar")")),
            "INVALID_REQUEST\nsource_uri: contradicts minio_tar_uri; they name the same thing, "
            "give one\n");
  EXPECT_EQ(outcome(request_with(R"("source_uri":"s3://bucket/m.tar")")), "ok");
}

TEST(RequestOptions, ChecksTheDestinationsPath) {
  const auto with_output = [](const std::string& uri) {
    return outcome(request(R"({"minio_tar_uri":"s3://bucket/m.tar","output_dir":")" + uri + "\"}"));
  };
  EXPECT_EQ(with_output("s3://bucket/a/b"), "ok");
  EXPECT_EQ(with_output("file:///data/out/"), "ok");
  for (const char* bad : {"s3://bucket/",
                          "s3://bucket",
                          "s3://bucket//a",
                          "s3://bucket/a//b/",
                          "s3://bucket/a/../b",
                          "s3://bucket/./",
                          "file:///",
                          "out",
                          "/data/out",
                          "https://host/out",
                          "file:///a/%2e%2e/b"}) {
    EXPECT_THAT(with_output(bad), HasSubstr("INVALID_REQUEST\noutput_dir: ")) << bad;
  }
}

TEST(RequestOptions, NeverRepeatsSecrets) {
  const auto presigned = request(
      R"({"minio_tar_uri":"http://host/m.tar?X-Amz-Signature=abcdef0123","output_dir":"s3://key:hunter2@bucket/o/"})");
  const std::string text = outcome(presigned);
  EXPECT_THAT(text, HasSubstr("INVALID_REQUEST"));
  EXPECT_THAT(text, testing::Not(HasSubstr("abcdef0123")));
  EXPECT_THAT(text, testing::Not(HasSubstr("hunter2")));
}

TEST(RequestOptions, KnowsEveryTaskAndSynonym) {
  for (const std::string_view task : task_names()) {
    EXPECT_EQ(outcome(request_with("\"task\":\"" + std::string(task) + "\"")), "ok");
    EXPECT_EQ(outcome(request_with("\"task\":\"" + std::string(task) + "-with-past\"")), "ok");
  }
  for (const auto& [synonym, task] : std::vector<std::pair<std::string, std::string>>{
           {"masked-lm", "fill-mask"},
           {"sequence-classification", "text-classification"},
           {"default", "feature-extraction"},
           {"default-with-past", "feature-extraction-with-past"},
           {"auto", "auto"}}) {
    EXPECT_EQ(to_export_options(request_with("\"task\":\"" + synonym + "\""), kContext).task, task);
  }
}

TEST(RequestOptions, ModelIdIsALabelAndDashMeansAbsent) {
  EXPECT_EQ(to_export_options(request_with(R"("model_id":"-")"), kContext).model_id, "");
  EXPECT_EQ(to_export_options(request_with(R"("model_id":"")"), kContext).model_id, "");
  EXPECT_THAT(outcome(request_with(R"("model_id":"a\nb")")), HasSubstr("model_id: "));
}

TEST(RequestOptions, KeepAndCleanupAreOpposites) {
  EXPECT_FALSE(to_export_options(request_with(R"("keep_weights":false)"), kContext).keep_weights);
  EXPECT_FALSE(
      to_export_options(request_with(R"("keep_weights":false,"cleanup_weights_after_export":true)"),
                        kContext)
          .keep_weights);
  EXPECT_TRUE(to_export_options(request_with(R"("cleanup_weights_after_export":false)"), kContext)
                  .keep_weights);
  EXPECT_THAT(outcome(request_with(R"("keep_weights":false,"cleanup_weights_after_export":false)")),
              HasSubstr("contradicts"));
}

TEST(RequestOptions, ExpiredRequestsAreNotStarted) {
  const auto at = [](std::string_view text) {
    google::protobuf::Timestamp time;
    EXPECT_TRUE(messages::parse_rfc3339(std::string(text), time));
    return RequestContext{.export_timestamp = {}, .now = messages::to_time_point(time)};
  };
  const auto expiring = request_with(R"("expires_at":"2026-12-01T00:00:00Z")");
  EXPECT_EQ(outcome(expiring, at("2026-11-30T23:59:59Z")), "ok");
  EXPECT_EQ(outcome(expiring, at("2026-12-01T00:00:00Z")), "DEADLINE_EXCEEDED\n");
  EXPECT_EQ(outcome(expiring, kContext), "ok") << "a job that has started is not stopped here";
  EXPECT_THAT(outcome(request_with(R"("expires_at":"2020-01-01T00:00:00Z","dtype":"x")"),
                      at("2026-01-01T00:00:00Z")),
              HasSubstr("INVALID_REQUEST"));
}

TEST(RequestOptions, RefusesTimesThatAreNone) {
  v1::ExportRequest bad = request_with(R"("dtype":"fp32")");
  bad.mutable_expires_at()->set_seconds(INT64_MAX);
  EXPECT_EQ(outcome(bad), "INVALID_REQUEST\nexpires_at: not a time between the years 1 and 9999\n");
  EXPECT_EQ(find_expiry(bad), std::nullopt);
}

/// A field added to the contract must be mapped, refused or deliberately passed over here.
TEST(RequestOptions, KnowsEveryFieldOfTheContract) {
  const std::set<std::string> decided = {
      "request_id",   "model_id",     "minio_tar_uri",
      "source_uri",   "output_dir",   "device",
      "dtype",        "keep_weights", "cleanup_weights_after_export",
      "use_onnxslim", "task",         "layout",
      "variants",     "float_io",     "quantize",
      "optimize",     "opset",        "hierarchy",
      "no_config",    "split",        "genai",
      "model_card",   "verify",       "overwrite",
      "expires_at",   "labels"};  // labels: for the reply only
  const auto* type = v1::ExportRequest::descriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    EXPECT_TRUE(decided.contains(type->field(i)->name())) << type->field(i)->name();
  }
}

}  // namespace
}  // namespace onnxferry
