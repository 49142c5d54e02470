#include <string>

#include "messages/codec.h"
#include "tests/fuzz/targets.h"

namespace onnxferry::fuzz {

/// The first byte chooses the headers, the rest is the record's value. Whatever it is, a reply can
/// be sent: nothing throws, there is a request id, and the reply decodes again.
void fuzz_request(Input input) {
  using namespace messages;
  static const char* const kTypes[] = {
      "application/json", "application/x-protobuf", "application/cloudevents+json", "text/plain"};
  const std::uint8_t choice = input.empty() ? 0 : input.front();
  const std::string_view value = as_text(input.subspan(input.empty() ? 0 : 1));
  Headers headers;
  if ((choice & 4U) != 0) {
    headers.push_back({std::string(kContentType), kTypes[choice & 3U]});
  }
  if ((choice & 8U) != 0) {
    // Header values are bytes of the sender, too.
    const std::string part(value.substr(0, value.size() / 2));
    for (const std::string_view name :
         {std::string_view("ce_id"), kCorrelationId, kReplyTopic, kReplyPartition, kTraceparent}) {
      headers.push_back({std::string(name), part});
    }
  }
  const DecodedRequest decoded = decode_request(value, headers, {"requests", 0, 7});
  FUZZ_CHECK(!decoded.envelope.request_id.empty());
  FUZZ_CHECK(decoded.envelope.request_id.size() <= 256);
  FUZZ_CHECK(decoded.problems.size() < 1000);
  v1::ExportReply reply;
  reply.set_request_id(decoded.envelope.request_id);
  reply.mutable_failure()->set_code(v1::INVALID_REQUEST);
  const EncodedMessage encoded = encode_reply(reply, decoded.envelope, "/fuzz");
  FUZZ_CHECK(decode_reply(encoded.value, encoded.headers).request_id() == reply.request_id());
  std::string problem;
  const std::string key(value.substr(0, value.size() / 4));
  const auto cancel = decode_cancel(key, value, headers, problem);
  FUZZ_CHECK(cancel.has_value() || !problem.empty());
}

}  // namespace onnxferry::fuzz
