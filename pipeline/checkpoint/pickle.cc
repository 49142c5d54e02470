#include "pipeline/checkpoint/pickle.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "pipeline/checkpoint/torch_objects.h"
#include "pipeline/error.h"
#include "pipeline/quote.h"

namespace onnxferry {
namespace {

using Kind = Pickle::Kind;
using Value = Pickle::Value;

constexpr std::size_t kMaxMemo = 1'000'000;
constexpr std::size_t kMaxValues = 4'000'000;
constexpr std::size_t kMaxDepth = 64;
constexpr std::uint8_t kProtocol = 2;

// Opcodes as CPython's pickle module names them.
enum Op : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kNoneOp = 'N',
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kLong1 = 0x8A,
  kBinFloat = 'G',
  kBinUnicode = 'X',
  kShortBinString = 'U',
  kEmptyTuple = ')',
  kTuple = 't',
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kEmptyList = ']',
  kAppend = 'a',
  kAppends = 'e',
  kEmptyDict = '}',
  kSetItem = 's',
  kSetItems = 'u',
  kEmptySet = 0x8F,
  kBinPut = 'q',
  kLongBinPut = 'r',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kGlobal = 'c',
  kReduce = 'R',
  kNewObj = 0x81,
  kBuild = 'b',
  kBinPersId = 'Q',
  kProto = 0x80,
};

/// Names of the opcodes people meet in files that torch.save does not write.
std::string_view name_of(std::uint8_t op) {
  constexpr auto kNames = std::to_array<std::pair<std::uint8_t, std::string_view>>({
      {0x8C, " SHORT_BINUNICODE"},
      {0x8D, " BINUNICODE8"},
      {0x93, " STACK_GLOBAL"},
      {0x94, " MEMOIZE"},
      {0x95, " FRAME"},
      {'i', " INST"},
      {'o', " OBJ"},
      {'P', " PERSID"},
      {0x82, " EXT1"},
      {0x83, " EXT2"},
      {0x84, " EXT4"},
      {0x92, " NEWOBJ_EX"},
      {'B', " BINBYTES"},
      {'C', " SHORT_BINBYTES"},
  });
  const auto* const found =
      std::ranges::find(kNames, op, [](const auto& row) { return row.first; });
  return found == kNames.end() ? std::string_view() : found->second;
}

/// The pickle machine: a stack, marks in it, a memo. What it cannot do is the point of it.
class Machine {
 public:
  explicit Machine(PickleInput& input) : input_(input), begin_(input.position()) {}

  Pickle run() {
    if (input_.byte() != kProto || input_.byte() != kProtocol) {
      fail("is no pickle of protocol 2, which torch.save writes", ErrorCode::kUnsupportedModel);
    }
    while (true) {
      if (input_.position() - begin_ > kMaxPickleBytes) {
        fail(fmt::format("has more than {} bytes", kMaxPickleBytes), ErrorCode::kLimitExceeded);
      }
      const std::uint8_t op = input_.byte();
      if (op == kStop) {
        break;
      }
      if (!run_literal(op) && !run_container(op) && !run_memo(op) && !run_object(op)) {
        fail(fmt::format("has the opcode 0x{:02x}{}, which torch.save does not write; save the "
                         "weights again as safetensors",
                         op,
                         name_of(op)),
             ErrorCode::kUnsupportedModel);
      }
    }
    pickle_.root = pop();
    if (!stack_.empty() || !marks_.empty()) {
      fail("stops with values left over");
    }
    return std::move(pickle_);
  }

 private:
  [[nodiscard]] std::string where() const {
    return fmt::format("{}: byte {} of the pickle", input_.file_name(), input_.position() - begin_);
  }

  [[noreturn]] void fail(std::string_view what,
                         ErrorCode code = ErrorCode::kCorruptCheckpoint) const {
    throw Error(
        code,
        fmt::format(
            "{}: the pickle {} (byte {})", input_.file_name(), what, input_.position() - begin_),
        input_.file_name());
  }

  // --- stack

  PickleId add(const Value& value) {
    if (pickle_.values.size() == kMaxValues) {
      fail(fmt::format("makes more than {} values", kMaxValues), ErrorCode::kLimitExceeded);
    }
    pickle_.values.push_back(value);
    return static_cast<PickleId>(pickle_.values.size() - 1);
  }

  void push(const Value& value) { stack_.push_back(add(value)); }

  void push_text(Kind kind, std::string text) {
    pickle_.texts.push_back(std::move(text));
    push({.kind = kind, .number = static_cast<std::int64_t>(pickle_.texts.size() - 1)});
  }

  PickleId pop() {
    const std::size_t bottom = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= bottom) {
      fail("takes a value from an empty stack");
    }
    const PickleId id = stack_.back();
    stack_.pop_back();
    return id;
  }

