"""Bodies: decoded at every split, bounded, and never taken for complete when they are not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.http.codec.bodies import (
    LAST_CHUNK,
    BodyDecoder,
    ChunkedDecoder,
    LengthDecoder,
    body_decoder,
    encode_chunk,
    encode_last_chunk,
)
from protocols.http.codec.errors import BadRequest, BadResponse
from protocols.http.codec.head import CHUNKED, UNTIL_CLOSE
from protocols.http.codec.headers import Headers
from protocols.http.codec.limits import DEFAULT_LIMITS, Limits

CHUNKED_BODY = (
    b'5\r\nhello\r\n006;a;b=c;d="e\\"; f"\r\n world\r\n10\r\n0123456789abcdef\r\n'
    b"0\r\nX-Sum: 1\r\nHost: z\r\n\r\n"
)
PAYLOAD = b"hello world0123456789abcdef"


def chunked(limits: Limits = DEFAULT_LIMITS) -> ChunkedDecoder:
    return ChunkedDecoder(limits, BadRequest)


def run(decoder: BodyDecoder, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Feed the pieces as they would arrive, what is used up thrown away; the payload and what is left."""
    buffer = bytearray()
    into: list[bytes] = []
    for piece in pieces:
        buffer += piece
        used = decoder.feed(buffer, 0, into)
        del buffer[:used]
    return b"".join(into), bytes(buffer)


class TestChunked:
    def test_whole(self) -> None:
        decoder = chunked()
        into: list[bytes] = []
        data = b"xx" + CHUNKED_BODY + b"GET /"
        assert decoder.feed(data, 2, into) == len(data) - 5
        assert into == [b"hello", b" world", b"0123456789abcdef"]
        assert (decoder.done, decoder.received) == (True, 27)
        assert decoder.feed(data, 7, into) == 7
        assert len(into) == 3

    def test_every_split_and_byte_by_byte(self) -> None:
        data = CHUNKED_BODY + b"next"
        splits = [[data[:cut], data[cut:]] for cut in range(1, len(data))]
        for pieces in [[data[i : i + 1] for i in range(len(data))], *splits]:
            decoder = chunked()
            assert run(decoder, pieces) == (PAYLOAD, b"next")
            assert decoder.done is True
            assert list(decoder.trailers) == [("X-Sum", "1")]

    def test_is_not_done_before_its_last_byte(self) -> None:
        for cut in range(len(CHUNKED_BODY)):
            decoder = chunked()
            run(decoder, [CHUNKED_BODY[:cut]])
            assert decoder.done is False
            assert decoder.finish() is False

    def test_without_trailers(self) -> None:
        decoder = chunked()
        assert run(decoder, [LAST_CHUNK]) == (b"", b"")
        assert decoder.finish() is True
        assert len(decoder.trailers) == 0

    @given(st.lists(st.binary(min_size=0, max_size=40), max_size=6), st.lists(st.integers(1, 9), max_size=40))
    def test_what_is_encoded_is_decoded(self, parts: list[bytes], steps: list[int]) -> None:
        trailers = Headers({"X-A": "1", "X-B": "2"})
        data = b"".join(map(encode_chunk, parts)) + encode_last_chunk(trailers)
        pieces = []
        for step in steps:
            pieces.append(data[:step])
            data = data[step:]
        decoder = chunked()
        assert run(decoder, [*pieces, data]) == (b"".join(parts), b"")
        assert decoder.done is True
        assert decoder.trailers == trailers

    @pytest.mark.parametrize(
        "data",
        [
            b"5  \r\nhello\r\n0\t\r\nX: 1\r\n\r\n",
            b'5 ;a=b\r\nhello\r\n0 ; a\t= "b" ;c \r\nX: 1\r\n\r\n',
            b"5\r\nhello\r\n0\r\nHost: z\r\n z\r\nX:\r\n \t1\r\n\r\n",
        ],
    )
    def test_white_space_is_taken_from_backends_and_not_from_clients(self, data: bytes) -> None:
        splits = [[data[:cut], data[cut:]] for cut in range(1, len(data))]
        for pieces in [[data], [data[i : i + 1] for i in range(len(data))], *splits]:
            decoder = ChunkedDecoder(DEFAULT_LIMITS, BadResponse)
            assert run(decoder, pieces) == (b"hello", b"")
            assert decoder.done is True
            assert list(decoder.trailers) == [("X", "1")]
            with pytest.raises(BadRequest):
                run(chunked(), pieces)

    def test_sixteen_digits_are_the_most(self) -> None:
        assert run(chunked(), [b"000000000000000A\r\n0123456789\r\n"])[0] == b"0123456789"
        with pytest.raises(BadRequest, match="hexadecimal"):
            run(chunked(), [b"0000000000000000A\r\n"])

    @pytest.mark.parametrize("length", [16, 17])
    def test_size_line_limit(self, length: int) -> None:
        line = b"1;" + b"a" * (length - 4) + b"\r\n"
        for pieces in [[line + b"x"], [bytes([b]) for b in line + b"x"]]:
            decoder = chunked(Limits(chunk_line_bytes=16))
            if length == 16:
                assert run(decoder, pieces)[0] == b"x"
            else:
                with pytest.raises(BadRequest, match="longer than 16 bytes"):
                    run(decoder, pieces)

    @pytest.mark.parametrize(
        ("limits", "reason"),
        [
            (Limits(trailer_bytes=14, trailers=2), None),
            (Limits(trailer_bytes=13), "larger than 13 bytes"),
            (Limits(trailers=1), "more than 1 trailers"),
        ],
    )
    def test_trailer_limits(self, limits: Limits, reason: str | None) -> None:
        data = b"0\r\nA: 1\r\nB: 2\r\n\r\n"
        for pieces in [[data], [bytes([b]) for b in data]]:
            if reason is None:
                decoder = chunked(limits)
                run(decoder, pieces)
                assert decoder.done is True
            else:
                with pytest.raises(BadRequest, match=reason):
                    run(chunked(limits), pieces)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"g", "a chunk's size is not hexadecimal"),
            (b"1\r\nab", "a chunk is not followed by CRLF"),
            (b"1\n", "a chunk's size line is not hexadecimal digits, extensions and CRLF"),
            (b"0\r\nA\r\n", "in the trailers, a header line has no colon"),
        ],
    )
    @pytest.mark.parametrize("fault", [BadRequest, BadResponse])
    def test_fault_is_the_senders(
        self, data: bytes, reason: str, fault: type[BadRequest] | type[BadResponse]
    ) -> None:
        with pytest.raises(fault) as caught:
            run(ChunkedDecoder(DEFAULT_LIMITS, fault), [data])
        assert caught.value.reason == reason

    def test_repr(self) -> None:
        decoder = chunked()
        run(decoder, [b"5\r\nhel"])
        assert repr(decoder) == "<ChunkedDecoder 3 received, 2 left of this chunk>"
        run(decoder, [b"lo", b"\r\n0\r\n"])
        assert repr(decoder) == "<ChunkedDecoder 5 received, in trailers>"
        run(decoder, [b"\r\n"])
        assert repr(decoder) == "<ChunkedDecoder 5 received, done>"


