"""Bytes → frames: what a decoder says about one direction, whatever comes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from labkit.wire.frames import HEAD, SHOWN, Decoder
from labkit.wire.http import LINES

REQUEST = b"GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n"
RESPONSE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"

Told = list[tuple[str, str, dict[str, Any]]]


def decoder(source: str, *, greeted: bool = True) -> tuple[Decoder, Told]:
    """Make a decoder past the handshake, and the list of what it tells from there on."""
    told: Told = []
    made = Decoder(source, 0, lambda event: told.append((event.kind, event.text, event.data)))
    if greeted:
        made.feed(REQUEST if source == "client" else RESPONSE)
        told.clear()
    return made, told


def decoded(data: bytes, source: str = "server") -> Told:
    """Decode bytes that come after the handshake, in one piece."""
    made, told = decoder(source)
    made.feed(data)
    return told


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at the places given, which may be out of range."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


def data_frames() -> st.SearchStrategy[Frame]:
    """Frames of every kind that the websockets library would send."""
    control = st.builds(Frame, st.sampled_from([Opcode.CLOSE, Opcode.PING, Opcode.PONG]), st.binary(max_size=125))
    sizes = st.sampled_from([0, 1, 125, 126, HEAD, HEAD + 1, 65_535, 65_536, 70_000])
    payload = st.binary(max_size=200) | sizes.map(lambda n: b"x" * n)
    kinds = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT])
    return control | st.builds(Frame, kinds, payload, st.booleans())


# The handshake


def test_the_server_tells_the_handshake_with_the_clients_request() -> None:
    """Request and response together are one event, when the response has passed."""
    told: Told = []
    client = Decoder("client", 7, lambda event: told.append((event.kind, event.text, event.data)))
    server = Decoder("server", 7, lambda event: told.append((event.kind, event.text, event.data)))
    server.peer = client
    client.feed(REQUEST)
    assert told == []
    server.feed(RESPONSE)
    assert told == [("handshake", "GET /chat → 101", {"link": 7, "request": "GET /chat", "status": 101})]


def both() -> tuple[Decoder, Decoder, Told]:
    """The decoders of both directions of one connection, and what they tell."""
    told: Told = []
    client, server = (
        Decoder(side, 0, lambda event: told.append((event.kind, event.text, event.data)))
        for side in ("client", "server")  # type: ignore[arg-type]
    )
    client.peer, server.peer = server, client
    return client, server, told


@pytest.mark.parametrize("status", [503, 200, 404])
def test_no_frames_follow_a_refused_handshake(status: int) -> None:
    """After a status that is not 101 nothing is made of the body, and what the client sends is no frame."""
    client, server, told = both()
    client.feed(REQUEST)
    server.feed(b"HTTP/1.1 %d Whatever\r\nContent-Length: 4\r\n\r\nbusy" % status)
    client.feed(Frame(Opcode.TEXT, b"x").serialize(mask=True))
    assert [(kind, text) for kind, text, _ in told] == [("handshake", f"GET /chat → {status}")]


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"HEAD /health HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        (
            b"POST /login HTTP/1.1\r\nContent-Length: 3\r\n\r\nann",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\nA;x=y\r\n10 letters\r\n0\r\nt: 1\r\n\r\n",
        ),
        (REQUEST, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
    ],
    ids=["body", "none", "head", "chunks", "refused"],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_other_requests_may_come_before_the_handshake(request_: bytes, response: bytes, step: int) -> None:
    """On one TCP connection, as browsers and sessions do it; the frames behind are seen, however the bytes are cut."""
    client, server, told = both()

    def feed(decoder: Decoder, data: bytes) -> None:
        for start in range(0, len(data), step):
            decoder.feed(data[start : start + step])

    feed(client, request_)
    feed(server, response)
    feed(client, REQUEST)
    feed(server, RESPONSE)
    feed(client, Frame(Opcode.TEXT, b"hello").serialize(mask=True))
    feed(server, Frame(Opcode.TEXT, b"hello").serialize(mask=False))
    first = request_.split(b" HTTP")[0].decode()
    status = response.split()[1].decode()
    texts = [text for _, text, _ in told]
    assert texts == [f"{first} → {status}", "GET /chat → 101", "TEXT 'hello'", "TEXT 'hello'"]


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    """What the client sends behind it is its own affair: neither direction is decoded any more."""
    client, server, told = both()
    client.feed(b"GET /old HTTP/1.0\r\n\r\n")
    server.feed(b"HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 101 no\r\n\r\n")
    client.feed(Frame(Opcode.TEXT, b"x").serialize(mask=True))
    assert [text for _, text, _ in told] == ["GET /old → 200"]
    assert client.stopped
    assert server.stopped


def test_a_length_that_is_none_is_opaque() -> None:
    """It is told once, with the reason."""
    made, told = decoder("client", greeted=False)
    made.feed(b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n")
    assert [text for _, text, _ in told] == ["cannot decode: the length of a body is 'many'"]


def test_an_interim_response_is_not_the_answer() -> None:
    """1xx other than 101 only announces the response that follows (RFC 9110 §15.2)."""
    made, told = decoder("server", greeted=False)
    made.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n" + RESPONSE)
    assert [data["status"] for _, _, data in told] == [101]


def test_a_response_to_nobodys_request() -> None:
    """The wire itself may answer for the server, before the client has asked: the event says so."""
    made, told = decoder("server", greeted=False)
    made.injected = True
    made.feed(RESPONSE)
    assert told == [("handshake", "? → 101", {"link": 0, "request": None, "status": 101, "injected": True})]


def test_a_handshake_that_is_cut_off_is_opaque() -> None:
    """Where the connection ends before the blank line, the part that came is told."""
    made, told = decoder("client", greeted=False)
    made.feed(REQUEST[:-1])
    made.end()
    assert [(kind, data["why"]) for kind, _, data in told] == [("opaque", "the connection ends inside the handshake")]


@pytest.mark.parametrize(("lines", "opaque"), [(LINES - 1, False), (LINES, True)])
def test_a_head_has_so_many_lines_at_most(lines: int, opaque: bool) -> None:
    """The blank line at its end is one of them."""
    made, told = decoder("client", greeted=False)
    made.feed(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * lines + b"\r\n")
    assert [kind for kind, _, _ in told] == ["opaque"] * opaque
    assert made.request == (None if opaque else "GET /")


def test_frames_may_come_with_the_handshake() -> None:
    """What follows the blank line in the same piece is decoded."""
    made, told = decoder("server", greeted=False)
    made.feed(RESPONSE + Frame(Opcode.TEXT, b"early").serialize(mask=False))
    assert [kind for kind, _, _ in told] == ["handshake", "frame"]


@pytest.mark.parametrize("name", ["websocket", "WebSocket", "h2c, WebSocket"])
def test_a_client_may_send_frames_before_the_answer(name: str) -> None:
    """Its request says that it asked for a WebSocket, in letters of either case (RFC 6455 §4.1)."""
    client, server, told = both()
    client.feed(f"GET / HTTP/1.1\r\nUpgrade: {name}\r\n\r\n".encode())
    client.feed(Frame(Opcode.TEXT, b"early").serialize(mask=True))
    server.feed(RESPONSE)
    assert [text for _, text, _ in told] == ["TEXT 'early'", "GET / → 101"]


def test_behind_an_answer_that_closes_the_connection_nothing_is_decoded() -> None:
    """The server reads no further, so what the client still sends is no request, nor frames (RFC 9112, section 9.6)."""
    client, server, told = both()
    client.feed(REQUEST)
    server.feed(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n")
    client.feed(b"whatever\r\n\r\n")
    assert [text for _, text, _ in told] == ["GET /chat → 503"]


@pytest.mark.parametrize(
    ("source", "data", "why"),
    [
        ("client", b"\x16\x03\x01\x00\n\n", "not an HTTP request"),
        ("client", b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP request"),
        ("server", b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP response"),
        ("server", b"HTTP/1.1 abc\r\n\r\n", "not an HTTP response"),
        ("client", b"x" * 20_000, "read 20000 bytes, expected no more than 8192 bytes"),
        ("client", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000, "more than 130 lines in the handshake"),
    ],
)
def test_what_is_not_a_handshake_is_opaque(source: str, data: bytes, why: str) -> None:
    """Bytes that are no HTTP are told once, with the reason."""
    made, told = decoder(source, greeted=False)
    made.feed(data)
    made.feed(data)
    assert told == [("opaque", f"cannot decode: {why}", {"link": 0, "source": source, "why": why})]


# Frames


@pytest.mark.parametrize(
    ("frame", "text", "more"),
    [
        (Frame(Opcode.TEXT, b"hello"), "TEXT 'hello'", {"payload": "'hello'", "length": 5, "fin": True}),
        (Frame(Opcode.TEXT, "Grüße".encode()), "TEXT 'Grüße'", {"payload": "'Grüße'", "length": 7}),
        (Frame(Opcode.TEXT, b"\xff\xfe"), "TEXT b'\\xff\\xfe'", {"payload": "b'\\xff\\xfe'"}),
        (Frame(Opcode.TEXT, b"\xc3"), "TEXT b'\\xc3'", {"payload": "b'\\xc3'"}),
        (Frame(Opcode.TEXT, b"Gr\xc3", fin=False), "TEXT 'Gr'", {"fin": False}),
        (Frame(Opcode.TEXT, b"x" * (SHOWN - 2)), f"TEXT '{'x' * (SHOWN - 2)}'", {"length": SHOWN - 2}),
        (Frame(Opcode.TEXT, b"x" * (SHOWN - 1)), f"TEXT '{'x' * (SHOWN - 3)}…'", {"length": SHOWN - 1}),
        (Frame(Opcode.CONT, b"rest"), "CONT 'rest'", {"opcode": "CONT", "fin": True}),
        (Frame(Opcode.CONT, b"rest\xc3", fin=True), "CONT 'rest'", {"opcode": "CONT", "length": 5}),
        (Frame(Opcode.BINARY, b"\x00a"), "BINARY b'\\x00a'", {"opcode": "BINARY"}),
        (Frame(Opcode.PING, b"abcd"), "PING 4 bytes", {"opcode": "PING", "payload": "b'abcd'"}),
        (Frame(Opcode.PONG, b"a"), "PONG 1 byte", {"opcode": "PONG", "length": 1}),
        (Frame(Opcode.PONG, b""), "PONG 0 bytes", {"opcode": "PONG", "length": 0}),
        (Frame(Opcode.CLOSE, b"\x03\xe8"), "Close 1000", {"opcode": "CLOSE", "code": 1000, "reason": ""}),
        (Frame(Opcode.CLOSE, b"\x0f\xa0bye"), "Close 4000 'bye'", {"code": 4000, "reason": "bye"}),
        (Frame(Opcode.CLOSE, b""), "Close without a code", {"code": None, "reason": ""}),
    ],
)
@pytest.mark.parametrize("source", ["client", "server"])
def test_each_kind_of_frame_is_shown(frame: Frame, text: str, more: dict[str, Any], source: str) -> None:
    """A frame is one event: its opcode, its length, and what it says in short."""
    [(kind, said, data)] = decoded(frame.serialize(mask=source == "client"), source)
    assert (kind, said) == ("frame", text)
    assert more.items() <= data.items()
    assert {"compressed", "unmasked", "masked", "malformed", "injected"}.isdisjoint(data)


@pytest.mark.parametrize(
    ("payload", "code", "reason", "malformed"),
    [
        (b"\x03", None, "", "close frame too short"),
        (b"\x00\x05", 5, "", "invalid status code"),
        (b"\x03\xed", 1005, "", "invalid status code"),
        (b"\x03\xe8\xff", 1000, "\ufffd", "reason is not UTF-8"),
    ],
)
def test_a_malformed_close_is_shown_as_it_is(payload: bytes, code: int | None, reason: str, malformed: str) -> None:
    """What a peer must not send in a Close frame (RFC 6455 §5.5.1) is still a Close frame."""
    [(kind, text, data)] = decoded(Frame(Opcode.CLOSE, payload).serialize(mask=False))
    assert kind == "frame"
    assert (data["code"], data["reason"], data["malformed"]) == (code, reason, malformed)
    assert malformed in text


def test_the_mask_may_be_wrong() -> None:
    """A frame that is masked from the server, or not from the client, is decoded and marked (RFC 6455 §5.1)."""
    frame = Frame(Opcode.TEXT, b"hello")
    [(_, text, data)] = decoded(frame.serialize(mask=False), "client")
    assert (text, data["unmasked"], data["payload"]) == ("TEXT 'hello' unmasked", True, "'hello'")
    [(_, text, data)] = decoded(frame.serialize(mask=True), "server")
    assert (text, data["masked"], data["payload"]) == ("TEXT 'hello' masked", True, "'hello'")


def test_a_compressed_message_has_no_payload() -> None:
    """RSV1 marks a compressed message (RFC 7692 §6), its continuations are compressed too, and the next is not."""
    head, tail, after = (
        b"\x41\x02\xaa\xbb",  # TEXT, not final, RSV1
        Frame(Opcode.CONT, b"\x01\x02").serialize(mask=False),
        Frame(Opcode.TEXT, b"plain").serialize(mask=False),
    )
    first, second, third = (data for _, _, data in decoded(head + tail + after))
    assert first["compressed"] is second["compressed"] is True
    assert "payload" not in first
    assert "payload" not in second
    assert third["payload"] == "'plain'"
    assert decoded(head)[0][1] == "TEXT 2 bytes compressed"


def test_a_ping_in_a_compressed_message_is_not_compressed() -> None:
    """A control frame may stand between its fragments, and never is (RFC 7692 §6)."""
    _, (_, text, data) = decoded(b"\x41\x02\xaa\xbb" + Frame(Opcode.PING, b"abcd").serialize(mask=False))
    assert (text, data["payload"], data.get("compressed")) == ("PING 4 bytes", "b'abcd'", None)


def test_a_long_text_is_shown_as_text() -> None:
    """Also where the part of it that is kept ends inside a character; but not where the message itself does."""
    long = ("x" + "é" * HEAD).encode()
    assert decoded(Frame(Opcode.TEXT, long).serialize(mask=False))[0][1].startswith("TEXT 'xéé")
    broken = b"x" * (HEAD - 1) + b"\xc3"
    assert decoded(Frame(Opcode.TEXT, broken).serialize(mask=False))[0][1].startswith("TEXT b'xxx")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x83\x00", "invalid opcode"),
        (b"\x8f\x00", "invalid opcode"),
        (b"\xa1\x00", "reserved bits must be 0"),
        (b"\x09\x00", "fragmented control frame"),
        (b"\x89\x7e\x00\x7e" + bytes(126), "control frame too long"),
        (b"\x88\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + bytes(HEAD), "control frame too long"),
    ],
)
def test_what_is_no_frame_is_opaque_and_ends_the_decoding(data: bytes, why: str) -> None:
    """The decoder says what is wrong, once, and makes no guess about what follows."""
    hello = Frame(Opcode.TEXT, b"hello").serialize(mask=False)
    made, told = decoder("server")
    made.feed(hello + data)
    made.feed(hello)
    made.end()
    assert [(kind, data.get("why")) for kind, _, data in told] == [("frame", None), ("opaque", why)]


def test_a_frame_that_is_cut_off_is_opaque() -> None:
    """When the connection ends inside a frame, the part that came is told."""
    for cut in (1, 2, 5):
        made, told = decoder("client")
        made.feed(Frame(Opcode.TEXT, b"hello").serialize(mask=True)[:cut])
        made.end()
        assert [data["why"] for _, _, data in told] == ["the connection ends inside a frame"]
    made, told = decoder("server")
    made.feed(Frame(Opcode.BINARY, bytes(100_000)).serialize(mask=False)[:70_000])
    made.end()
    assert [data["why"] for _, _, data in told] == ["the connection ends inside a frame"]


def test_an_end_between_frames_is_nothing_to_tell() -> None:
    """Only what is incomplete is opaque."""
    made, told = decoder("client")
    made.end()
    made.end()
    untouched, silent = decoder("client", greeted=False)
    untouched.end()
    assert told == silent == []


def test_a_long_payload_is_counted_and_not_kept() -> None:
    """Of ten million bytes the decoder keeps no more than a piece, and tells their number."""
    made, told = decoder("client")
    data = Frame(Opcode.BINARY, bytes(10_000_000)).serialize(mask=True)
    most = 0
    for start in range(0, len(data), 65_536):
        made.feed(data[start : start + 65_536])
        most = max(most, len(made._reader.buffer))
    [(_, text, event)] = told
    assert event["length"] == 10_000_000
    assert most <= HEAD + 14
    assert len(text) < 60


def test_what_the_wire_injects_is_marked() -> None:
    """Frames that no end has sent say so."""
    made, told = decoder("client")
    made.injected = True
    made.feed(Frame(Opcode.TEXT, b"x").serialize(mask=True) + b"\x8f\x80")
    assert [(kind, data["injected"]) for kind, _, data in told] == [("frame", True), ("opaque", True)]


@pytest.mark.parametrize(
    ("problem", "why"), [(RuntimeError("no such thing"), "no such thing"), (RuntimeError(), "RuntimeError")]
)
def test_a_parser_that_breaks_is_opaque(problem: Exception, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails in decoding is told, and does not reach the relay."""

    def broken(*_: Any, **__: Any) -> Any:
        raise problem

    monkeypatch.setattr(Frame, "parse", broken)
    assert [data["why"] for _, _, data in decoded(b"\x89\x00")] == [why]


