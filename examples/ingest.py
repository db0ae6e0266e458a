"""Events in by HTTP, out to Kafka: python -m examples.ingest --kafka 127.0.0.1:9092 --topic events

`POST /events` takes a JSON object, an array of them, or one per line (`Content-Type: application/x-ndjson`).
Each becomes a message whose value is the object as it was written. Its key is the header `Event-Key`, or else
the field that `--key` names; events of one key stay in order.

1. 202 is said when the brokers have every event of the request, and says where each one is. Events that were
   accepted are waited for when the program is asked to stop.
2. Kafka gets `--timeout` seconds. Then, or when it refuses: 503 with Retry-After. An event that was written
   all the same has its offset in the body, the others why not; send these again. One whose text says that it
   may have been written can be there twice then.
3. When too much waits for Kafka already: 429 with Retry-After, at once. Nothing of such a request is written.
4. 400 for a body without valid events, 413 for more than a request may hold; nothing of these is written.
5. Memory is bounded by `--queue` bytes that wait for Kafka, and `--body` bytes for each of `--connections`.

`GET /health` answers 503 while no broker can be asked, `GET /statistics` tells what was done.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Final

import msgspec

from actors import Loop, Reply, settle_all
from pools import PoolError, QueueFull
from protocols import http, kafka

__all__ = ["BadEvents", "events_of", "key_of", "main", "routes"]

EVENTS_MAX: Final = 1000  # in a request
DRAIN_SECONDS: Final = 5.0  # beyond the timeout
RETRY: Final = {"Retry-After": "1"}
STATUS: Final[dict[type, int]] = {QueueFull: 429, kafka.MessageTooLarge: 413}  # others: 503

EVENT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
KEY: Final = msgspec.json.Decoder(str | int)


class BadEvents(ValueError):
    """The body has to be another one; the text says why."""


def events_of(body: bytes, lines: bool) -> list[bytes]:
    """The events of a body, each as it was written. Raises `BadEvents`."""
    try:
        body.decode()  # for the decoder looks into nothing that is kept as it is
        if lines:
            events = [line for line in map(bytes.strip, body.splitlines()) if line]
        elif body.lstrip().startswith(b"["):
            events = [bytes(event) for event in ARRAY.decode(body)]
        else:
            events = [body.strip()]
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise BadEvents(str(error)) from None
    if not events:
        raise BadEvents("there is no event; write an object, an array of them, or one per line")
    return events


def key_of(event: bytes, field: str | None) -> bytes | None:
    """The event's key: what its field holds. Raises `BadEvents`, also if the event is not an object."""
    try:
        fields = EVENT.decode(event)
        if field is None:
            return None
        return str(KEY.decode(fields[field])).encode()
    except KeyError:
        raise BadEvents(f"there is no field {field!r}, which is the key") from None
    except msgspec.DecodeError as error:
        raise BadEvents(str(error)) from None
    except RecursionError:
        raise BadEvents("it is nested too deeply") from None


def outcome(reply: Reply[kafka.RecordMetadata]) -> dict[str, object]:
    """What became of one event."""
    if reply.error is not None:
        return {"error": str(reply.error)}
    record = reply.result()
    return {"partition": record.partition, "offset": record.offset}


def refused(status: int, why: object, **more: object) -> http.Response:
    """An answer that says what was wrong."""
    return http.json_response({"error": str(why), **more}, status, None if status < 429 else RETRY)


def routes(pool: kafka.KafkaPool, topic: str, *, key: str | None = None, timeout: float = 5.0) -> http.Router:
    """The service. `key`: the field that is an event's key; `timeout`: seconds for Kafka to acknowledge."""
    router = http.Router()
    counts: Counter[str] = Counter()

    def messages_of(request: http.Request) -> list[kafka.Push]:
        lines = (request.headers.get("Content-Type") or "").startswith("application/x-ndjson")
        events = events_of(request.body, lines)
        given = request.headers.get("Event-Key")
        messages = []
        for number, event in enumerate(events):
            try:
                own = key_of(event, key if given is None else None)
            except BadEvents as error:
                raise BadEvents(f"event {number}: {error}") from None
            messages.append(kafka.message(topic, event, own if given is None else given.encode("latin-1")))
        return messages

    @router.post("/events", timeouts=http.Timeouts(response_generation=timeout + DRAIN_SECONDS))
    async def push(request: http.Request) -> http.Response:
        try:
            messages = messages_of(request)
        except BadEvents as error:
            return refused(400, error)
        if len(messages) > EVENTS_MAX:
            return refused(413, f"{len(messages)} events; send {EVENTS_MAX} at most in a request")
        replies: list[Reply[kafka.RecordMetadata]] = []
        for message in messages:
            reply = pool.submit(message, timeout)
            if reply.settled:  # refused at once; nothing has been sent yet, so those before are taken back
                for other in replies:
                    other.cancel()
                counts["refused"] += len(messages)
                return refused(STATUS.get(type(reply.error), 503), reply.error)
            replies.append(reply)
        await settle_all(*replies)
        errors = [reply.error for reply in replies if reply.error is not None]
        counts["acknowledged"] += len(replies) - len(errors)
        counts["failed"] += len(errors)
        events = [outcome(reply) for reply in replies]
        if errors:
            return refused(STATUS.get(type(errors[0]), 503), errors[0], events=events)
        return http.json_response({"events": events}, 202)

    @router.get("/health")
    def health(request: http.Request) -> http.Response:
        failure = pool.cluster.failure
        return http.json_response({"kafka": "answers"}) if failure is None else refused(503, failure)

    @router.get("/statistics")
    def statistics(request: http.Request) -> http.Response:
        return http.json_response({"events": counts, "kafka": pool.statistics()})

    return router


def arguments_of(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; ends the program with one line for what makes no sense."""
    parser = argparse.ArgumentParser(
        prog="ingest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    parser.add_argument("--kafka", default="127.0.0.1:9092", metavar="HOST:PORT[,…]", help="some brokers")
    parser.add_argument("--topic", default="events")
    parser.add_argument("--key", metavar="FIELD", help="a field that is the event's key: a string or integer")
    parser.add_argument("--compression", default="none", help="none, gzip, snappy, lz4 or zstd")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="for Kafka to acknowledge")
    parser.add_argument("--queue", type=int, default=64 << 20, metavar="BYTES", help="that wait for Kafka")
    parser.add_argument("--body", type=int, default=256 << 10, metavar="BYTES", help="of a request")
    parser.add_argument("--connections", type=int, default=1000, help="of clients, at a time")
    given = parser.parse_args(arguments)
    for flag in ("timeout", "queue", "body", "connections"):
        if not 0 < getattr(given, flag) < float("inf"):
            parser.error(f"--{flag} {getattr(given, flag)}: write a number more than 0")
    return given


def main(arguments: list[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    given = arguments_of(arguments)
    with Loop() as loop:
        try:
            pool = loop.spawn(kafka.pool(given.kafka, compression=given.compression, queue_bytes=given.queue))
            loop.spawn(
                http.server(
                    given.listen,
                    routes(pool, given.topic, key=given.key, timeout=given.timeout),
                    limits=http.Limits(body_bytes=given.body),
                    connections=given.connections,
                )
            )
        except (ValueError, OSError, PoolError) as error:
            raise SystemExit(f"ingest: {error}") from None
        loop.run(drain=given.timeout + DRAIN_SECONDS)


if __name__ == "__main__":
    main()