  [[nodiscard]] PickleId top() const {
    const std::size_t bottom = marks_.empty() ? 0 : marks_.back();
    if (stack_.size() <= bottom) {
      fail("takes a value from an empty stack");
    }
    return stack_.back();
  }

  /// Everything above the last mark, which goes, too.
  std::vector<PickleId> pop_mark() {
    if (marks_.empty()) {
      fail("takes values from a mark that is not there");
    }
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleId> parts(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return parts;
  }

  // --- opcodes

  bool run_literal(std::uint8_t op) {
    switch (op) {
      case kNoneOp:
        push({.kind = Kind::kNone});
        return true;
      case kNewTrue:
      case kNewFalse:
        push({.kind = Kind::kBool, .number = op == kNewTrue ? 1 : 0});
        return true;
      case kBinInt:
        push_integer(static_cast<std::int32_t>(input_.number(4)));
        return true;
      case kBinInt1:
        push_integer(static_cast<std::int64_t>(input_.number(1)));
        return true;
      case kBinInt2:
        push_integer(static_cast<std::int64_t>(input_.number(2)));
        return true;
      case kLong1:
        push_long();
        return true;
      case kBinFloat:
        input_.number(8);  // no tensor needs its value
        push({.kind = Kind::kFloat});
        return true;
      case kBinUnicode:
        push_text(Kind::kText, input_.text(input_.number(4)));
        return true;
      case kShortBinString:
        push_text(Kind::kText, input_.text(input_.number(1)));
        return true;
      default:
        return false;
    }
  }

  void push_integer(std::int64_t number) { push({.kind = Kind::kInteger, .number = number}); }

  /// Two's complement, little endian.
  void push_long() {
    std::string bytes = input_.text(input_.number(1));
    if (bytes.size() > 8) {
      push_text(Kind::kLong, std::move(bytes));
      return;
    }
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      value |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    }
    const bool is_negative =
        !bytes.empty() && (static_cast<unsigned char>(bytes.back()) & 0x80) != 0;
    if (is_negative && bytes.size() < 8) {
      value |= ~std::uint64_t{0} << (8 * bytes.size());
    }
    push_integer(static_cast<std::int64_t>(value));
  }

  bool run_container(std::uint8_t op) {
    switch (op) {
      case kMark:
        if (marks_.size() == kMaxDepth) {
          fail_depth();
        }
        marks_.push_back(stack_.size());
        return true;
      case kEmptyTuple:
        push_sequence(Kind::kTuple, {});
        return true;
      case kEmptyList:
        push_sequence(Kind::kList, {});
        return true;
      case kEmptyDict:
        push_sequence(Kind::kDict, {});
        return true;
      case kEmptySet:
        push({.kind = Kind::kSet, .depth = 1});
        return true;
      case kTuple:
        push_sequence(Kind::kTuple, pop_mark());
        return true;
      case kTuple1:
      case kTuple2:
      case kTuple3:
        push_short_tuple(static_cast<std::size_t>(op - kTuple1) + 1);
        return true;
      case kAppend:
        extend(Kind::kList, {pop()});
        return true;
      case kAppends:
        extend(Kind::kList, pop_mark());
        return true;
      case kSetItem: {
        const PickleId value = pop();
        const PickleId key = pop();
        extend(Kind::kDict, {key, value});
        return true;
      }
      case kSetItems:
        extend(Kind::kDict, pop_mark());
        return true;
      default:
        return false;
    }
  }

  [[noreturn]] void fail_depth() const {
    fail(fmt::format("nests deeper than {} levels", kMaxDepth), ErrorCode::kLimitExceeded);
  }

  [[nodiscard]] std::uint8_t depth_over(const std::vector<PickleId>& parts) const {
    std::uint8_t depth = 0;
    for (const PickleId part : parts) {
      depth = std::max(depth, pickle_.values[part].depth);
    }
    if (depth >= kMaxDepth) {
      fail_depth();
    }
    return static_cast<std::uint8_t>(depth + 1);
  }

  void push_sequence(Kind kind, std::vector<PickleId> parts) {
    const std::uint8_t depth = depth_over(parts);
    pickle_.sequences.push_back(std::move(parts));
    push({.kind = kind,
          .depth = depth,
          .number = static_cast<std::int64_t>(pickle_.sequences.size() - 1)});
  }

  void push_short_tuple(std::size_t count) {
    std::vector<PickleId> parts(count);
    for (std::size_t i = count; i-- > 0;) {
      parts[i] = pop();
    }
    push_sequence(Kind::kTuple, std::move(parts));
  }

