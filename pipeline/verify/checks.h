#pragma once

#include <string>
#include <vector>

#include "pipeline/verify/compare.h"
#include "pipeline/verify/text_model.h"
#include "pipeline/verify/verify.h"

namespace onnxferry {

/// Level run: generated inputs of several lengths, with and without past and right padding; every
/// run is held to the declared outputs (TextModel::run).
void check_runs(TextModel& model, const VerifyRequest& request);

/// Level full: runs that must agree with one another do.
///
/// Graphs with past: prefill = step by step = a chunk on a cache; rows of a batch do not see each
/// other; left padding changes nothing, also for the token after it. Graphs without: rows are
/// independent, right padding changes nothing, and in causal models a prefix gives the prefix of
/// the result. What cannot be checked is added to `notes`.
void check_agreements(TextModel& model,
                      const VerifyRequest& request,
                      Ledger& ledger,
                      std::vector<std::string>& notes);

}  // namespace onnxferry
