"""A TCP proxy in front of a Kafka broker that loses or replaces requests and answers of a chosen kind.

The broker must advertise the proxy's port (kafka-up.sh, KAFKA_LISTENER), or its clients go round it.
"""

import enum
import socket
import struct
import threading

OFFSET_FETCH = 9
END_TXN = 26
TXN_OFFSET_COMMIT = 28
NOT_COORDINATOR = 16


class Loss(enum.Enum):
    REQUEST = "the broker never sees it"
    ANSWER = "the broker has done it"


class KafkaProxy:
    """lose(api_key, loss, cut, times) arms it: the next `times` requests of that kind are lost as said; 0 ends that.

    With `cut` its connection ends there and then; without, the client waits for an answer that never comes. Everything
    before and after passes unchanged. `lost` counts what was lost.

    replace(api_key, make_answer, times): in place of the broker's answers to the next `times` requests of that kind the
    client gets make_answer(api_version), what follows the correlation id; counted in `replaced`. 0 ends that.
    """

    def __init__(self, port, upstream_port):
        self.bootstrap = f"127.0.0.1:{port}"
        self.lost = self.replaced = 0
        self._upstream_port = upstream_port
        self._lock = threading.Lock()
        self._wanted = None  # (api key, Loss, cut, how often)
        self._replacement = None  # (api key, make_answer, how often)
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        self._listener.close()

    def lose(self, api_key, loss, cut=True, times=1):
        with self._lock:
            self._wanted = (api_key, loss, cut, times) if times else None

    def replace(self, api_key, make_answer, times=1):
        with self._lock:
            self._replacement = (api_key, make_answer, times) if times else None

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # stopped
            try:
                broker = socket.create_connection(("127.0.0.1", self._upstream_port), 5)
            except OSError:
                client.close()
                continue
            broker.settimeout(None)
            _Connection(self, client, broker).start()

    def _take(self, api_key):
        """(loss, cut) to apply to this request, counted down."""
        with self._lock:
            if self._wanted is None or self._wanted[0] != api_key:
                return None, False
            _, loss, cut, times = self._wanted
            self._wanted = (api_key, loss, cut, times - 1) if times > 1 else None
            self.lost += 1
            return loss, cut

    def _take_replacement(self, api_key, version):
        """The answer for this request, counted down; None: the broker's own."""
        with self._lock:
            if self._replacement is None or self._replacement[0] != api_key:
                return None
            _, make_answer, times = self._replacement
            self._replacement = (api_key, make_answer, times - 1) if times > 1 else None
            self.replaced += 1
            return make_answer(version)


class _Connection:
    def __init__(self, proxy, client, broker):
        self.proxy = proxy
        self.client = client
        self.broker = broker
        self.swallowed = {}  # correlation id -> cut; written before the request is sent on
        self.replaced = {}  # correlation id -> answer; likewise

    def start(self):
        for work in (self._requests, self._answers):
            threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work):
        try:
            work()
        except OSError:
            pass
        for end in (self.client, self.broker):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _requests(self):
        while (frame := _read_frame(self.client)) is not None:
            api_key, version, correlation_id = struct.unpack_from(">hhi", frame, 4)
            if (answer := self.proxy._take_replacement(api_key, version)) is not None:
                self.replaced[correlation_id] = answer
            loss, cut = self.proxy._take(api_key)
            if loss is Loss.ANSWER:
                self.swallowed[correlation_id] = cut
            if loss is not Loss.REQUEST:
                self.broker.sendall(frame)
            elif cut:
                return

    def _answers(self):
        while (frame := _read_frame(self.broker)) is not None:
            correlation_id = frame[4:8]
            cut = self.swallowed.get(struct.unpack(">i", correlation_id)[0])
            if cut:
                return
            if (answer := self.replaced.pop(struct.unpack(">i", correlation_id)[0], None)) is not None:
                frame = struct.pack(">i", 4 + len(answer)) + correlation_id + answer
            if cut is None:
                self.client.sendall(frame)


def offset_fetch_error(group, error):
    """For replace(): OffsetFetch answered with one error for all, which names no partition (versions 6 to 9)."""

    def make_answer(version):
        assert 6 <= version <= 9, f"OffsetFetch version {version}: its answer's form is not known here"
        code, no_tags, no_topics = struct.pack(">h", error), b"\0", b"\1"
        if version < 8:
            body = no_topics + code
        else:
            name = group.encode()
            body = b"\2" + bytes([len(name) + 1]) + name + no_topics + code + no_tags
        return no_tags + struct.pack(">i", 0) + body + no_tags

    return make_answer


def _read_frame(stream):
    """One message with its length in front; None at the end of the stream."""
    head = _read(stream, 4)
    body = head and _read(stream, struct.unpack(">i", head)[0])
    return head + body if body else None


def _read(stream, size):
    data = bytearray()
    while len(data) < size:
        part = stream.recv(size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)
