"""HTTP/1.1 and 1.0: server, client, reverse proxy.

`server(address, handler)` and `pool(url)` make machines for `loop.spawn`; `get`, `post`, … make units for a pool.
"""

from __future__ import annotations

from .errors import BadRequest, BadResponse, HttpError
from .headers import Headers
from .limits import Limits
from .messages import Request, Response, json_response, text_response
from .responders import Responder, StreamingResponse
from .routing import Handler, Route, Router, streaming
from .server import Server, server
from .timeouts import Timeouts

__all__ = [
    "BadRequest",
    "BadResponse",
    "Handler",
    "Headers",
    "HttpError",
    "Limits",
    "Request",
    "Responder",
    "Response",
    "Route",
    "Router",
    "Server",
    "StreamingResponse",
    "Timeouts",
    "json_response",
    "server",
    "streaming",
    "text_response",
]
