r"""The patterns on which the codec's security rests, each with what it must take and what it must refuse.

Rules:
1. No pattern can take long over anything: what repeats a group begins and ends each turn with characters that
   nothing else could have taken, so there is never a second way to read the same bytes.
2. Repeats of single characters are possessive. Repeats of *groups* never are, nor is there an atomic group:
   Python before 3.11.5 keeps half an item of them when the other half does not match (`3;` for a chunk size
   with extensions), and Debian 12 has 3.11.2.
3. Every pattern is tried on its table when this module is imported. An interpreter that reads one of them
   otherwise than it was written is told apart before the first byte comes in, not after.

The sections are those of RFC 9112, if no other is named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import AnyStr

__all__ = [
    "FIELD_LINE",
    "TOKEN",
    "absolute_form",
    "begins_request",
    "finder",
    "first_size",
    "first_size_lenient",
    "host_line",
    "is_authority",
    "is_field_line",
    "is_folded_line",
    "is_host",
    "is_length",
    "is_name",
    "is_target",
    "is_token",
    "is_value",
    "length_line",
    "next_size",
    "next_size_lenient",
    "quick_request",
    "quick_response",
    "request_line",
    "rule",
    "special_of_request",
    "special_of_response",
    "split_fields",
    "status_line",
    "unfold",
]


def rule(pattern: AnyStr, *, good: tuple[AnyStr, ...], bad: tuple[AnyStr, ...]) -> re.Pattern[AnyStr]:
    """The compiled pattern, after it has taken all of `good`, each as a whole, and none of `bad`.

    Raises `ImportError` if it does not: then no input can be trusted to be read as it should.
    """
    compiled = re.compile(pattern)
    takes = compiled.fullmatch
    for text in good:
        if takes(text) is None:
            raise misread(pattern, text)
    for text in bad:
        if takes(text) is not None:
            raise misread(pattern, text)
    return compiled


def finder(
    pattern: bytes, *, finds: tuple[tuple[bytes, list[tuple[bytes, bytes]]], ...]
) -> Callable[[bytes], list[tuple[bytes, bytes]]]:
    """What finds all names with their values, after it has found in each text what it must. Raises
    `ImportError` as `rule` does."""
    find: Callable[[bytes], list[tuple[bytes, bytes]]] = re.compile(pattern).findall
    for text, found in finds:
        if find(text) != found:
            raise misread(pattern, text)
    return find


def misread(pattern: str | bytes, text: str | bytes) -> ImportError:
    """What to tell who starts on an interpreter that cannot be trusted."""
    version = ".".join(map(str, sys.version_info[:3]))
    return ImportError(
        f"this Python ({version}, {sys.executable}) misreads the pattern {pattern!r} on {text!r}: with it "
        "HTTP cannot be parsed safely. Use another patch version of Python, and report this one"
    )


TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""One character of a token (RFC 9110 section 5.6.2)."""
_TOKEN = TOKEN.encode()
_VALUE = rb"[\t\x20-\x7e\x80-\xff]"  # no CR, LF, NUL or other control
_TARGET = rb"[!\x22$-~]"  # visible ASCII but "#": a fragment is never sent

FIELD_LINE = rb"%b++:%b*+\r\n" % (_TOKEN, _VALUE)
"""One valid header line (section 5); trailers are held to the same."""

_NO_FIELD_LINES = (b"", b"A\r\n", b":\r\n", b"A:", b"A:\r", b"A:\n", b"A :\r\n", b" A:\r\n", b"A:\0\r\n",
    b"A:\r\r\n", b"A:b\r\nB", b"A:b\r\nB\r\n", b"A\x7f:\r\n", b"\xe9:\r\n")  # fmt: skip

is_field_line = rule(FIELD_LINE, good=(b"A:\r\n", b"A: b \xe9\t\r\n"), bad=_NO_FIELD_LINES).fullmatch
is_folded_line = rule(
    rb"[ \t]%b*+\r\n" % _VALUE,
    good=(b" a\r\n", b"\t\r\n"),
    bad=(b"a\r\n", b"\r\n", b" a\r", b" \0\r\n", b" a\r\n b"),
).fullmatch
unfold = re.compile(rb"\r\n[ \t]++").sub
"""`unfold(b" ", lines)`: each folded field on one line (section 5.2); the lines were checked."""

# -- heads -----------------------------------------------------------------------------------------------

