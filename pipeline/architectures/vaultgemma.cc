// VaultGemma (Google 2025): Gemma 2, trained with differential privacy, without the norms behind
// both blocks. Source: transformers/models/vaultgemma/modeling_vaultgemma.py.

#include "pipeline/architectures/gemma.h"

namespace onnxferry {
namespace {

std::vector<BuiltGraph> build_vaultgemma(const BuildContext& context) {
  DecoderSpec spec = read_gemma2(context.config);
  spec.names.post_attention_norm = "";
  spec.names.post_mlp_norm = "";
  return build_decoder(context, spec);
}

}  // namespace

extern const Architecture kVaultGemma;
const Architecture kVaultGemma{.model_type = "vaultgemma",
                               .tasks = kGenerationTasks,
                               .ignored_tensors = kDecoderIgnoredTensors,
                               .build = build_vaultgemma};

}  // namespace onnxferry
