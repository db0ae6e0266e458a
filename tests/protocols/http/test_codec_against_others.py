"""The codec against two independent ones, h11 and llhttp (httptools), on thousands of damaged messages.

Where both take a message they must agree on every part of it. Where one refuses, the difference must be one
of those listed here: mostly this codec is the stricter one, and each time it is for a reason.
"""

from __future__ import annotations

import random

import h11
import httptools
import pytest

from protocols.http.codec.bodies import body_decoder
from protocols.http.codec.errors import BadRequest, BadResponse
from protocols.http.codec.head import parse_request_head, parse_response_head
from protocols.http.codec.limits import DEFAULT_LIMITS

MESSAGES = 3000

CHUNKS = b"5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n"

REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    b"PUT /d HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
]
RESPONSES = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello",
    b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
    b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nuntil close",
]
DAMAGE = [
    b"", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x00", b":", b",", b";", b"0", b"9", b"a", b"\xe9", b"#",
    b"\x0b", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n", b"HTTP/1.1",
    b"\r\n\r\n", b"_", b"+", b'"', b"chunked", b"close",
]  # fmt: skip

# Reasons of ours for refusing what the other takes, or still waits with.
LINES = (
    "a header line begins with white space",  # h11 unfolds it
    "a header line ends in a bare LF",  # h11 takes LF for CRLF
    "a header line has a CR",  # h11 looks at lines when the head is complete
    "a header line has no colon",
    "a header's name is not a token",
    "a header's value has a control character",
    "there is white space before a header's colon",
)
STRICTER = {
    "h11": (
        *LINES,
        *(f"in the trailers, {reason}" for reason in LINES),
        "Connection is not a list of names",
        "HTTP/1.0 has no Transfer-Encoding",
        "Transfer-Encoding and Content-Length contradict",  # h11 lets the former win, RFC 9112 allows both
        "a chunk's size",  # h11 looks at a whole line, and at nothing in its extensions
        "a framing header is spelled with an underscore",
        "only HTTP/1.1 and HTTP/1.0",
        "the Host header is not a host",
        "the request line",
        "the status line",
        "the target",
        "there is more than one Content-Length",
        "this does not begin like",
        "the backend's answer",
        "a 1",  # a 1xx with a body
    ),
    "llhttp": (
        "Connection is not a list of names",
        "HTTP/1.0 has no Transfer-Encoding",
        "a chunk's size line is not",  # llhttp takes an empty extension name
        "a framing header is spelled with an underscore",
        "the Host header is",  # Host is the business of llhttp's caller
        "there is more than one Host",
        "the last transfer coding",
        "the only transfer coding",
        "the request line",  # llhttp takes HTTP/0.9
        "the status line",
        "the target",
        "this does not begin like",  # llhttp passes over any blank lines, and LF
        "the backend's answer",
        "a 1",
    ),
}
# What the other says when it refuses what is taken here, or waited with until a line or the head is complete.
LOOSER = {
    "h11": (
        "no request line received",  # blank lines before a request
        "illegal status line",
    ),
    "llhttp": (
        "Invalid method",  # any token is a method here
        "Expected space after method",
        "Invalid HTTP version",  # a higher minor version is served as 1.1
        "Content-Length can't be present",  # among trailers, where it is dropped
        "Invalid `Transfer-Encoding` header value",
        "Request has invalid `Transfer-Encoding`",  # followed by a tab
        "Duplicate Content-Length",
        "Empty Content-Length",
        "Expected LF after headers",
        "Invalid character in Content-Length",
        "Invalid header token",
        "Invalid header value char",  # a folded Connection, Content-Length or Transfer-Encoding, of a backend
        "Missing expected LF after header value",
        "Transfer-Encoding can't be present",
        "Unexpected whitespace after header value",
    ),
}

Outcome = tuple[object, ...]


def damaged(seed: int, messages: list[bytes]) -> list[bytes]:
    """Messages with one or two pieces put in or in place of others; the same for the same seed."""
    chance = random.Random(seed)
    made = []
    for _ in range(MESSAGES):
        message = chance.choice(messages)
        for _ in range(chance.choice([1, 1, 2])):
            place = chance.randrange(len(message) + 1)
            message = (
                message[:place] + chance.choice(DAMAGE) + message[place + chance.choice([0, 0, 1, 1, 2]) :]
            )
        made.append(message)
    return made