class TestLength:
    def test_takes_its_own_and_no_more(self) -> None:
        decoder = body_decoder(5, DEFAULT_LIMITS, BadRequest)
        assert run(decoder, [b"he", b"", b"llo", b"next"]) == (b"hello", b"next")
        assert (decoder.done, decoder.received, decoder.finish()) == (True, 5, True)
        assert len(decoder.trailers) == 0
        assert repr(decoder) == "<LengthDecoder 5/5 done>"

    def test_nothing_is_done_at_once(self) -> None:
        decoder = LengthDecoder(0)
        assert decoder.done is True
        assert run(decoder, [b"next"]) == (b"", b"next")

    def test_an_early_end_is_not_an_end(self) -> None:
        decoder = LengthDecoder(5)
        run(decoder, [b"hell"])
        assert (decoder.done, decoder.finish(), decoder.done) == (False, False, False)

    def test_until_close(self) -> None:
        decoder = body_decoder(UNTIL_CLOSE, DEFAULT_LIMITS, BadResponse)
        assert run(decoder, [b"he", b"llo"]) == (b"hello", b"")
        assert (decoder.done, repr(decoder)) == (False, "<LengthDecoder 5/?>")
        assert (decoder.finish(), decoder.done) == (True, True)

    def test_payload_is_independent_of_the_buffer(self) -> None:
        buffer = bytearray(b"hello")
        into: list[bytes] = []
        LengthDecoder(5).feed(buffer, 0, into)
        buffer[:] = b"other"
        assert into == [b"hello"]

    def test_chunked_by_length(self) -> None:
        assert isinstance(body_decoder(CHUNKED, DEFAULT_LIMITS, BadRequest), ChunkedDecoder)

    def test_a_decoder_must_say_how_it_feeds(self) -> None:
        with pytest.raises(NotImplementedError):
            BodyDecoder().feed(b"", 0, [])


class TestEncoding:
    def test_chunks(self) -> None:
        assert encode_chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
        assert encode_chunk(b"") == b""
        assert encode_last_chunk() == LAST_CHUNK == b"0\r\n\r\n"

    def test_trailers(self) -> None:
        assert encode_last_chunk(Headers({"X-Sum": "1"})) == b"0\r\nX-Sum: 1\r\n\r\n"
        with pytest.raises(ValueError, match="'Content-Length' may not be sent as a trailer"):
            encode_last_chunk(Headers({"Content-Length": "1"}))
