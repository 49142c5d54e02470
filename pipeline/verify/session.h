#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "pipeline/verify/structure.h"
#include "pipeline/verify/tensor.h"
#include "pipeline/verify/verify.h"

namespace onnxferry {

/// An open model. Thread: one at a time.
class Session {
 public:
  virtual ~Session() = default;
  /// Run the model once. `inputs` are matched by name; the result holds `outputs` in that order.
  /// \throws Error{kVerificationFailed} with ONNX Runtime's own words;
  ///         Error{kResourceExhausted} when it runs out of memory
  virtual std::vector<Tensor> run(const std::vector<Tensor>& inputs,
                                  const std::vector<std::string>& outputs) = 0;
};

/// What the checks need of a runtime beyond its public face. The only seam to ONNX Runtime: its
/// headers stay in runtime.cc.
class SessionFactory : public OnnxRuntime {
 public:
  /// Open a model on a device, with as little memory as possible.
  ///
  /// \param model  borrowed for the session's lifetime
  /// \throws Error{kVerificationFailed} when the model does not load;
  ///         Error{kUnsupportedOption} when the device's provider is missing
  virtual std::unique_ptr<Session> open(const CheckedModel& model, Device device) = 0;
};

}  // namespace onnxferry
