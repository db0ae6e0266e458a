"""HTTP/1.1 as bytes and values (RFC 9110, RFC 9112): heads, fields, bodies, and what they may be.

It imports nothing else of Windlass: no loop, no pool, no connection. So it can be read, tested and used
alone, under any way of doing I/O. `parse_request_head` and `parse_response_head` take a head out of a buffer,
`body_decoder` takes the body that the head has announced, and `encode_…` makes bytes. `grammar` holds the
productions of the RFCs by name.
"""

from __future__ import annotations

from .bodies import (
    LAST_CHUNK,
    BodyDecoder,
    ChunkedDecoder,
    LengthDecoder,
    body_decoder,
    encode_chunk,
    encode_last_chunk,
)
from .errors import BadRequest, BadResponse, HttpError
from .head import (
    CHUNKED,
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    parse_request_head,
    parse_response_head,
)
from .headers import NO_HEADERS, Headers, HeadersLike, connection_options, forwardable
from .limits import DEFAULT_LIMITS, Limits
from .memo import Memo, is_plain_request, is_plain_response
from .messages import (
    REASONS,
    Response,
    date_line,
    encode_request,
    encode_request_head,
    encode_response,
    encode_response_head,
    json_response,
    text_response,
    validate_method,
    validate_target,
    write_response,
)

__all__ = [
    "CHUNKED",
    "DEFAULT_LIMITS",
    "LAST_CHUNK",
    "NO_HEADERS",
    "REASONS",
    "UNTIL_CLOSE",
    "BadRequest",
    "BadResponse",
    "BodyDecoder",
    "ChunkedDecoder",
    "Headers",
    "HeadersLike",
    "HttpError",
    "LengthDecoder",
    "Limits",
    "Memo",
    "RequestHead",
    "Response",
    "ResponseHead",
    "body_decoder",
    "connection_options",
    "date_line",
    "encode_chunk",
    "encode_last_chunk",
    "encode_request",
    "encode_request_head",
    "encode_response",
    "encode_response_head",
    "forwardable",
    "is_plain_request",
    "is_plain_response",
    "json_response",
    "parse_request_head",
    "parse_response_head",
    "text_response",
    "validate_method",
    "validate_target",
    "write_response",
]
