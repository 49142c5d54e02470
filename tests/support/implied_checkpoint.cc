#include "tests/support/implied_checkpoint.h"

#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <regex>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "pipeline/architectures/registry.h"
#include "pipeline/error.h"

namespace onnxferry::testing {
namespace {

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

std::vector<std::int64_t> parse_shape(const std::string& text) {
  static const std::regex number(R"(\d+)");
  std::vector<std::int64_t> shape;
  for (std::sregex_iterator it(text.begin(), text.end(), number), end; it != end; ++it) {
    shape.push_back(std::stoll(it->str()));
  }
  return shape;
}

/// What the builder said it needs.
struct Complaint {
  std::string name;
  std::optional<std::vector<std::int64_t>> shape;  // absent: a head, whose shape comes later
};

std::optional<Complaint> read_complaint(const Error& error) {
  static const std::regex missing(
      R"(the checkpoint has no tensor (\S+), .*expected shape \[(.*)\])");
  static const std::regex mismatch(R"(tensor (\S+) has shape .*config\.json implies \[(.*)\])");
  static const std::regex head(R"(needs the tensor (\S+), which the checkpoint)");
  std::smatch match;
  const std::string message = error.message();
  if (std::regex_search(message, match, missing) || std::regex_search(message, match, mismatch)) {
    return Complaint{match[1], parse_shape(match[2])};
  }
  if (std::regex_search(message, match, head)) {
    return Complaint{match[1], std::nullopt};
  }
  return std::nullopt;
}

/// "layers.3.x" is likely to have what "layers.2.x" has.
void copy_from_neighbour(Shapes& shapes, const std::string& name) {
  static const std::regex index(R"(\.([1-9]\d*)\.)");
  for (std::sregex_iterator it(name.begin(), name.end(), index), end; it != end; ++it) {
    const std::string before = name.substr(0, static_cast<std::size_t>(it->position()) + 1);
    const std::int64_t number = std::stoll((*it)[1]);
    const std::string from = fmt::format("{}{}.", before, number - 1);
    const std::string to = fmt::format("{}{}.", before, number);
    Shapes copies;
    for (auto found = shapes.lower_bound(from);
         found != shapes.end() && found->first.starts_with(from);
         ++found) {
      copies.emplace(to + found->first.substr(from.size()), found->second);
    }
    shapes.merge(copies);
  }
}

std::vector<ImpliedTensor> as_list(const Shapes& shapes) {
  std::vector<ImpliedTensor> list;
  for (const auto& [name, shape] : shapes) {
    list.push_back({name, shape});
  }
  return list;
}

Shapes used_by(const std::vector<BuiltGraph>& graphs) {
  Shapes used;
  for (const BuiltGraph& graph : graphs) {
    for (const auto& [name, recipe] : graph.model.recipes) {
      for (const TensorInfo* const tensor : sources(recipe)) {
        used.emplace(tensor->name, tensor->shape);
      }
    }
  }
  return used;
}

}  // namespace

std::vector<ImpliedTensor> implied_tensors(const std::string& config_json,
                                           std::string_view task,
                                           const std::filesystem::path& scratch) {
  const ModelConfig config = ModelConfig::parse(config_json);
  const Architecture& architecture = find_architecture(config);
  Shapes shapes;
  bool is_lean = false;  // nothing in `shapes` that a neighbour has and this config does not need
  while (true) {
    write_checkpoint(config_json, as_list(shapes), Fill::kHole, scratch);
    const WeightFiles files = WeightFiles::open(scratch);
    try {
      Shapes used = used_by(architecture.build({config, files, task, 17}));
      if (is_lean || used.size() == shapes.size()) {
        return as_list(shapes);
      }
      // What the builder reads at once is in no recipe: it complains again.
      shapes = std::move(used);
      is_lean = true;
      continue;
    } catch (const Error& error) {
      const auto complaint = read_complaint(error);
      if (!complaint) {
        throw;
      }
      shapes[complaint->name] = complaint->shape.value_or(std::vector<std::int64_t>{1});
      if (!is_lean) {
        copy_from_neighbour(shapes, complaint->name);
      }
    }
  }
}

void write_checkpoint(const std::string& config_json,
                      const std::vector<ImpliedTensor>& tensors,
                      Fill fill,
                      const std::filesystem::path& directory) {
  std::ofstream(directory / "config.json") << config_json;
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::uint64_t bytes = 0;
  for (const ImpliedTensor& tensor : tensors) {
    const std::uint64_t end = bytes + element_count(tensor.shape) * sizeof(float);
    header += fmt::format(R"(,"{}":{{"dtype":"F32","shape":[{}],"data_offsets":[{},{}]}})",
                          tensor.name,
                          fmt::join(tensor.shape, ","),
                          bytes,
                          end);
    bytes = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  const auto path = directory / "model.safetensors";
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out << header;
  if (fill == Fill::kRandom) {
    std::mt19937 random(20261121);
    std::normal_distribution<float> spread(0.0F, 0.2F);
    for (const ImpliedTensor& tensor : tensors) {
      std::vector<float> values(element_count(tensor.shape));
      for (float& value : values) {
        value = spread(random) + (tensor.shape.size() == 1 ? 1.0F : 0.0F);
      }
      out.write(reinterpret_cast<const char*>(values.data()),
                static_cast<std::streamsize>(values.size() * sizeof(float)));
    }
  }
  out.close();
  std::filesystem::resize_file(path, sizeof length + length + bytes);
}

}  // namespace onnxferry::testing
