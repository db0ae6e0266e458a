"""Header fields: what a name and a value may be, a multi-map of them, and what a proxy passes on.

The rules (RFC 9110 section 5, RFC 9112 section 5):

1. A name is a token. A value is visible ASCII, space, tab and bytes over 0x7f: no CR, LF, NUL or other
   control ever enters or leaves. That is checked once, at the edge: by the head's pattern for what was
   received, in the constructor of `Headers` for what a program says.
2. Names are compared without case and kept as they were written; text is latin-1, byte for byte.
3. A block (`b"Name: value\\r\\n"` any number of times) that has passed the check is passed on as bytes.
   It is split into pairs when one is first asked for.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Self, TypeAlias

from .grammar import is_name, is_value, split_fields

__all__ = [
    "HOP_BY_HOP",
    "NO_HEADERS",
    "Headers",
    "HeadersLike",
    "connection_options",
    "forwardable",
    "plain_name",
    "validate_name",
    "validate_value",
]

HeadersLike: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""What `Headers` is built from; being an iterable of pairs, `Headers` itself is one."""

_not_in_value = re.compile(r"[^\t\x20-\x7e\x80-\xff]").search

HOP_BY_HOP = frozenset({"connection", "proxy-connection", "keep-alive", "te", "transfer-encoding", "upgrade"})
"""Fields that concern one connection only (RFC 9110 section 7.6.1), beside those which Connection lists.
Trailer is not one of them: trailers are passed on, so their announcement is too."""

_HIDDEN = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})

_UNLISTABLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type"})
"""What Connection may not take out of a message: without these it would mean something else."""

_MARKS = r"!#$%&'*+\-.^_`|~"  # what a token may have beside letters and digits
_HYPHENS = b"[" + _MARKS.encode() + b"]"
"""A hyphen of a name, in every spelling: CGI and its heirs (WSGI among them) make one underscore of all
these, so that `X_Forwarded_For` would reach a program as `X-Forwarded-For` does."""
_mark = re.compile(f"[{_MARKS}]")

_SELF_EVIDENT = frozenset({b"close", *(name.encode() for name in HOP_BY_HOP)})


def validate_name(name: str) -> str:
    """Return `name` if it can name a header (a token, RFC 9110 section 5.6.2), else raise `ValueError`."""
    if is_name(name) is None:
        raise ValueError(
            f"header name {name!r} is not a token: use letters, digits and !#$%&'*+-.^_`|~ only, at least one"
        )
    return name


def validate_value(name: str, value: str) -> str:
    """Return `value` without the white space around it; `ValueError` if it cannot be a header's value."""
    if is_value(value) is None:
        bad = _not_in_value(value)
        assert bad is not None
        kind = "is not latin-1: encode it first" if bad[0] > "\xff" else "is a control character: take it out"
        raise ValueError(f"header {name!r}: {bad[0]!r} at {bad.start()} of the value {kind}")
    return value.strip(" \t")


def plain_name(name: str) -> str:
    """The name in lower case, with a hyphen for each mark that some program may read as one."""
    return _mark.sub("-", name.lower())


