"""HTTP/1.1 and 1.0: server, client, reverse proxy.

`server(address, handler)` and `pool(url)` make machines for `loop.spawn`; `get`, `post`, … make units for a
pool.
"""

from __future__ import annotations

from .access_log import AccessLog
from .client import (
    Fetch,
    StreamedResponse,
    delete,
    follow,
    get,
    head,
    options,
    patch,
    pool,
    post,
    put,
    request,
    stream,
)
from .errors import BadContent, BadRequest, BadResponse, HttpError
from .headers import Headers
from .limits import Limits
from .messages import Request, Response, json_response, text_response
from .proxy import Proxy, proxy
from .responders import Responder, StreamingResponse
from .routing import Handler, Route, Router, streaming
from .server import Server, server
from .timeouts import Timeouts

__all__ = [
    "AccessLog",
    "BadContent",
    "BadRequest",
    "BadResponse",
    "Fetch",
    "Handler",
    "Headers",
    "HttpError",
    "Limits",
    "Proxy",
    "Request",
    "Responder",
    "Response",
    "Route",
    "Router",
    "Server",
    "StreamedResponse",
    "StreamingResponse",
    "Timeouts",
    "delete",
    "follow",
    "get",
    "head",
    "json_response",
    "options",
    "patch",
    "pool",
    "post",
    "proxy",
    "put",
    "request",
    "server",
    "stream",
    "streaming",
    "text_response",
]
