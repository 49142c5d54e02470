#include "pipeline/storage/http.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>

#include <curl/curl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pipeline/error.h"
#include "pipeline/storage/address_rules.h"
#include "pipeline/storage/encoding.h"

namespace onnxferry {
namespace {

constexpr long kBufferBytes = 512L << 10U;  // on plain http twice as fast as 16 KiB
constexpr long kStallBytesPerSecond = 1024;
constexpr long kMaxIdleConnectionSeconds = 20;  // S3 and MinIO close idle ones after 5 to 30 s

struct FreeEasy {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct FreeMulti {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using EasyHandle = std::unique_ptr<CURL, FreeEasy>;

void global_init() {
  static std::once_flag once;
  std::call_once(once, [] {
    EXPORT_CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK, "libcurl did not start");
  });
}

template <typename Value>
void set(CURL* easy, CURLoption option, Value value) {
  const CURLcode code = curl_easy_setopt(easy, option, value);
  EXPORT_CHECK(code == CURLE_OK, curl_easy_strerror(code));
}

}  // namespace

std::string_view HttpHeaders::find(std::string_view lower_name) const {
  const auto found =
      std::ranges::find(fields_, lower_name, &std::pair<std::string, std::string>::first);
  return found == fields_.end() ? std::string_view{} : std::string_view(found->second);
}

std::ptrdiff_t TextBody::read(std::uint64_t offset, char* to, std::size_t bytes) noexcept {
  const std::size_t at = std::min<std::size_t>(offset, text_.size());
  const std::size_t count = std::min(bytes, text_.size() - at);
  std::memcpy(to, text_.data() + at, count);
  return static_cast<std::ptrdiff_t>(count);
}

std::ptrdiff_t FileBody::read(std::uint64_t offset, char* to, std::size_t bytes) noexcept {
  if (offset >= bytes_) {
    return 0;
  }
  const std::size_t count = std::min<std::uint64_t>(bytes, bytes_ - offset);
  while (true) {
    const ssize_t got = pread(descriptor_, to, count, static_cast<off_t>(offset_ + offset));
    if (got >= 0 || errno != EINTR) {
      // An early end means that the file shrank: end the transfer instead of sending less.
      return got > 0 ? got : -1;
    }
  }
}

struct HttpClient::State {
  HttpOptions options;
  std::unique_ptr<CURLM, FreeMulti> multi;
  std::vector<EasyHandle> idle;  // reused: a fresh handle costs its buffers and caches
};

/// One easy handle on loan, added to the multi handle for as long as the request lives.
class HttpClient::CurlTransfer : public HttpClient::Transfer {
 public:
  CurlTransfer(State& state, HttpRequest request)
      : state_(state), request_(std::move(request)), easy_(borrow(state)) {
    CURL* const easy = easy_.get();
    set(easy, CURLOPT_PRIVATE, static_cast<void*>(this));
    set_connection();
    set_request();
    set_route();
    set_callbacks();
    const CURLMcode code = curl_multi_add_handle(state_.multi.get(), easy);
    EXPORT_CHECK(code == CURLM_OK, curl_multi_strerror(code));
  }
  CurlTransfer(const CurlTransfer&) = delete;
  CurlTransfer& operator=(const CurlTransfer&) = delete;
  ~CurlTransfer() override {
    curl_multi_remove_handle(state_.multi.get(), easy_.get());
    curl_easy_reset(easy_.get());
    if (state_.idle.size() < static_cast<std::size_t>(state_.options.connections)) {
      state_.idle.push_back(std::move(easy_));
    }
  }

  [[nodiscard]] bool is_done() const override { return is_done_; }
  HttpReply take_reply() override { return std::move(reply_); }

  void finish(CURLcode code) {
    is_done_ = true;
    if (reply_.is_body_cut && code == CURLE_WRITE_ERROR) {
      code = CURLE_OK;  // we ended it ourselves
    }
    reply_.transport = static_cast<int>(code);
    if (reply_.status != 0) {
      reply_.refused_address.clear();  // another address of the host was taken
    }
    if (code != CURLE_OK) {
      reply_.transport_text =
          mask_secrets(error_text_[0] != '\0' ? error_text_ : curl_easy_strerror(code));
    }
  }

 private:
  static EasyHandle borrow(State& state) {
    if (!state.idle.empty()) {
      EasyHandle easy = std::move(state.idle.back());
      state.idle.pop_back();
      return easy;
    }
    EasyHandle easy(curl_easy_init());
    EXPORT_CHECK(easy != nullptr, "libcurl gave no handle");
    return easy;
  }

