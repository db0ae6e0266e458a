"""What is mutated, by which tests it must be found, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["TARGETS", "Target", "target_of"]


@dataclass(frozen=True)
class Target:
    """Folders or files of the source, those of the tests, and the share (percent) that must be found.

    `left_out`: tests that take long, need a server, or look at the sources instead of running them.
    """

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    least: float
    left_out: tuple[str, ...] = ()

    def files(self, root: Path) -> list[Path]:
        """The source files."""
        found = []
        for source in self.sources:
            path = root / source
            found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
        return found


def files_of(folder: str, *names: str) -> tuple[str, ...]:
    """Those files of tests there that look at a codec: the others talk to servers, and take their time."""
    return tuple(f"{folder}/test_{name}.py" for name in names)


TARGETS: Final = {
    "pools": Target(("pools",), ("tests/pools",), 90, left_out=("tests/pools/test_planted_bugs.py",)),
    "actors": Target(("actors",), ("tests/actors",), 85),
    "http": Target(
        ("protocols/http/codec",),
        files_of(
            "tests/protocols/http",
            *(
                "grammar",
                "head",
                "headers",
                "bodies",
                "messages",
                "codec_alone",
                "codec_against_others",
                "wire",
            ),
            *("wire_bodies", "wire_conformance", "server_requests", "server_bodies", "server_conformance"),
        ),
        85,
    ),
    "redis": Target(
        ("protocols/redis/codec.py", "protocols/redis/wire.py"),
        files_of("tests/protocols/redis", "redis_codec", "redis_units", "redis_conformance", "redis_wire"),
        85,
    ),
    "postgres": Target(
        ("protocols/postgres/wire.py", "protocols/postgres/types"),
        files_of(
            "tests/protocols/postgres",
            "postgres_codec",
            "postgres_types",
            "postgres_wire",
            "postgres_copy_wire",
        ),
        85,
    ),
    "kafka": Target(
        ("protocols/kafka/records/batch.py",),
        files_of(
            "tests/protocols/kafka",
            *("kafka_records", "kafka_wire", "kafka_compression", "kafka_bomb", "kafka_hostile"),
        ),
        85,
    ),
}


def target_of(name: str) -> str:
    """The target that a name, a folder or a file belongs to."""
    for target, each in TARGETS.items():
        if name == target or any(name == source or name.startswith(f"{source}/") for source in each.sources):
            return target
    raise SystemExit(f"{name} is not mutated; write one of {', '.join(TARGETS)}, or a file of theirs")
