"""HTTP/1.1 and 1.0: server, client, reverse proxy.

`server(address, handler)` and `pool(url)` make machines for `loop.spawn`; `get`, `post`, … make units for a
pool.
"""

from __future__ import annotations

from .client.units import (
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
from .client.wire import BodyChannel
from .codec.errors import BadRequest, HttpError
from .codec.headers import Headers
from .codec.limits import Limits
from .codec.messages import Response, json_response, text_response
from .errors import BadContent, BadResponse
from .proxy.proxy import Proxy, proxy
from .server.access_log import AccessLog
from .server.exchange import Exchange
from .server.options import AccessSink
from .server.request import Request
from .server.responders import Responder, StreamingResponse
from .server.routing import Handler, Route, Router, streaming
from .server.server import Server, ServerStatistics, server
from .server.timeouts import Timeouts

__all__ = [
    "AccessLog",
    "AccessSink",
    "BadContent",
    "BadRequest",
    "BadResponse",
    "BodyChannel",
    "Exchange",
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
    "ServerStatistics",
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