def our_request(data: bytes) -> Outcome:
    try:
        head = parse_request_head(data, 0, DEFAULT_LIMITS)
        if head is None:
            return ("waits",)
        decoder = body_decoder(head.length, DEFAULT_LIMITS, BadRequest)
        into: list[bytes] = []
        decoder.feed(data, head.end, into)
        return "takes", head.method, head.target, b"".join(into), decoder.done
    except BadRequest as error:
        return "refuses", error.reason


def our_response(data: bytes) -> Outcome:
    try:
        head = parse_response_head(data, 0, DEFAULT_LIMITS, "GET")
        if head is None:
            return ("waits",)
        decoder = body_decoder(head.length, DEFAULT_LIMITS, BadResponse)
        into: list[bytes] = []
        decoder.feed(data, head.end, into)
        return "takes", head.status, head.reason, b"".join(into), decoder.done
    except BadResponse as error:
        return "refuses", error.reason


def h11_outcome(connection: h11.Connection, data: bytes) -> Outcome:
    try:
        connection.receive_data(data)
        event = connection.next_event()
        if event is h11.NEED_DATA:
            return ("waits",)
        start: Outcome
        if isinstance(event, h11.Request):
            start = (event.method.decode(), event.target.decode())
        else:
            assert isinstance(event, h11.Response | h11.InformationalResponse)
            start = (event.status_code, event.reason.decode("latin-1"))
            if isinstance(event, h11.InformationalResponse):
                return "takes", *start, b"", True
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
        return "takes", *start, body, isinstance(event, h11.EndOfMessage)
    except h11.RemoteProtocolError as error:
        return "refuses", str(error)


def h11_request(data: bytes) -> Outcome:
    return h11_outcome(h11.Connection(h11.SERVER), data)


def h11_response(data: bytes) -> Outcome:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    return h11_outcome(connection, data)


class Seen:
    """What llhttp says of the first message."""

    def __init__(self) -> None:
        self.start: Outcome = ()
        self.text = self.body = b""
        self.heads = 0
        self.done = False

    def on_url(self, url: bytes) -> None:
        self.text += b"" if self.done else url

    def on_status(self, reason: bytes) -> None:
        self.text += b"" if self.done else reason

    def on_headers_complete(self) -> None:
        self.heads += 1
        if self.heads == 1:
            text = self.text.decode("latin-1")
            if isinstance(self.parser, httptools.HttpRequestParser):
                self.start = (self.parser.get_method().decode(), text)
            else:
                self.start = (self.parser.get_status_code(), text)

    def on_body(self, data: bytes) -> None:
        self.body += b"" if self.done else data

    def on_message_complete(self) -> None:
        self.done = True

    def outcome_of(
        self, parser: httptools.HttpRequestParser | httptools.HttpResponseParser, data: bytes
    ) -> Outcome:
        self.parser = parser
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            if not self.done:
                return "refuses", str(error)
        return ("takes", *self.start, self.body, self.done) if self.heads else ("waits",)


def llhttp_request(data: bytes) -> Outcome:
    seen = Seen()
    return seen.outcome_of(httptools.HttpRequestParser(seen), data)


def llhttp_response(data: bytes) -> Outcome:
    seen = Seen()
    return seen.outcome_of(httptools.HttpResponseParser(seen), data)


PAIRS = {
    "h11 requests": (our_request, h11_request, REQUESTS),
    "h11 responses": (our_response, h11_response, RESPONSES),
    "llhttp requests": (our_request, llhttp_request, REQUESTS),
    "llhttp responses": (our_response, llhttp_response, RESPONSES),
}


def is_allowed(name: str, ours: Outcome, theirs: Outcome) -> bool:
    if ours == theirs or ours[0] == theirs[0] == "refuses":
        return True
    if ours[0] == "refuses":
        return str(ours[1]).startswith(STRICTER[name])
    return theirs[0] == "refuses" and str(theirs[1]).startswith(LOOSER[name])


@pytest.mark.parametrize("pair", PAIRS)
def test_undamaged_messages_are_read_alike(pair: str) -> None:
    ours, theirs, messages = PAIRS[pair]
    for data in messages:
        assert ours(data)[0] == "takes"
        assert ours(data) == theirs(data)


@pytest.mark.parametrize("pair", PAIRS)
def test_damaged_messages_are_read_alike_or_refused(pair: str) -> None:
    ours, theirs, messages = PAIRS[pair]
    name = pair.partition(" ")[0]
    agreed = 0
    for data in damaged(1, messages):
        mine, other = ours(data), theirs(data)
        assert is_allowed(name, mine, other), (data, mine, other)
        agreed += mine == other
    assert agreed > MESSAGES / 10