# The lines are taken one at a time (`*?`): after each comes the blank one or another, and they begin unlike.
quick_request = rule(
    rb"(%b++) (/%b*+) HTTP/1\.([01])\r(\n((?:%b)*?))\r\n" % (_TOKEN, _TARGET, FIELD_LINE),
    good=(b"GET / HTTP/1.1\r\n\r\n", b"GET /a?b HTTP/1.0\r\nHost: a\r\nB:\r\n\r\n"),
    bad=(
        b"GET / HTTP/1.1\r\n",
        b"GET /# HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        *(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n" for line in _NO_FIELD_LINES if line),
    ),
).match
quick_response = rule(
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: (%b*+))?\r(\n((?:%b)*?))\r\n" % (_VALUE, FIELD_LINE),
    good=(b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.0 404 Not \xe9\r\nA: b\r\nB:\r\n\r\n"),
    bad=(
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 200 \r\r\n\r\n",
        b"HTTP/1.1 099 \r\n\r\n",
        *(b"HTTP/1.1 200 OK\r\nA: a\r\n" + line + b"\r\n" for line in _NO_FIELD_LINES if line),
    ),
).match
request_line = rule(
    rb"(%b++) (%b++) HTTP/([0-9])\.([0-9])\r\n" % (_TOKEN, _TARGET),
    good=(b"GET / HTTP/1.1\r\n", b"OPTIONS * HTTP/2.0\r\n"),
    bad=(
        b"GET / HTTP/1.1\n",
        b"GET  / HTTP/1.1\r\n",
        b"GET /\t HTTP/1.1\r\n",
        b"GET /# HTTP/1.1\r\n",
        b"GET /\r\n",
    ),
).match
status_line = rule(
    rb"HTTP/([0-9])\.([0-9]) ([1-9][0-9]{2})(?: (%b*+))?\r\n" % _VALUE,
    good=(b"HTTP/1.1 200 OK\r\n", b"HTTP/2.0 200\r\n", b"HTTP/1.1 200 \r\n"),
    bad=(b"HTTP/1.1 200 OK\n", b"HTTP/1.1 2000\r\n", b"HTTP/1.1 20 OK\r\n", b"HTTP/1.1 200 O\0K\r\n"),
).match
is_token = rule(_TOKEN + b"++", good=(b"a", b"A-1"), bad=(b"", b"a b", b"a\r\n", b"a:", b"\xe9")).fullmatch
begins_request = rule(_TOKEN, good=(b"G",), bad=(b"", b" ", b"\r", b"\n", b"\0", b"\x16", b"/")).match

# The look-ahead is only for speed: most lines are passed over by looking at one byte. Underscores are taken
# in because some backends (CGI and its heirs) read them as hyphens.
special_of_request = finder(
    rb"(?i)\n(?=[cehtu])(host|content[-_]length|transfer[-_]encoding|connection|expect|upgrade)"
    rb":[ \t]*+([^\r]*+)",
    finds=(
        (b"\nA: host:\r\nHosts: b\r\nX-Host: c\r\n", []),
        (b"\nA:\r\nHOST: \t a \r\ncontent_length:\r\n", [(b"HOST", b"a "), (b"content_length", b"")]),
        (b"\nTransfer-Encoding:x\r\nConnection: y", [(b"Transfer-Encoding", b"x"), (b"Connection", b"y")]),
        (b"\nExpect:1\r\nUpgrade:2\r\n", [(b"Expect", b"1"), (b"Upgrade", b"2")]),
    ),
)
special_of_response = finder(
    rb"(?i)\n(?=[ctu])(content[-_]length|transfer[-_]encoding|connection|upgrade):[ \t]*+([^\r]*+)",
    finds=(
        (b"\nA: upgrade:\r\nContent: b\r\nX-Connection: c\r\n", []),
        (b"\nA:\r\nCONTENT-LENGTH: 1 \r\nupgrade:\r\n", [(b"CONTENT-LENGTH", b"1 "), (b"upgrade", b"")]),
        (b"\nTransfer_Encoding:x\r\nConnection: y", [(b"Transfer_Encoding", b"x"), (b"Connection", b"y")]),
    ),
)
split_fields = re.compile(r"([^:\n]++):[ \t]*+([^\r]*+)\r\n").findall
"""The fields of a block whose every line was checked."""
host_line = re.compile(rb"(?im)^host:[^\n]*+\n").sub
length_line = re.compile(rb"(?im)^content-length:[^\n]*+\n").sub

# -- what stands in them ---------------------------------------------------------------------------------