# Any bytes, cut anywhere


@given(st.lists(data_frames(), max_size=5), st.lists(st.integers(0, 300_000), max_size=12), st.booleans())
def test_frames_are_the_same_however_they_are_cut(frames: list[Frame], cuts: list[int], by_client: bool) -> None:
    """Fragmentation changes nothing, and each frame is told with its opcode, its length and its FIN bit."""
    source = "client" if by_client else "server"
    data = b"".join(frame.serialize(mask=by_client) for frame in frames)
    made, told = decoder(source)
    for piece in pieces(data, cuts):
        made.feed(piece)
    made.end()
    assert [(kind, d["opcode"], d["length"], d["fin"]) for kind, _, d in told] == [
        ("frame", frame.opcode.name, len(frame.data), frame.fin) for frame in frames
    ]
    assert told == decoded(data, source)


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=12), st.booleans(), st.booleans())
def test_any_bytes_are_decoded_or_opaque(data: bytes, cuts: list[int], by_client: bool, greeted: bool) -> None:
    """Nothing raises; at most one opaque event, and it is the last; the same however the bytes are cut."""
    source = "client" if by_client else "server"
    made, told = decoder(source, greeted=greeted)
    whole, told_whole = decoder(source, greeted=greeted)
    for piece in pieces(data, cuts):
        made.feed(piece)
    whole.feed(data)
    for either in (made, whole):
        either.end()
        assert either.stopped
        assert not either._reader.buffer
    assert [kind for kind, _, _ in told[:-1]].count("opaque") == 0
    assert told == told_whole


@given(data_frames(), st.booleans())
def test_payloads_are_short(frame: Frame, mask: bool) -> None:
    """No event carries more than a glance at a payload."""
    for _, text, data in decoded(frame.serialize(mask=mask)):
        assert len(data.get("payload", "")) <= SHOWN
        assert len(text) <= SHOWN + 60