  void set_connection() {
    CURL* const easy = easy_.get();
    const HttpOptions& options = state_.options;
    set(easy, CURLOPT_ERRORBUFFER, error_text_);
    set(easy, CURLOPT_NOSIGNAL, 1L);
    set(easy, CURLOPT_USERAGENT, "onnxferry");
    set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    set(easy, CURLOPT_PATH_AS_IS, 1L);
    set(easy, CURLOPT_FOLLOWLOCATION, 0L);
    set(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
    set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    set(easy, CURLOPT_MAXAGE_CONN, kMaxIdleConnectionSeconds);
    set(easy, CURLOPT_DNS_CACHE_TIMEOUT, 10L);
    set(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
    set(easy, CURLOPT_BUFFERSIZE, kBufferBytes);
    set(easy, CURLOPT_UPLOAD_BUFFERSIZE, kBufferBytes);
    if (!options.ca_bundle.empty()) {
      set(easy, CURLOPT_CAINFO, options.ca_bundle.c_str());
    }
    if (request_.patience) {
      set(easy, CURLOPT_TIMEOUT, static_cast<long>(request_.patience->count()));
    } else {
      set(easy, CURLOPT_LOW_SPEED_LIMIT, kStallBytesPerSecond);
      set(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall_timeout.count()));
    }
  }

  void set_route() {
    CURL* const easy = easy_.get();
    const std::string_view scheme =
        std::string_view(request_.url).substr(0, request_.url.find("://"));
    const std::string_view origin =
        std::string_view(request_.url)
            .substr(0, request_.url.find_first_of("/?", scheme.size() + 3));
    const std::string proxy(proxy_for(state_.options.proxies, scheme, host_of(origin)));
    set(easy, CURLOPT_PROXY, proxy.c_str());  // empty: none, whatever the environment says
    set(easy, CURLOPT_NOPROXY, "");           // decided already
    if (request_.refuse_local_addresses && proxy.empty()) {
      set(easy, CURLOPT_OPENSOCKETFUNCTION, &CurlTransfer::on_open_socket);
      set(easy, CURLOPT_OPENSOCKETDATA, static_cast<void*>(this));
    }
  }

  void set_request() {
    CURL* const easy = easy_.get();
    set(easy, CURLOPT_URL, request_.url.c_str());
    if (request_.body != nullptr) {
      set(easy, CURLOPT_UPLOAD, 1L);
      set(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request_.body->size()));
    }
    set(easy, CURLOPT_FRESH_CONNECT, request_.fresh_connection ? 1L : 0L);
    if (request_.method == "HEAD") {
      set(easy, CURLOPT_NOBODY, 1L);
    }
    set(easy, CURLOPT_CUSTOMREQUEST, request_.method.c_str());
    if (!request_.expect_continue) {
      request_.headers.emplace_back("Expect:");
    }
    for (const std::string& header : request_.headers) {
      curl_slist* const longer = curl_slist_append(headers_.get(), header.c_str());
      EXPORT_CHECK(longer != nullptr, "a header could not be added");
      if (headers_ == nullptr) {
        headers_.reset(longer);  // later ones are appended behind the same first node
      }
    }
    set(easy, CURLOPT_HTTPHEADER, headers_.get());
  }

  void set_callbacks() {
    CURL* const easy = easy_.get();
    set(easy, CURLOPT_HEADERFUNCTION, &CurlTransfer::on_header);
    set(easy, CURLOPT_HEADERDATA, static_cast<void*>(this));
    set(easy, CURLOPT_WRITEFUNCTION, &CurlTransfer::on_data);
    set(easy, CURLOPT_WRITEDATA, static_cast<void*>(this));
    set(easy, CURLOPT_READFUNCTION, &CurlTransfer::on_read);
    set(easy, CURLOPT_READDATA, static_cast<void*>(this));
    set(easy, CURLOPT_SEEKFUNCTION, &CurlTransfer::on_seek);
    set(easy, CURLOPT_SEEKDATA, static_cast<void*>(this));
  }

  void add_header_line(std::string_view line) {
    if (line.starts_with("HTTP/")) {
      reply_.headers.clear();
      reply_.status = 0;
      const std::size_t space = line.find(' ');
      if (space != std::string_view::npos) {
        std::from_chars(line.data() + space + 1, line.data() + line.size(), reply_.status);
      }
      return;
    }
    const std::string_view text = trim(line);
    if (text.empty()) {
      const bool is_interim = reply_.status < 200;
      to_sink_ = !is_interim && request_.sink != nullptr && request_.sink->begin(reply_);
      return;
    }
    const std::size_t colon = text.find(':');
    if (colon != std::string_view::npos) {
      reply_.headers.add(to_lower(trim(text.substr(0, colon))),
                         std::string(trim(text.substr(colon + 1))));
    }
  }

  bool add_data(std::string_view bytes) {
    if (to_sink_) {
      reply_.sink_failed = !request_.sink->write(bytes);
      return !reply_.sink_failed;
    }
    const std::size_t room = request_.max_body_bytes - reply_.body.size();
    reply_.body.append(bytes.substr(0, room));
    reply_.is_body_cut = bytes.size() > room;
    return !reply_.is_body_cut;
  }

