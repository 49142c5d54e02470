#pragma once

#include <stdexcept>
#include <string>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace onnxferry::messages {

/// Gives every field of a message, at every depth, a value that is not its default; repeated fields
/// get two. A new field is covered by the tests that use this without a change here.
class Filler {
 public:
  void fill(google::protobuf::Message& message) {
    const auto& type = *message.GetDescriptor();
    if (type.full_name() == "google.protobuf.Timestamp") {  // not every number is a time
      const auto& reflection = *message.GetReflection();
      reflection.SetInt64(&message, type.FindFieldByName("seconds"), 1'800'000'000 + ++counter_);
      reflection.SetInt32(&message, type.FindFieldByName("nanos"), 250'000'000);
      return;
    }
    for (int i = 0; i < type.field_count(); ++i) {
      const auto& field = *type.field(i);
      // Of a oneof the first member; the others are tested by setting them.
      const auto* oneof = field.real_containing_oneof();
      if (oneof != nullptr && oneof->field(0) != &field) {
        continue;
      }
      set(message, field);
      if (field.is_repeated()) {
        set(message, field);
      }
    }
  }

 private:
  using Field = google::protobuf::FieldDescriptor;

  void set(google::protobuf::Message& message, const Field& field) {
    const auto& reflection = *message.GetReflection();
    const bool repeated = field.is_repeated();
    ++counter_;
    switch (field.cpp_type()) {
      case Field::CPPTYPE_STRING: {
        const std::string text = "text \"" + std::to_string(counter_) + "\" é\n";
        repeated ? reflection.AddString(&message, &field, text)
                 : reflection.SetString(&message, &field, text);
        return;
      }
      case Field::CPPTYPE_INT32:
        repeated ? reflection.AddInt32(&message, &field, -counter_)
                 : reflection.SetInt32(&message, &field, -counter_);
        return;
      case Field::CPPTYPE_INT64:
        reflection.SetInt64(&message, &field, counter_);
        return;
      case Field::CPPTYPE_UINT32:
        reflection.SetUInt32(&message, &field, static_cast<std::uint32_t>(counter_));
        return;
      case Field::CPPTYPE_UINT64:  // past 2^53: a JSON number would lose it
        reflection.SetUInt64(
            &message, &field, (1ULL << 60U) + static_cast<std::uint64_t>(counter_));
        return;
      case Field::CPPTYPE_DOUBLE:
        reflection.SetDouble(&message, &field, counter_ + 0.1);
        return;
      case Field::CPPTYPE_BOOL:
        reflection.SetBool(&message, &field, true);
        return;
      case Field::CPPTYPE_ENUM:
        reflection.SetEnumValue(&message, &field, 1);
        return;
      case Field::CPPTYPE_MESSAGE:
        fill(repeated ? *reflection.AddMessage(&message, &field)
                      : *reflection.MutableMessage(&message, &field));
        return;
      default:
        throw std::logic_error("a field type the tests do not know yet: " + field.full_name());
    }
  }

  int counter_ = 0;
};

template <typename Message>
Message filled() {
  Message message;
  Filler().fill(message);
  return message;
}

/// The problems as "field: text" lines, for comparisons in one piece.
template <typename Problems>
std::string to_text(const Problems& problems) {
  std::string text;
  for (const auto& problem : problems) {
    text += problem.field() + ": " + problem.text() + "\n";
  }
  return text;
}

}  // namespace onnxferry::messages
