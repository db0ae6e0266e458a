"""Spools: what a slow client has not taken yet, in a temporary file instead of memory.

Writing and reading a file has no non-blocking form; the pieces are small and the page cache takes them.
"""

from __future__ import annotations

from typing import IO, Final

from actors import Kernel

__all__ = ["Spool"]

READ_SIZE: Final = 1 << 18  # bytes


class Spool:
    """A queue of bytes in a file that grows to about `limit` bytes and starts over when all was taken."""

    __slots__ = ("_file", "_read", "_written", "limit")

    def __init__(self, kernel: Kernel, limit: int) -> None:
        self._file: IO[bytes] = kernel.temporary_file()
        self._read = self._written = 0
        self.limit = limit

    def __repr__(self) -> str:
        return f"<Spool {len(self)} of {self.limit} bytes>"

    def __len__(self) -> int:
        return self._written - self._read

    @property
    def full(self) -> bool:
        """Whether it should take no more before all is taken: it is the file that has the limit."""
        return self._written >= self.limit

    def put(self, data: bytes) -> None:
        """Append. Raises `OSError` when the disk is full."""
        self._file.seek(self._written)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self._written += len(data)

    def take(self) -> bytes:
        """The oldest bytes, at most `READ_SIZE`. When all are taken the file starts over."""
        self._file.seek(self._read)
        data = self._file.read(min(READ_SIZE, len(self)))
        self._read += len(data)
        if self._read == self._written:
            self._read = self._written = 0
            self._file.truncate(0)
        return data

    def close(self) -> None:
        """Give the disk's space back."""
        self._file.close()