  curl_socket_t open_socket(const curl_sockaddr& address) {
    const auto* const generic = &address.addr;
    IpAddress bytes;
    if (generic->sa_family == AF_INET) {
      const auto& v4 = reinterpret_cast<const sockaddr_in*>(generic)->sin_addr;
      const auto* const data = reinterpret_cast<const std::uint8_t*>(&v4);
      bytes.assign(data, data + sizeof(v4));
    } else if (generic->sa_family == AF_INET6) {
      const auto& v6 = reinterpret_cast<const sockaddr_in6*>(generic)->sin6_addr;
      const auto* const data = reinterpret_cast<const std::uint8_t*>(&v6);
      bytes.assign(data, data + sizeof(v6));
    } else {
      return CURL_SOCKET_BAD;
    }
    if (const std::string_view kind = local_kind(bytes); !kind.empty()) {
      reply_.refused_address = fmt::format("{} ({})", to_string(bytes), kind);
      return CURL_SOCKET_BAD;
    }
    return ::socket(address.family, address.socktype | SOCK_CLOEXEC, address.protocol);
  }

  // The callbacks run inside libcurl, where an exception must not pass.
  static curl_socket_t on_open_socket(void* self, curlsocktype, curl_sockaddr* address) noexcept {
    try {
      return static_cast<CurlTransfer*>(self)->open_socket(*address);
    } catch (...) {
      return CURL_SOCKET_BAD;
    }
  }
  static std::size_t on_header(char* data, std::size_t, std::size_t bytes, void* self) noexcept {
    try {
      static_cast<CurlTransfer*>(self)->add_header_line({data, bytes});
      return bytes;
    } catch (...) {
      return 0;
    }
  }
  static std::size_t on_data(char* data, std::size_t, std::size_t bytes, void* self) noexcept {
    try {
      return static_cast<CurlTransfer*>(self)->add_data({data, bytes}) ? bytes : 0;
    } catch (...) {
      return 0;
    }
  }
  static std::size_t on_read(char* to, std::size_t size, std::size_t count, void* self) noexcept {
    auto* const transfer = static_cast<CurlTransfer*>(self);
    if (transfer->request_.body == nullptr) {
      return 0;
    }
    const std::ptrdiff_t got =
        transfer->request_.body->read(transfer->sent_bytes_, to, size * count);
    if (got < 0) {
      return CURL_READFUNC_ABORT;
    }
    transfer->sent_bytes_ += static_cast<std::uint64_t>(got);
    return static_cast<std::size_t>(got);
  }
  static int on_seek(void* self, curl_off_t offset, int origin) noexcept {
    if (origin != SEEK_SET || offset < 0) {
      return CURL_SEEKFUNC_CANTSEEK;
    }
    static_cast<CurlTransfer*>(self)->sent_bytes_ = static_cast<std::uint64_t>(offset);
    return CURL_SEEKFUNC_OK;
  }

  State& state_;
  HttpRequest request_;
  EasyHandle easy_;
  std::unique_ptr<curl_slist, FreeList> headers_;
  HttpReply reply_;
  char error_text_[CURL_ERROR_SIZE] = {};
  std::uint64_t sent_bytes_ = 0;
  bool to_sink_ = false;
  bool is_done_ = false;
};

HttpClient::HttpClient(HttpOptions options) : state_(std::make_unique<State>()) {
  global_init();
  state_->options = std::move(options);
  state_->multi.reset(curl_multi_init());
  EXPORT_CHECK(state_->multi != nullptr, "libcurl gave no multi handle");
  curl_multi_setopt(state_->multi.get(), CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
  curl_multi_setopt(state_->multi.get(), CURLMOPT_MAXCONNECTS, 2L * state_->options.connections);
}

HttpClient::~HttpClient() = default;

std::unique_ptr<HttpClient::Transfer> HttpClient::start(HttpRequest request) {
  return std::make_unique<CurlTransfer>(*state_, std::move(request));
}

void HttpClient::poll(std::chrono::milliseconds timeout) {
  CURLM* const multi = state_->multi.get();
  const auto collect_done = [&] {
    bool has_done = false;
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
      if (message->msg == CURLMSG_DONE) {
        void* owner = nullptr;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
        static_cast<CurlTransfer*>(owner)->finish(message->data.result);
        has_done = true;
      }
    }
    return has_done;
  };
  int running = 0;
  curl_multi_perform(multi, &running);
  if (collect_done()) {
    return;
  }
  curl_multi_poll(multi, nullptr, 0, static_cast<int>(timeout.count()), nullptr);
  curl_multi_perform(multi, &running);
  collect_done();
}

void HttpClient::wakeup() {
  curl_multi_wakeup(state_->multi.get());
}

}  // namespace onnxferry
