"""Answers of backends that must be refused: `(name, bytes)`. Data for the codec's and the client's tests.

Each is the answer to a GET and is decided by its own bytes, without the connection's end.
"""

__all__ = ["BAD_RESPONSES"]

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"

BAD_RESPONSES: list[tuple[str, bytes]] = [
    ("not http", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    ("an http/0.9 body", b"<html></html>"),
    ("blank line first", b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("lower case", b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("a space before the slash", b"HTTP /1.1 200 OK\r\n\r\n"),
    ("http/2", b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("version without a dot", b"HTTP/11 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("version with two digits", b"HTTP/1.11 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("no status", b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
    ("status with two digits", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status with four digits", b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status is a word", b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
    ("status begins with 0", b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n"),
    ("two spaces before status", b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("nul in reason", b"HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"),
    ("cr in reason", b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"),
    ("status line ends in lf", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"),
    ("header ends in lf", _OK + b"X: y\nContent-Length: 0\r\n\r\n"),
    ("space before colon", _OK + b"Content-Length : 0\r\n\r\n"),
    ("folded header", _OK + b"X: y\r\n z\r\nContent-Length: 0\r\n\r\n"),
    ("nul in value", _OK + b"X: \x00\r\nContent-Length: 0\r\n\r\n"),
    ("cr in value", _OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n"),
    ("no colon", _OK + b"nonsense\r\n\r\n"),
    ("name not a token", _OK + b"X(): y\r\n\r\n"),
    ("too many headers", _OK + b"X: y\r\n" * 101 + b"\r\n"),
    ("head too large", _OK + b"X: " + b"y" * 17000 + b"\r\n\r\n"),
    ("head without end", _OK + b"X: " + b"y" * 17000),
    ("reason without end", b"HTTP/1.1 200 " + b"y" * 17000),
    ("te and cl", _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    ("te in http/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("te gzip", _OK + b"Transfer-Encoding: gzip\r\n\r\n"),
    ("te gzip, chunked", _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    ("te chunked twice", _OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n"),
    ("te with an underscore", _OK + b"Transfer_Encoding: chunked\r\n\r\n"),
    ("cl twice, differing", _OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    ("cl is a list", _OK + b"Content-Length: 3, 4\r\n\r\nabcd"),
    ("cl minus", _OK + b"Content-Length: -3\r\n\r\n"),
    ("cl plus", _OK + b"Content-Length: +3\r\n\r\nabc"),
    ("cl is a word", _OK + b"Content-Length: abc\r\n\r\n"),
    ("cl empty", _OK + b"Content-Length:\r\n\r\n"),
    ("cl huge", _OK + b"Content-Length: 99999999999999999999\r\n\r\n"),
    ("Connection is not a list of names", _OK + b"Connection: a b\r\nContent-Length: 0\r\n\r\n"),
    ("1xx with a body", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello"),
    ("1xx with chunks", b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunk size not hexadecimal", _CHUNKED + b"xyz\r\n"),
    ("chunk longer than its size", _CHUNKED + b"1\r\nabc\r\n0\r\n\r\n"),
    ("lf after chunk size", _CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    ("chunk extension too long", _CHUNKED + b"3;" + b"x" * 300 + b"\r\nabc\r\n0\r\n\r\n"),
    ("trailer folded", _CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n"),
    ("trailer with nul", _CHUNKED + b"0\r\nX: \x00\r\n\r\n"),
]
