"""The object store: rows of results, and parameters of statements.

nats-py's own object store needs permissions that flows do not have, and reads an object into memory.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import tempfile
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import nats.errors

from ._connection import Connection
from ._encode import encode_params
from ._result import RowsObject
from .errors import DbrunnerError, DigestMismatch, Disconnected, NoStream, RowsUnavailable
from .jobs import Params, ParamsFrom

CHUNK = 128 * 1024
WINDOW = 16  # chunks on their way at a time
SILENCE = 10.0  # seconds without chunk or heartbeat, after which the rest is requested again
MOST_SILENCES = 6
MOST_IDLE = 3  # heartbeats, one every 5 seconds, without a chunk


async def read(connection: Connection, rows: RowsObject) -> AsyncGenerator[bytes, None]:
    """Yield an object's chunks. Raises DigestMismatch at the end if they are not what the runner stored."""
    digest = hashlib.sha256()
    if rows.size:
        chunks = await _chunk_subject(connection, rows)
        done, after, silences = 0, 0, 0
        while done < rows.size:
            try:
                async with contextlib.aclosing(_deliver(connection, rows.bucket, chunks, after)) as delivery:
                    async for sequence, data in delivery:
                        digest.update(data)
                        done, after, silences = done + len(data), sequence, 0
                        yield data
                        if done >= rows.size:
                            break
            except (nats.errors.NoRespondersError, Disconnected):
                silences += 1
                if silences > MOST_SILENCES:
                    raise Disconnected(
                        f"the rows of {rows.name} stopped arriving at byte {done} of {rows.size}"
                    ) from None
    if "SHA-256=" + base64.urlsafe_b64encode(digest.digest()).decode() != rows.digest:
        raise DigestMismatch(f"{rows.name}: the digest of what arrived is not the one in the result")


async def _chunk_subject(connection: Connection, rows: RowsObject) -> str:
    name = base64.urlsafe_b64encode(rows.name.encode()).decode()
    subject = f"$JS.API.DIRECT.GET.OBJ_{rows.bucket}.$O.{rows.bucket}.M.{name}"
    for attempt in range(MOST_SILENCES):
        try:
            answer = await connection.ask(subject)
            break
        except (nats.errors.NoRespondersError, Disconnected):
            await asyncio.sleep(0.2 * 2**attempt)
    else:
        raise Disconnected(f"no server answers for the rows of {rows.name}")
    info = json.loads(answer.data) if answer.data else {"deleted": True}
    if info.get("deleted"):
        raise RowsUnavailable(f"the rows of {rows.name} no longer exist")
    return f"$O.{rows.bucket}.C.{info['nuid']}"


async def _deliver(
    connection: Connection, bucket: str, subject: str, after: int
) -> AsyncGenerator[tuple[int, bytes], None]:
    """Yield the chunks after a sequence of the stream, in order. Raises Disconnected if one is missing."""
    stream, consumer = f"OBJ_{bucket}", uuid.uuid4().hex
    inbox = await connection.new_inbox()
    async with connection.subscription(inbox) as sub:
        config: dict[str, Any] = {
            "name": consumer,
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence" if after else "all",
            "filter_subject": subject,
            "ack_policy": "none",
            "max_deliver": 1,
            "flow_control": True,
            "idle_heartbeat": 5_000_000_000,
            "inactive_threshold": 300_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }
        if after:
            config["opt_start_seq"] = after + 1
        create = f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}.{subject}"
        answer = await connection.ask(create, json.dumps({"stream_name": stream, "config": config}).encode())
        if error := json.loads(answer.data).get("error"):
            raise DbrunnerError(f"read {subject}: {error.get('description')}")
        try:
            expected, idle = 1, 0
            while True:
                try:
                    message = await sub.next_msg(timeout=SILENCE)
                except nats.errors.Error as error:  # silence, or a closed connection
                    raise Disconnected("the rows stopped arriving") from error
                headers = message.headers or {}
                if headers.get("Status") == "100":
                    reply = message.reply or headers.get("Nats-Consumer-Stalled")
                    if reply:  # flow control: everything before this has been read
                        await connection.publish(reply)
                        continue
                    idle += 1
                    if idle == MOST_IDLE or int(headers.get("Nats-Last-Consumer", "0")) >= expected:
                        raise Disconnected("chunks are missing")
                    continue
                stream_sequence, consumer_sequence = _sequences(message.reply)
                if consumer_sequence != expected:
                    raise Disconnected("chunks are missing")
                expected, idle = expected + 1, 0
                yield stream_sequence, message.data
        finally:
            with contextlib.suppress(DbrunnerError, nats.errors.Error):  # the server removes it, too, after a while
                await connection.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}")


def _sequences(reply: str) -> tuple[int, int]:
    """Return the sequences of stream and consumer, from $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.…"""
    tokens = reply.split(".")
    at = 5 if len(tokens) == 9 else 7
    return int(tokens[at]), int(tokens[at + 1])


@dataclass(frozen=True)
class Spooled:
    """Parameter sets in a temporary file."""

    file: IO[bytes]
    size: int
    sha256: bytes


@contextlib.contextmanager
def spool(sets: Iterable[Params]) -> Iterator[Spooled]:
    """Encode parameter sets into a file. This runs in the caller's thread: the sets may take their time."""
    with tempfile.TemporaryFile() as file:
        digest = hashlib.sha256()
        for params in sets:
            line = encode_params(params) + b"\n"
            digest.update(line)
            file.write(line)
        size = file.tell()
        file.seek(0)
        yield Spooled(file, size, digest.digest())


async def write_params(connection: Connection, namespace: str, sets: Spooled) -> ParamsFrom:
    """Store parameter sets, named by their digest: the same sets are the same object, also in a second attempt."""
    bucket = f"{namespace.upper()}_PARAMS"
    name, nuid, chunks = f"{sets.sha256.hex()}.ndjson", uuid.uuid4().hex, 0
    while window := [data for _ in range(WINDOW) if (data := sets.file.read(CHUNK))]:
        await asyncio.gather(*(_store(connection, f"$O.{bucket}.C.{nuid}", data) for data in window))
        chunks += len(window)
    text = "SHA-256=" + base64.urlsafe_b64encode(sets.sha256).decode()
    meta = {
        "name": name,
        "bucket": bucket,
        "nuid": nuid,
        "size": sets.size,
        "chunks": chunks,
        "digest": text,
        "options": {"max_chunk_size": CHUNK},
    }
    key = base64.urlsafe_b64encode(name.encode()).decode()
    await _store(connection, f"$O.{bucket}.M.{key}", json.dumps(meta).encode(), {"Nats-Rollup": "sub"})
    return ParamsFrom(name, text)


async def _store(connection: Connection, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
    try:
        answer = await connection.ask(subject, data, headers)
    except nats.errors.NoRespondersError:
        raise NoStream(f"no stream takes {subject}: the installation has no bucket for parameters") from None
    if error := json.loads(answer.data).get("error"):
        raise DbrunnerError(f"store {subject}: {error.get('description')}")