# A reg-name (RFC 3986 section 3.2.2) or an address in brackets, and perhaps a port.
_HOST = rb"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,255}|\[[0-9A-Fa-f:.]{2,45}+\])"
_NO_HOSTS = (b"", b":", b":80", b"a/b", b"u@a", b"a b", b"a:8x", b"a:123456", b"a:1:2", b"[::1", b"[]",
    b"::1", b"a%", b"a%2", b"a%2g", b"a%%41", b"\xe9", b"a?", b"a#", b'"a"', b"a\r")  # fmt: skip

is_host = rule(
    _HOST + rb"(?::[0-9]{0,5}+)?",
    good=(b"a", b"a:", b"a.b-c_d~e:80", b"h=5000", b"a%2Fb()!$&'*+,;=", b"127.0.0.1:1", b"[::1]:65535"),
    bad=_NO_HOSTS,
).fullmatch
is_authority = rule(
    _HOST + rb":[0-9]{1,5}+", good=(b"a:80", b"[::1]:1"), bad=(b"a", b"a:", *_NO_HOSTS)
).fullmatch
absolute_form = rule(
    rb"(?i:https?)://([^/?]*+)([/?].*+)?",
    good=(b"http://a", b"HTTPS://a:1/b", b"http://a?b"),
    bad=(b"/a", b"ftp://a", b"http:/a", b"xhttp://a", b"http//a"),
).fullmatch
is_length = rule(
    rb"[0-9]{1,18}+",
    good=(b"0", b"9" * 18),
    bad=(b"", b"+1", b"-1", b"1 ", b"1_0", b"0x1", b"1,1", b"\xb2", b"9" * 19),
).fullmatch
is_name = rule(
    TOKEN + "++", good=("a", "X-Y"), bad=("", "a:", "a b", "a\r", "a\n", "\xe9", "\u0131")
).fullmatch
is_value = rule(
    _VALUE.decode("latin-1") + "*+",
    good=("", "a b\t\xe9"),
    bad=("\r", "a\n", "\0", "\x7f", "\u010a", "a\r\nb: c"),
).fullmatch
is_target = rule(
    _TARGET.decode("latin-1") + "++",
    good=("/a?b", "*"),
    bad=("", "/ ", "/#", "/\r\n", "/\xe9", "/\x7f", "/\u010a"),
).fullmatch

# -- chunks ----------------------------------------------------------------------------------------------

_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb";%b++(?:=(?:%b++|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_SIZE_LINE = rb"([0-9A-Fa-f]{1,16}+)(?:%b)*\r\n" % _EXTENSION
_BLANK = rb"[ \t]*+"
_SIZE_LINE_LENIENT = rb"([0-9A-Fa-f]{1,16}+)%b(?:;%b%b++%b(?:=%b(?:%b++|%b)%b)?)*\r\n" % (
    _BLANK, _BLANK, _TOKEN, _BLANK, _BLANK, _TOKEN, _QUOTED, _BLANK,
)  # fmt: skip

_SIZES = (b"0\r\n", b"fF9;a\r\n", b"3;a=b;c\r\n", b'3;a="b;\\"c";d\r\n')
_BLANK_SIZES = (b"3 \r\n", b"3 ;a\r\n", b"3; a\t= b ;c\r\n", b'3 ; a = "b" \r\n')
_NO_SIZES = (b"", b"\r\n", b"3", b"3\r", b"3\n", b"3;\r\n", b"3;a;\r\n", b"3;a=\r\n", b"3;a=;b\r\n",
    b'3;a="b\r\n', b'3;a="b\\"\r\n', b'3;a="b"c\r\n', b"3;a b\r\n", b"3;a=b=c\r\n", b"3;=b\r\n", b" 3\r\n",
    b"0x3\r\n", b"+3\r\n", b"3;a\0\r\n", b"3;a\r\r\n", b"3;a=b;;\r\n", b"g\r\n", b"3 3\r\n",
    b"0" * 17 + b"\r\n")  # fmt: skip


def _size_rules(
    line: bytes, good: tuple[bytes, ...], bad: tuple[bytes, ...]
) -> tuple[re.Pattern[bytes], ...]:
    after = tuple(b"\r\n" + text for text in good)
    return rule(line, good=good, bad=bad), rule(rb"\r\n" + line, good=after, bad=good)


# Strictly, for what clients send: no white space at all (as llhttp). Every laxness here has been used to
# smuggle a request. And as a recipient must read it (section 7.1.1; RFC 9110 section 5.6.3), for backends.
first_size, next_size = [r.match for r in _size_rules(_SIZE_LINE, _SIZES, _NO_SIZES + _BLANK_SIZES)]
first_size_lenient, next_size_lenient = [
    r.match for r in _size_rules(_SIZE_LINE_LENIENT, _SIZES + _BLANK_SIZES, _NO_SIZES)
]
