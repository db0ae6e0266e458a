"""Real redis-servers for tests, one or a cluster of them: on free ports and Unix sockets, in memory, always
stopped."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis as redis_py

START_SECONDS_MAX = 60.0


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class RedisServer:
    """`with RedisServer(program, folder, "--requirepass", "secret") as server:`;
    it can be stopped and started again on the same port.
    """

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self.port = unused_port()
        self.path = folder / "redis.sock"
        self._command = [
            *(program, "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path)),
            *("--save", "", "--appendonly", "no", "--dir", str(folder), "--enable-debug-command", "yes"),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Run it, and wait until it accepts connections."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        pause = threading.Event()
        for _ in range(int(START_SECONDS_MAX / 0.01)):
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                assert self._process.poll() is None, f"{self._command} ended"
                pause.wait(0.01)
        raise AssertionError(f"{self._command} does not accept connections")

    def stop(self) -> None:
        """Kill it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(START_SECONDS_MAX)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


SLOTS = 16384
SPARE = SLOTS - 1  # of no key in any test


class ClusterNode(RedisServer):
    """One node of a cluster, and a client for it."""

    def __init__(self, program: str, folder: Path, timeout_ms: int) -> None:
        folder.mkdir(parents=True)
        self.bus = unused_port()
        options = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": str(timeout_ms),
            "cluster-port": str(self.bus),
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
        }
        super().__init__(
            program, folder, *(word for name in options for word in (f"--{name}", options[name]))
        )
        self._client: redis_py.Redis | None = None

    def __call__(self, *command: Any) -> Any:
        """Have it execute a command."""
        if self._client is None:
            self._client = redis_py.Redis(port=self.port, decode_responses=True)
            self._client.response_callbacks.clear()  # the replies as they come
        return self._client.execute_command(*command)

    @cached_property
    def id(self) -> str:
        return str(self("CLUSTER", "MYID"))

    def stop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
        super().stop()


class RedisCluster:
    """`with RedisCluster(program, folder, masters=3, replicas=1) as cluster:`; the replicas are of the first
    masters.
    """

    def __init__(
        self, program: str, folder: Path, *, masters: int = 3, replicas: int = 0, timeout_ms: int = 2000
    ) -> None:
        self.nodes = [
            ClusterNode(program, folder / str(number), timeout_ms) for number in range(masters + replicas)
        ]
        self.masters = self.nodes[:masters]
        self.replicas = self.nodes[masters:]
        self._leader = self.masters[-1]
        self._stack = ExitStack()

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    @property
    def port(self) -> int:
        """Of the first node."""
        return self.nodes[0].port

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def __enter__(self) -> Self:
        with self._stack:
            for node in self.nodes:
                self._stack.enter_context(node)
            self._meet()
            self._stack = self._stack.pop_all()
        return self

    def _meet(self) -> None:
        share = SLOTS // len(self.masters)
        for number, node in enumerate(self.nodes):
            node("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if node in self.masters:
                last = SLOTS - 1 if node is self.masters[-1] else (number + 1) * share - 1
                node("CLUSTER", "ADDSLOTSRANGE", number * share, last)
            for other in self.nodes[:number]:
                other("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
        everybody = {node.id for node in self.nodes}
        until(lambda: all(epochs(node).keys() == everybody for node in self.nodes))
        for replica, master in zip(self.replicas, self.masters, strict=False):
            replica("CLUSTER", "REPLICATE", master.id)
        until(self.settled)

    def settled(self) -> bool:
        """Whether all nodes agree that all is well, and replicas are connected."""
        for node in self.nodes:
            info = node("CLUSTER", "INFO")
            if "cluster_state:ok" not in info or f"cluster_slots_ok:{SLOTS}" not in info:
                return False
        return all("master_link_status:up" in replica("INFO", "replication") for replica in self.replicas)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # -- slots that move -------------------------------------------------------------------------------------

    def owner(self, slot: int) -> ClusterNode:
        """Which node serves a slot, once all that live agree on it."""
        found: set[str] = set()

        def agreed() -> bool:
            living = [node for node in self.nodes if node.running]
            found.clear()
            found.update(named(node("CLUSTER", "SLOTS"), slot) for node in living)
            return len(found) == 1 and "" not in found

        until(agreed)
        return next(node for node in self.nodes if node.id in found)

    def lead(self, target: ClusterNode) -> None:
        """Have this node's word about its slots count for more than any other's, and all know it.

        Without that a word of the old owner's that is still on its way may undo a move that comes soon after
        another one. The node is given a slot that nobody uses, which raises its epoch and is told at once.
        """
        if self._leader is not target:
            target("CLUSTER", "SETSLOT", SPARE, "IMPORTING", self._leader.id)
            target("CLUSTER", "SETSLOT", SPARE, "NODE", target.id)
            self._leader = target
            until(lambda: len({epochs(node)[target.id] for node in self.nodes if node.running}) == 1)
            assert max(epochs(target).values()) == epochs(target)[target.id]

    def begin_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """From now on keys of the slot may be moved."""
        self.lead(target)
        target("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, slot: int, source: ClusterNode, target: ClusterNode, count: int = 1000) -> int:
        """Move some keys; how many that were."""
        keys = source("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            source("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, target: ClusterNode) -> None:
        """All its keys have been moved: everybody is told."""
        told = target.id
        target("CLUSTER", "SETSLOT", slot, "NODE", told)
        for node in self.masters:
            if node is not target and node.running:
                node("CLUSTER", "SETSLOT", slot, "NODE", told)

    def move(self, slot: int, target: ClusterNode) -> None:
        """The whole slot."""
        source = self.owner(slot)
        if source is not target:
            self.begin_move(slot, source, target)
            while self.move_keys(slot, source, target):
                pass
            self.end_move(slot, target)


def epochs(node: ClusterNode) -> dict[str, int]:
    """Of all nodes by their ids, as this one knows them."""
    lines = [line.split(" ") for line in node("CLUSTER", "NODES").splitlines()]
    return {line[0]: int(line[6]) for line in lines}


def named(answer: list[Any], slot: int) -> str:
    """The id of the node that CLUSTER SLOTS has for a slot."""
    return next((master[2] for first, last, master, *_ in answer if first <= slot <= last), "")


def until(condition: Callable[[], object], seconds: float = START_SECONDS_MAX) -> None:
    """Wait until this holds."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError(f"{condition} has not come true")
