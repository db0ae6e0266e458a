"""Spools: what somebody slow has not taken or sent yet, in temporary files instead of memory.

Rules:
1. A disk is never the reason why bytes are lost. What it refuses (it is full, there is no descriptor, the
   total is reached) waits in memory, one piece for each spool, and whoever feeds the spool is held back
   meanwhile.
2. Everything has a bound: a file, the bytes of all files together, and how many there are.

Writing and reading a file has no non-blocking form; the pieces are small and the page cache takes them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import IO, Final

from actors import Loop

__all__ = ["Spool", "Spools"]

READ_SIZE: Final = 1 << 18  # bytes
FILES_MAX: Final = 1024  # open at a time; each takes a descriptor


class Spools:
    """The spools of one proxy: files in `directory` (None: the system's for temporary files) of together
    about `total` bytes."""

    __slots__ = ("directory", "files", "total", "used")

    def __init__(self, total: int, directory: str | None = None) -> None:
        self.total = total
        self.directory = directory
        self.files = 0
        self.used = 0  # bytes in files, those that were taken and not given back included

    def __repr__(self) -> str:
        return f"<Spools {self.used} of {self.total} bytes in {self.files} files>"

    @property
    def full(self) -> bool:
        """Whether the disk may take no more."""
        return self.used >= self.total

    def open(self, loop: Loop, limit: int) -> Spool | None:
        """A spool whose file grows to about `limit` bytes; None if there can be none now."""
        if limit <= 0 or self.full or self.files >= FILES_MAX:
            return None
        try:
            file = loop.kernel.temporary_file(self.directory)
        except OSError as error:
            refused(loop, error)
            return None
        return Spool(loop, self, file, limit)


class Spool:
    """A queue of bytes in a file that grows to about `limit` bytes and starts over when all was taken."""

    __slots__ = ("_file", "_kept", "_read", "_loop", "_spools", "_written", "limit")

    def __init__(self, loop: Loop, spools: Spools, file: IO[bytes], limit: int) -> None:
        spools.files += 1
        self._loop = loop
        self._spools = spools
        self._file: IO[bytes] | None = file
        self._read = self._written = 0
        self._kept = b""  # what the disk has refused, behind what is in the file
        self.limit = limit

    def __repr__(self) -> str:
        return f"<Spool {len(self)} of {self.limit} bytes>"

    def __len__(self) -> int:
        return self._written - self._read + len(self._kept)

    def takes_more(self) -> bool:
        """Whether `put` is in order. What the disk has refused is tried again here, and comes first."""
        if self._kept:
            self._write(self._kept)
        return not self._kept and self._written < self.limit and not self._spools.full

    def put(self, data: bytes) -> None:
        """Append, after `takes_more`. What the disk refuses is kept in memory."""
        assert not self._kept, "put() after takes_more()"
        self._write(data)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        try:
            self._file.seek(self._written)
            while view:
                count = self._file.write(view)
                self._written += count
                self._spools.used += count
                view = view[count:]
        except OSError as error:
            refused(self._loop, error)
        self._kept = bytes(view)

    def take(self) -> bytes:
        """The oldest bytes, at most about `READ_SIZE`. When all of the file is taken it starts over. Raises
        `OSError` if the disk does not give back what it has taken."""
        assert self._file is not None
        if self._read == self._written:
            data, self._kept = self._kept, b""
            return data
        self._file.seek(self._read)
        data = self._file.read(min(READ_SIZE, self._written - self._read))
        if not data:
            raise OSError(f"a spool's file has lost {self._written - self._read} bytes")
        self._read += len(data)
        if self._read == self._written:
            self._file.truncate(0)
            self._give_back()
        return data

    def _give_back(self) -> None:
        self._spools.used -= self._written
        self._read = self._written = 0

    def close(self) -> None:
        """Give the disk's space back, and forget what is left."""
        file, self._file = self._file, None
        if file is not None:
            self._kept = b""
            self._give_back()
            self._spools.files -= 1
            with suppress(OSError):
                file.close()


def refused(loop: Loop, error: OSError) -> None:
    """Say that a disk does not take what should go there."""
    loop.log.warning("cannot spool", cause="cannot spool", error=error.strerror or str(error))
