"""The router: which handler, which parameters, and what is said when there is none."""

from __future__ import annotations

from typing import Any

import pytest

from protocols import http
from protocols.http.server.routing import path_pattern
from tests.protocols.http.harness import Simulated, get


def named(name: str) -> Any:
    def handler(request: http.Request) -> http.Response:
        return http.text_response(f"{name} {dict(request.params)}")

    return handler


@pytest.fixture
def router() -> http.Router:
    router = http.Router()
    router.add("GET", "/", named("root"))
    router.add("GET", "/users/me", named("me"))
    router.add("GET", "/users/{id}", named("user"))
    router.add("DELETE", "/users/{id}", named("delete"))
    router.add("GET", "/files/{path*}", named("files"))
    router.add("GET", "/v{version}/{name}.json", named("parts"))
    router.add("OPTIONS", "/own", named("own options"))
    router.add("GET", "/own", named("own"))
    router.add("HEAD", "/own", named("own head"))
    router.add("POST", "/café", named("café"))
    router.add("GET", "/a+(b)", named("literal"))
    return router


def ask(router: http.Router, method: str, target: str) -> http.Response:
    request = http.Request.make(method, target)
    answer = router.match(request).call(request)
    assert isinstance(answer, http.Response)
    return answer


@pytest.mark.parametrize(
    ("method", "target", "text"),
    [
        ("GET", "/", "root {}"),
        ("GET", "/?a=/users/7", "root {}"),
        ("GET", "/users/me", "me {}"),
        ("GET", "/users/7", "user {'id': '7'}"),
        ("GET", "/users/7?x=y", "user {'id': '7'}"),
        ("GET", "/users/a%2Fb%20c", "user {'id': 'a/b c'}"),
        ("GET", "/users/caf%C3%A9", "user {'id': 'café'}"),
        ("GET", "/users/%ff", "user {'id': '\ufffd'}"),
        ("GET", "/users/%zz", "user {'id': '%zz'}"),
        ("DELETE", "/users/7", "delete {'id': '7'}"),
        ("DELETE", "/users/me", "delete {'id': 'me'}"),
        ("HEAD", "/users/7", "user {'id': '7'}"),
        ("HEAD", "/users/me", "me {}"),
        ("GET", "/files/", "files {'path': ''}"),
        ("GET", "/files/a/b", "files {'path': 'a/b'}"),
        ("GET", "/v2/x.json", "parts {'version': '2', 'name': 'x'}"),
        ("OPTIONS", "/own", "own options {}"),
        ("HEAD", "/own", "own head {}"),
        ("POST", "/caf%C3%A9", "café {}"),
        ("GET", "/a+(b)", "literal {}"),
    ],
)
def test_found(router: http.Router, method: str, target: str, text: str) -> None:
    answer = ask(router, method, target)
    assert (answer.status, answer.text()) == (200, text)


@pytest.mark.parametrize(
    "target", ["/nope", "/users", "/users/", "/users/a/b", "/USERS/7", "//", "/aa(b)", "/v/x.json"]
)
def test_not_found(router: http.Router, target: str) -> None:
    answer = ask(router, "GET", target)
    assert (answer.status, answer.text()) == (404, "not found\n")


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("POST", "/", 405, "GET, HEAD, OPTIONS"),
        ("PUT", "/users/7", 405, "DELETE, GET, HEAD, OPTIONS"),
        ("PUT", "/users/me", 405, "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/caf%C3%A9", 405, "OPTIONS, POST"),
        ("HEAD", "/caf%C3%A9", 405, "OPTIONS, POST"),
        ("OPTIONS", "/users/7", 204, "DELETE, GET, HEAD, OPTIONS"),
        ("OPTIONS", "*", 204, "DELETE, GET, HEAD, OPTIONS, POST"),
    ],
)
def test_other_methods(router: http.Router, method: str, target: str, status: int, allow: str) -> None:
    answer = ask(router, method, target)
    assert (answer.status, answer.headers.get("allow")) == (status, allow)


def test_connect_finds_nothing(router: http.Router) -> None:
    assert ask(router, "CONNECT", "a:80").status == 404
    assert ask(http.Router(), "OPTIONS", "*").status == 404


def test_params_of_a_pattern_that_did_not_answer_are_not_kept() -> None:
    router = http.Router()
    router.add("POST", "/{a}", named("post"))
    router.add("GET", "/{b}", named("get"))
    assert ask(router, "GET", "/x").text() == "get {'b': 'x'}"


def test_decorators() -> None:
    router = http.Router()
    timeouts = http.Timeouts(response_generation=1.0)

    @router.get("/x")
    def read(request: http.Request) -> http.Response:
        return http.text_response("read")

    @router.post("/x", timeouts=timeouts)
    async def write(request: http.Request) -> http.Response:
        return http.text_response("write")

    @router.route("DELETE", "/x/{id}")
    @http.streaming
    def delete(request: http.Request) -> http.Response:
        return http.text_response("delete")

    assert ask(router, "GET", "/x").text() == "read"
    route = router.match(http.Request.make("POST", "/x"))
    assert (route.call, route.timeouts, route.streams) == (write, timeouts, False)
    assert "<Route to async test_decorators.<locals>.write>" in repr(route)
    assert router.match(http.Request.make("DELETE", "/x/7")).streams
    assert repr(router) == "<Router 1 paths, 1 patterns>"


@pytest.mark.parametrize(
    ("method", "path", "match"),
    [
        ("GET", "x", "begin it with a slash"),
        ("GET", "/x?y", "query"),
        ("GET", "/x#y", "fragment"),
        ("GET", "/taken", "has a handler already"),
        ("GET", "/taken/{a}", "has a handler already"),
        ("G T", "/x", "not a token"),
        ("GET", "/{a}/{a}", "name of its own"),
        ("GET", "/{7}", "name of its own"),
        ("GET", "/{}", "name of its own"),
        ("GET", "/{a", "braces"),
        ("GET", "/a}", "braces"),
    ],
)
def test_refused(method: str, path: str, match: str) -> None:
    router = http.Router()
    router.add("GET", "/taken", named("x"))
    router.add("GET", "/taken/{a}", named("x"))
    with pytest.raises(ValueError, match=match):
        router.add(method, path, named("y"))


def test_path_pattern() -> None:
    assert path_pattern("/a.b/{c}/{d*}") == r"/a\.b/(?P<c>[^/]+)/(?P<d>.*)"


def test_through_a_server(router: http.Router) -> None:
    with Simulated(router) as simulated:
        sock = simulated.connect()
        data = get("/users/7") + get("/nope") + get("/", method="POST") + get("http://b/users/8")
        answers = simulated.ask(sock, data)
        assert [(answer.status, answer.body) for answer in answers] == [
            (200, b"user {'id': '7'}"),
            (404, b"not found\n"),
            (405, b"method not allowed\n"),
            (200, b"user {'id': '8'}"),
        ]