class Headers:
    """An immutable, case-insensitive multi-map of header fields, in the order they were given.

    Iterating gives `(name, value)` pairs. Built from a mapping or from pairs, which are validated
    (`ValueError` says which header is wrong and why), or from a block that a parser has validated.
    """

    __slots__ = ("_answer_block", "_block", "_end_to_end", "_index", "_pairs")

    _block: bytes | None
    _pairs: tuple[tuple[str, str], ...] | None
    _index: dict[str, list[str]] | None
    _end_to_end: bytes | None
    _answer_block: bytes | None

    def __init__(self, fields: HeadersLike = ()) -> None:
        items: Iterable[tuple[str, str]] = fields.items() if isinstance(fields, Mapping) else fields
        self._pairs = tuple([(validate_name(name), validate_value(name, value)) for name, value in items])
        self._block = self._index = self._end_to_end = self._answer_block = None

    @classmethod
    def from_block(cls, block: bytes) -> Self:
        """Headers over lines that were validated already: `b"Name: value\\r\\n"`, any number of times."""
        self = cls.__new__(cls)
        self._block = block
        self._pairs = self._index = self._end_to_end = self._answer_block = None
        return self

    @property
    def block(self) -> bytes:
        """The lines as they go on the wire, without the blank one that ends a head."""
        block = self._block
        if block is None:
            text = "".join([f"{name}: {value}\r\n" for name, value in self.pairs])
            block = self._block = text.encode("latin-1")
        return block

    @property
    def end_to_end(self) -> bytes:
        """The block without what belongs to one connection or to framing: what may be sent onward."""
        block = self._end_to_end
        if block is None:
            options = ",".join(self.get_all("connection")).encode("latin-1")
            block = forwardable(self.block, connection_options(options), framing=True)
            self._end_to_end = block
        return block

    @property
    def answer_block(self) -> bytes:
        """`end_to_end` without Date, which a server writes itself: for what answers a request."""
        block = self._answer_block
        if block is None:
            block = self._answer_block = forwardable(self.end_to_end, (), b"date")
        return block

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """All fields as `(name, value)`, names as they were written."""
        pairs = self._pairs
        if pairs is None:
            found = split_fields(self.block.decode("latin-1"))
            pairs = self._pairs = tuple([(name, value.rstrip(" \t")) for name, value in found])
        return pairs

    def _by_name(self) -> dict[str, list[str]]:
        index = self._index
        if index is None:
            index = self._index = {}
            for name, value in self.pairs:
                index.setdefault(name.lower(), []).append(value)
        return index

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of `name`, or `default`."""
        values = self._by_name().get(name.lower())
        return default if values is None else values[0]

    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in order; empty if there is none."""
        return list(self._by_name().get(name.lower(), ()))

    def with_(self, fields: HeadersLike) -> "Headers":
        """New headers in which `fields` replace all that had the same names."""
        added = Headers(fields)
        return Headers((*self.without(*added._by_name()).pairs, *added.pairs))

    def without(self, *names: str) -> "Headers":
        """New headers that lack `names`."""
        dropped = {name.lower() for name in names}
        return Headers([pair for pair in self.pairs if pair[0].lower() not in dropped])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._by_name() == other._by_name()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = [(name, "[hidden]" if name.lower() in _HIDDEN else value) for name, value in self.pairs]
        return f"Headers({shown!r})"


NO_HEADERS = Headers()


def connection_options(value: bytes) -> tuple[bytes, ...]:
    """The lower-cased names in a Connection value that a proxy must strip, beside those it always does."""
    options = [option.strip(b" \t") for option in value.lower().split(b",")]
    return tuple([o for o in options if o and o not in _SELF_EVIDENT and o not in _UNLISTABLE])


@lru_cache(maxsize=32)
def _stripper(extra: tuple[bytes, ...], framing: bool) -> Callable[[bytes, bytes], bytes]:
    names = [*(name.encode() for name in sorted(HOP_BY_HOP)), *extra]
    if framing:
        names.append(b"content-length")
    firsts = b"".join(sorted({re.escape(name[:1].lower()) for name in names}))
    spelled = b"|".join(_HYPHENS.join(map(re.escape, name.split(b"-"))) for name in names)
    spelled = spelled.replace(rb"\*", rb"[^:\n]*+")
    # The look-ahead is only for speed: most lines are passed over by looking at one byte.
    return re.compile(rb"(?i)\n(?=[%b])(?:%b):[^\n]*+" % (firsts, spelled)).sub


_strip = _stripper((), False)
_strip_with_framing = _stripper((), True)


def forwardable(
    block: bytes, connection: tuple[bytes, ...] = (), *extra: bytes, framing: bool = False
) -> bytes:
    """`block` without what must not travel on (RFC 9110 section 7.6.1).

    Goes: `HOP_BY_HOP`, the names in `connection` (lower case, from a parsed head), those in `extra`, and
    Content-Length if `framing` is true (when the sender frames the body itself); all but what `connection`
    lists in every spelling that some program reads as the same. Order and case of the rest stay as they were.
    A `*` in `extra` stands for whatever there is of a name. `extra` is the program's own: a pattern is made
    for each set of names and kept.
    """
    if extra:
        strip = _stripper(extra, framing)
    else:
        strip = _strip_with_framing if framing else _strip
    block = strip(b"", b"\n" + block)[1:]
    if connection:
        # What a peer lists is looked up, not compiled: a pattern for each whim would be theirs to waste.
        lines = block.splitlines(keepends=True)
        block = b"".join([line for line in lines if line.partition(b":")[0].lower() not in connection])
    return block