  /// Only what is a list or dict here grows: torch once wrote through whatever lay on the stack.
  void extend(Kind kind, const std::vector<PickleId>& parts) {
    Value& target = pickle_.values[top()];
    if (target.kind != kind) {
      fail(kind == Kind::kDict ? "sets items of something that is no dict"
                               : "appends to something that is no list");
    }
    if (kind == Kind::kDict && parts.size() % 2 != 0) {
      fail("sets a key without a value");
    }
    target.depth = std::max(target.depth, depth_over(parts));
    auto& sequence = pickle_.sequences[static_cast<std::size_t>(target.number)];
    sequence.insert(sequence.end(), parts.begin(), parts.end());
  }

  bool run_memo(std::uint8_t op) {
    switch (op) {
      case kBinPut:
        put(input_.number(1));
        return true;
      case kLongBinPut:
        put(input_.number(4));
        return true;
      case kBinGet:
        get(input_.number(1));
        return true;
      case kLongBinGet:
        get(input_.number(4));
        return true;
      default:
        return false;
    }
  }

  void put(std::uint64_t slot) {
    // torch counts slots up from 0, so a table holds them.
    if (slot >= kMaxMemo) {
      fail(fmt::format("has the memo slot {}, expected less than {}", slot, kMaxMemo),
           ErrorCode::kLimitExceeded);
    }
    if (slot >= memo_.size()) {
      memo_.resize(static_cast<std::size_t>(slot) + 1, kNoValue);
    }
    memo_[static_cast<std::size_t>(slot)] = top();
  }

  void get(std::uint64_t slot) {
    if (slot >= memo_.size() || memo_[static_cast<std::size_t>(slot)] == kNoValue) {
      fail(fmt::format("reads the memo slot {}, which is empty", slot));
    }
    stack_.push_back(memo_[static_cast<std::size_t>(slot)]);
    if (stack_.size() > kMaxValues) {
      fail(fmt::format("makes more than {} values", kMaxValues), ErrorCode::kLimitExceeded);
    }
  }

  bool run_object(std::uint8_t op) {
    switch (op) {
      case kGlobal:
        push_global();
        return true;
      case kReduce:
      case kNewObj:
        apply();
        return true;
      case kBuild:
        build();
        return true;
      case kBinPersId: {
        const PickleId id = pop();
        push(load_torch_storage(pickle_, id, where()));
        return true;
      }
      default:
        return false;
    }
  }

  void push_global() {
    const std::string module = input_.line();
    const std::string name = input_.line();
    const auto index = find_torch_name(module, name);
    if (!index) {
      fail(fmt::format("names {}, which is none of the few names that tensors need; nothing of a "
                       "pickle is ever run: save the plain state dict, best as safetensors",
                       quote(module + "." + name)),
           ErrorCode::kUnsupportedModel);
    }
    push({.kind = Kind::kGlobal, .number = static_cast<std::int64_t>(*index)});
  }

  void apply() {
    const PickleId arguments = pop();
    const Value callable = pickle_.values[pop()];
    if (callable.kind != Kind::kGlobal || pickle_.values[arguments].kind != Kind::kTuple) {
      fail("calls something that is no name, or without a tuple");
    }
    constexpr std::size_t kMaxArguments = 8;
    if (pickle_.find_sequence(arguments)->size() > kMaxArguments) {
      fail("calls a name with more arguments than any takes");
    }
    const std::vector<PickleId> parts = *pickle_.find_sequence(arguments);
    push(apply_torch_name(pickle_, static_cast<std::size_t>(callable.number), parts, where()));
  }

  /// The only state there is: the attributes of an OrderedDict (_metadata). Nothing needs them.
  void build() {
    const PickleId state = pop();
    if (pickle_.values[top()].kind != Kind::kDict || pickle_.values[state].kind != Kind::kDict) {
      fail("sets the state of something that is no OrderedDict");
    }
  }

  static constexpr PickleId kNoValue = std::numeric_limits<PickleId>::max();

  PickleInput& input_;
  std::uint64_t begin_;
  Pickle pickle_;
  std::vector<PickleId> stack_;
  std::vector<std::size_t> marks_;
  std::vector<PickleId> memo_;
};

}  // namespace

const std::string* Pickle::find_text(PickleId id) const {
  const Value& value = values.at(id);
  return value.kind == Kind::kText ? &texts.at(static_cast<std::size_t>(value.number)) : nullptr;
}

std::optional<std::int64_t> Pickle::find_integer(PickleId id) const {
  const Value& value = values.at(id);
  return value.kind == Kind::kInteger ? std::optional(value.number) : std::nullopt;
}

const std::vector<PickleId>* Pickle::find_sequence(PickleId id) const {
  const Value& value = values.at(id);
  const bool has_parts =
      value.kind == Kind::kTuple || value.kind == Kind::kList || value.kind == Kind::kDict;
  return has_parts ? &sequences.at(static_cast<std::size_t>(value.number)) : nullptr;
}

Pickle read_pickle(PickleInput& input) {
  return Machine(input).run();
}

}  // namespace onnxferry
