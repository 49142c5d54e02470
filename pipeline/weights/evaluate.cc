#include "pipeline/weights/evaluate.h"

#include <algorithm>

#include "pipeline/weights/evaluator.h"
#include "pipeline/weights/readers.h"

namespace onnxferry {
namespace {

constexpr std::size_t kPiece = std::size_t{8} << 20;

/// One buffer that is handed on each time something is in it.
class CallbackSink : public ByteSink {
 public:
  CallbackSink(std::size_t bytes, const std::function<void(std::span<const std::byte>)>& callback)
      : buffer_(bytes), callback_(callback) {}

  std::span<std::byte> window(std::size_t /*at_least*/) override { return buffer_.bytes(); }
  void advance(std::size_t count) override { callback_(buffer_.bytes().first(count)); }

 private:
  PageBuffer buffer_;
  const std::function<void(std::span<const std::byte>)>& callback_;
};

}  // namespace

void Evaluator::run(const Recipe& recipe, ByteSink& sink) {
  std::uint64_t left = byte_size(recipe);
  if (left == 0) {
    return;
  }
  const std::size_t item = item_bytes(recipe->dtype);
  const std::unique_ptr<Reader> reader = make_reader(*recipe, {source_, limits_, pool_});
  while (left > 0) {
    const std::span<std::byte> window = sink.window(item);
    const std::uint64_t count = std::min<std::uint64_t>(left, window.size() - window.size() % item);
    reader->read(window.first(count));
    sink.advance(count);
    left -= count;
  }
}

void evaluate(const Recipe& recipe,
              const TensorSource& source,
              const std::function<void(std::span<const std::byte>)>& sink) {
  const std::uint64_t bytes = byte_size(recipe);
  CallbackSink pieces(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, kPiece)), sink);
  Evaluator(source).run(recipe, pieces);
}

}  // namespace onnxferry
