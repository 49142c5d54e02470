#include "bench/export/synthetic_checkpoint.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace onnxferry::bench {
namespace {

std::uint64_t tensor_bytes(const ModelShape& model, const ShapedTensor& tensor) {
  std::uint64_t bytes = model.item_bytes;
  for (const std::int64_t dim : tensor.shape) {
    bytes *= static_cast<std::uint64_t>(dim);
  }
  return bytes;
}

/// Source: the safetensors format: length of the header, header, data.
std::string safetensors_header(const ModelShape& model, std::uint64_t& data_bytes) {
  nlohmann::ordered_json header;
  header["__metadata__"] = {{"format", "pt"}};
  data_bytes = 0;
  for (const ShapedTensor& tensor : model.tensors) {
    const std::uint64_t end = data_bytes + tensor_bytes(model, tensor);
    header[tensor.name] = {
        {"dtype", model.dtype}, {"shape", tensor.shape}, {"data_offsets", {data_bytes, end}}};
    data_bytes = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, '\0');
  for (std::size_t i = 0; i < length.size(); ++i) {
    length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  }
  return length + text;
}

/// Values of magnitude 2^-6 to 2^-5 with both signs, as bfloat16 or float32.
std::vector<char> random_weights(std::size_t item_bytes) {
  constexpr std::size_t kBytes = std::size_t{8} << 20;
  std::mt19937 random(20240917);
  std::vector<char> bytes(kBytes);
  std::ranges::generate(bytes, [&] { return static_cast<char>(random() & 0x7f); });
  for (std::size_t i = item_bytes - 1; i < kBytes; i += item_bytes) {
    bytes[i] = (random() & 1) != 0 ? '\x3c' : '\xbc';
  }
  return bytes;
}

}  // namespace

std::uint64_t write_checkpoint(const ModelShape& model, const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "config.json") << model.config_json;
  const std::filesystem::path path = directory / "model.safetensors";
  std::uint64_t data_bytes = 0;
  const std::string header = safetensors_header(model, data_bytes);
  std::ofstream out(path, std::ios::binary);
  out << header;
  if (!model.is_sparse) {
    const std::vector<char> weights = random_weights(model.item_bytes);
    for (std::uint64_t left = data_bytes; left > 0 && out;) {
      const std::uint64_t count = std::min<std::uint64_t>(left, weights.size());
      out.write(weights.data(), static_cast<std::streamsize>(count));
      left -= count;
    }
  }
  out.close();
  if (!out) {
    throw std::runtime_error("cannot write " + path.string());
  }
  std::filesystem::resize_file(path, header.size() + data_bytes);
  return header.size() + data_bytes;
}

}  // namespace onnxferry::bench
