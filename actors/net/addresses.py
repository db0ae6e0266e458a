"""Addresses as people write them: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `:8080`,
`unix:/run/app.sock`."""

from __future__ import annotations

import ipaddress

import msgspec

__all__ = ["Address", "TcpAddress", "UnixAddress", "parse_address"]


class TcpAddress(msgspec.Struct, frozen=True):
    """A host name or a literal address, and a port (0 to let the system choose when listening)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def literal(self) -> bool:
        """Whether `host` is an IP address, so that there is nothing to resolve."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


class UnixAddress(msgspec.Struct, frozen=True):
    """A Unix domain socket's path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_address(text: str, default_port: int | None = None) -> Address:
    """The address that `text` names. Raises `ValueError` that says what to write instead."""
    if text.startswith("unix:"):
        if len(text) == len("unix:"):
            raise ValueError(f"{text!r} names no path; write unix:/path/to.sock")
        return UnixAddress(text[len("unix:") :])
    host, colon, port_text = text.rpartition(":")
    if not colon or host.count("[") != host.count("]") or text.endswith("]"):
        if default_port is None:
            raise ValueError(f"{text!r} has no port; write HOST:PORT, for example 127.0.0.1:8080")
        host, port_text = text, str(default_port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is ambiguous; write an IPv6 address in brackets, for example [::1]:8080")
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65535):
        raise ValueError(f"{text!r} has no valid port; write a number from 0 to 65535 after the last colon")
    return TcpAddress(host or "::", int(port_text))  # every address of both kinds: see `Kernel.listen`
