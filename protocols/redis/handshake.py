"""How a connection introduces itself: HELLO with what it knows, and the old way where the server is old.

`greet` is a generator: it yields what to send and gets the reply to it; what it returns is the protocol's
version. So the wire and the subscription share it, and a test needs neither.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import msgspec

from .codec import Arg, encode
from .errors import BadReply, RedisError

__all__ = ["Login", "greet"]

TOO_OLD: Final = ("ERR unknown command", "NOPROTO")
ADVICE: Final = {
    "NOAUTH": "the server wants a password: redis://user:password@host",
    "WRONGPASS": "the user or the password is wrong",
    "NOPERM": "this user may not do that; see ACL SETUSER",
    "ERR max number of clients reached": "raise maxclients there, or use fewer connections",
    "ERR invalid password": "the password is wrong",
    "ERR DB index is out of range": "the server has fewer databases; see its setting `databases`",
}


class Login(msgspec.Struct, frozen=True):
    """What a connection says of itself. Never shown."""

    username: str = ""
    password: str = ""
    database: int = 0
    name: str = ""

    def __repr__(self) -> str:
        return f"<Login of {self.username or 'default'} to database {self.database}>"


def greet(login: Login, standing: bool = False) -> Generator[bytes, Any, int]:
    """Yields commands, is sent replies, returns 2 or 3. `standing`: with a MULTI at the end. Raises
    `RedisError` with what to do about it.
    """
    hello: list[Arg] = ["HELLO", "3"]
    if login.password:
        hello += ["AUTH", login.username or "default", login.password]
    if login.name:
        hello += ["SETNAME", login.name]
    reply = yield encode(*hello)
    version = 3
    if isinstance(reply, RedisError):
        if not str(reply).startswith(TOO_OLD):
            raise advised(reply)
        version = 2
        if login.password:
            user = [login.username] if login.username else []
            checked((yield encode("AUTH", *user, login.password)))
        if login.name:
            checked((yield encode("CLIENT", "SETNAME", login.name)))
    elif not isinstance(reply, dict) or b"version" not in reply:
        raise BadReply(
            f"HELLO was answered with {reply!r:.100}, which no Redis server sends; check host and port"
        )
    if login.database:
        checked((yield encode("SELECT", login.database)))
    elif version == 2:
        checked((yield encode("PING")))  # an old server says NOAUTH only now
    if standing:
        reply = yield encode("MULTI")
        if reply != b"OK":
            raise RedisError(f"{reply} (MULTI is refused here, and nothing is atomic without it)")
    return version


def checked(reply: Any) -> None:
    """Raise what is an error."""
    if isinstance(reply, RedisError):
        raise advised(reply)


def advised(error: RedisError) -> RedisError:
    """The server's error with what can be done about it."""
    text = str(error)
    advice = next((advice for start, advice in ADVICE.items() if text.startswith(start)), None)
    return error if advice is None else RedisError(f"{text} ({advice})")
