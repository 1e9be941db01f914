"""What runs on the package's loop: publish, wait, request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from ._calls import NamedStatement
from ._connection import Connection, Lease
from ._objects import Spooled, read, write_params
from ._result import Answer, Result, RowsObject
from ._running import Collector, InFlight
from .codes import JobIdReused
from .errors import (
    DbrunnerError,
    Disconnected,
    JobFailed,
    NoResultYet,
    NoRunner,
    NoStream,
    NotHealthy,
    RequestRefused,
    RowsUnavailable,
    TransportError,
    error_of,
)
from .jobs import REQUEST_LABEL, JobSpec, ParamsFrom

LOOK_AGAIN = 3.0  # seconds between reads of a stored result, in case its message was missed
PAUSE = 0.5  # seconds before something is tried again
NO_STREAM_FOR = 5.0  # seconds until "no stream" is believed: a server that has just started says so, too
NO_MESSAGE = 10037  # JetStream's code for a message that is not there
MOST_RUN_WAIT = 60.0  # seconds that one request to the run endpoint waits


@dataclass(frozen=True)
class Cancellation:
    """What became of a cancel request: `cancelled`, `already_finished` or `requested`."""

    outcome: str
    status: str | None = None


class Deadline:
    """When to give up, None: never."""

    def __init__(self, seconds: float | None) -> None:
        self._at = None if seconds is None else time.monotonic() + seconds

    def left(self, most: float) -> float:
        """Return the seconds left, `most` at most."""
        return most if self._at is None else min(most, self._at - time.monotonic())

    @property
    def over(self) -> bool:
        return self._at is not None and time.monotonic() >= self._at


class Core:
    """One database of an installation."""

    def __init__(self, lease: Lease, namespace: str, database: str, via: Literal["stream", "run"]) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", database):
            raise ValueError(f"database {database!r}: names have 1 to 64 of A-Z a-z 0-9 _ -")
        self._lease, self._namespace, self._database, self._via = lease, namespace, database, via

    async def execute(self, job: JobSpec, wait: float | None) -> Result:
        """Run a job and return its result. Raises JobFailed or OutcomeUnknown if it did not succeed."""
        deadline = Deadline(wait)
        if self._via == "run" and job.queue is None:  # the run endpoint serves no queues
            result = await self._request(job, deadline)
        else:
            result = await self._publish_and_wait(job, deadline)
        return self._checked(job, result)

    async def submit(self, job: JobSpec, wait: float | None) -> None:
        """Publish a job until the stream has it."""
        await self._submit(job, Deadline(wait))

    async def _submit(self, job: JobSpec, deadline: Deadline) -> None:
        refused_since = None
        subject = f"{self._namespace}.jobs.{self._database}.{job.subject}"
        if job.queue is not None:
            subject = f"{self._namespace}.queues.{self._database}.{job.queue}.{job.subject}"
        while True:
            problem: TransportError
            try:
                answer = await self._ask(subject, job.body, {"Nats-Msg-Id": job.id})
                error = json.loads(answer.data).get("error")
                if not error:
                    return
                problem = NoStream(f"the stream does not take {subject} now: {error.get('description')}")
            except nats.errors.NoRespondersError:
                refused_since = refused_since or time.monotonic()
                what = "exist, and does it" if job.queue is None else f"have a queue {job.queue}, and does the queue"
                problem = NoStream(f"no stream takes {subject}: does the database {what} run this kind?")
                if time.monotonic() - refused_since > NO_STREAM_FOR:
                    raise problem from None
            except Disconnected as error:
                problem = error
            if deadline.over:
                raise problem from None
            await asyncio.sleep(PAUSE)

    async def wait(self, job_id: str, wait: float | None) -> Result:
        """Return the stored result of a job as soon as there is one, whatever its status."""
        deadline = Deadline(wait)
        while True:
            with contextlib.suppress(Disconnected):
                async with self._listening(job_id) as sub:
                    return await self._look(job_id) or await self._await_result(job_id, sub, deadline)
            await self._pause(job_id, deadline)

    async def stored(self, job_id: str) -> Result | None:
        """Return the stored result, None if there is none."""
        stream = f"{self._namespace.upper()}_RESULTS_{self._database}"
        subject = f"$JS.API.DIRECT.GET.{stream}.{self._results(job_id)}"
        try:
            message = await self._ask(subject, timeout=LOOK_AGAIN)
        except nats.errors.NoRespondersError:
            raise NoStream(f"no stream {stream} answers: does the database exist?") from None
        status = (message.headers or {}).get("Status")
        if status == "404":
            return None
        if status:
            raise DbrunnerError(
                f"get the result of {job_id}: {status} {(message.headers or {}).get('Description', '')}"
            )
        return Result.parse(message.data)

    async def cancel(self, job_id: str, wait: float) -> Cancellation:
        """Cancel a job wherever it is; waits up to `wait` seconds for the outcome."""
        headers = {"Dbrunner-Wait": f"{round(wait * 1000)}ms"}
        answer = await self._service(f"cancel.{self._database}.{job_id}", b"", headers, wait + 2)
        return Cancellation(answer["outcome"], answer.get("status"))

    async def health(self) -> dict[str, Any]:
        """Return a health check that a runner makes now."""
        return await self._service(f"health.{self._database}")

    async def running(self, wait: float) -> InFlight:
        """Ask every runner what it has in flight; waits up to `wait` seconds for those that do not answer."""
        collector = Collector(self._database)
        ends = time.monotonic() + wait
        await self._read_heartbeats(collector, wait / 2)
        refused: list[DbrunnerError] = []

        def take(message: Msg) -> None:
            if (message.headers or {}).get("Status") == "503":
                refused.append(NoRunner(f"no runner answers for {self._database}"))
            elif error := _refused(message):
                if error.code != "busy":
                    refused.append(error)
            else:
                collector.answer(message.data)

        connection = await self._lease.connection()
        subject = f"{self._namespace}.api.running.{self._database}"
        left = max(0.0, ends - time.monotonic())
        await connection.ask_all(subject, take, lambda: bool(refused) or collector.complete(), left)
        if not collector.any:
            raise refused[0] if refused else NoRunner(f"no runner answers for {self._database}")
        return collector.result()

    async def _read_heartbeats(self, collector: Collector, timeout: float) -> None:
        """Read which runners there are. The answer says so if the user may not."""
        subject = f"$JS.API.STREAM.MSG.GET.{self._namespace.upper()}_HEALTH"
        sequence = 1
        try:
            async with asyncio.timeout(timeout):
                while True:
                    request = {"seq": sequence, "next_by_subj": f"{self._namespace}.health.runner.*"}
                    answer = json.loads((await self._ask(subject, json.dumps(request).encode())).data)
                    if error := answer.get("error"):
                        if error.get("err_code") != NO_MESSAGE:
                            collector.unlisted = str(error.get("description"))
                        return
                    collector.heartbeat(answer["message"])
                    sequence = answer["message"]["seq"] + 1
        except TimeoutError:
            collector.unlisted = "no answer in time"
        except nats.errors.NoRespondersError:
            collector.unlisted = "JetStream does not answer"
        except DbrunnerError as error:
            collector.unlisted = str(error)

    async def recorded(self, job_id: str) -> Result | None:
        """Return the stored result from its stream's leader, or what the ledger has; None without both."""
        try:
            message = await self._ask(f"{self._namespace}.api.result.{self._database}.{job_id}")
        except nats.errors.NoRespondersError:
            raise NoRunner(f"no runner answers for {self._database}") from None
        if refused := _refused(message):
            if refused.code == "no_result_yet":
                return None
            raise refused
        return Result.parse(message.data)

    async def info(self) -> dict[str, Any]:
        """Return the database's kinds, effects and limits."""
        databases: list[dict[str, Any]] = (await self._service(f"databases.{self._database}"))["databases"]
        return databases[0]

    async def calls(self) -> tuple[NamedStatement, ...]:
        """Return the named statements of the database's catalog."""
        found: list[NamedStatement] = []
        first = None
        while True:
            request = json.dumps({"after": found[-1].name}).encode() if found else b""
            answer = await self._service(f"calls.{self._database}", request)
            first = first or answer
            if answer.get("catalog") != first.get("catalog"):
                raise DbrunnerError("the runners have different catalogs; ask again once all have the same")
            found += [NamedStatement.parse(raw) for raw in answer["calls"]]
            if not answer.get("more") or not answer["calls"]:
                return tuple(found)

    async def wait_healthy(self, wait: float | None, migrated: bool) -> dict[str, Any]:
        """Return the first health check that says healthy or degraded."""
        deadline, reason = Deadline(wait), ""
        while True:
            try:
                found = await self.health()
                pending = migrated and (found["checks"].get("migrations", {}).get("pending") or 0)
                if found["verdict"] != "unhealthy" and not pending:
                    return found
                reasons = "; ".join(found.get("reasons", ()))
                reason = f"{pending} migrations are pending" if pending else f"{found['verdict']}: {reasons}"
            except (TransportError, RequestRefused) as error:
                if isinstance(error, RequestRefused) and not error.retryable and error.code != "unknown_database":
                    raise
                reason = str(error)
            if deadline.over:
                raise NotHealthy(f"{self._database}: {reason}")
            await asyncio.sleep(max(0.0, deadline.left(1.0)))

    async def chunks(self, rows: RowsObject) -> AsyncGenerator[bytes, None]:
        """Yield the chunks of rows in the object store."""
        async with contextlib.aclosing(read(await self._lease.connection(), rows)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def upload_params(self, sets: Spooled) -> ParamsFrom:
        return await write_params(await self._lease.connection(), self._namespace, sets)

    def checked(self, result: Result) -> Result:
        if error := error_of(result):
            raise error
        return result

    def _checked(self, job: JobSpec, result: Result) -> Result:
        other = result.labels.get(REQUEST_LABEL)
        if other is not None and other != job.request:
            raise JobIdReused(
                _refusal(
                    self._database, job.id, "job_id_reused", "a different request used this key first; use a new one"
                )
            )
        return self.checked(result)

    async def _publish_and_wait(self, job: JobSpec, deadline: Deadline) -> Result:
        published = False
        while True:
            with contextlib.suppress(Disconnected):
                async with self._listening(job.id) as sub:  # before all else, so that no result slips through
                    if found := await self._look(job.id):
                        return found
                    if not published:
                        await self._submit(job, deadline)
                        published = True
                    return await self._await_result(job.id, sub, deadline)
            await self._pause(job.id, deadline)

    async def _await_result(self, job_id: str, sub: Subscription, deadline: Deadline) -> Result:
        while True:
            try:
                return Result.parse((await sub.next_msg(timeout=max(0.01, deadline.left(LOOK_AGAIN)))).data)
            except nats.errors.TimeoutError:
                pass
            except nats.errors.Error as error:
                raise Disconnected("the connection to NATS was lost") from error
            if found := await self._look(job_id):
                return found
            if deadline.over:
                raise self._no_result_yet(job_id)

    async def _look(self, job_id: str) -> Result | None:
        """Return the stored result, None if there is none or no answer."""
        with contextlib.suppress(Disconnected, NoStream):
            return await self.stored(job_id)
        return None

    async def _pause(self, job_id: str, deadline: Deadline) -> None:
        if deadline.over:
            raise self._no_result_yet(job_id)
        await asyncio.sleep(PAUSE)

    def _no_result_yet(self, job_id: str) -> NoResultYet:
        return NoResultYet(f"job {job_id} on {self._database} has no result yet: it continues; wait again", job_id)

    @contextlib.asynccontextmanager
    async def _listening(self, job_id: str) -> AsyncIterator[Subscription]:
        connection = await self._lease.connection()
        async with connection.subscription(self._results(job_id)) as sub:
            yield sub

    async def _request(self, job: JobSpec, deadline: Deadline) -> Result:
        """Run a job through the run endpoint. The same request again is the same job."""
        while True:
            seconds = max(0.1, deadline.left(MOST_RUN_WAIT))
            headers = {"Nats-Msg-Id": job.id, "Dbrunner-Wait": f"{round(seconds * 1000)}ms"}
            subject = f"{self._namespace}.api.run.{self._database}.{job.subject}"
            problem: DbrunnerError
            try:
                message = await self._ask(subject, job.body, headers, seconds + 2)
                refused = _refused(message)
                if refused is None:
                    return Result.parse(message.data)
                if not refused.retryable and refused.code != "no_result_yet":
                    if refused.code in JobFailed.by_code:
                        raise JobFailed.by_code[refused.code](
                            _refusal(self._database, job.id, refused.code, str(refused))
                        )
                    raise refused
                problem = self._no_result_yet(job.id) if refused.code == "no_result_yet" else refused
            except nats.errors.NoRespondersError:
                problem = NoRunner(f"no runner answers for {self._database}")
            except Disconnected:
                problem = self._no_result_yet(job.id)
            if deadline.over:
                raise problem
            await asyncio.sleep(max(0.0, deadline.left(PAUSE)))

    async def _service(
        self, request: str, payload: bytes = b"", headers: dict[str, str] | None = None, timeout: float = 6.0
    ) -> dict[str, Any]:
        try:
            message = await self._ask(f"{self._namespace}.api.{request}", payload, headers, timeout)
        except nats.errors.NoRespondersError:
            raise NoRunner(f"no runner answers for {self._database}") from None
        if refused := _refused(message):
            raise refused
        answer: dict[str, Any] = json.loads(message.data)
        return answer

    async def _ask(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, timeout: float = 6.0
    ) -> Msg:
        connection: Connection = await self._lease.connection()
        return await connection.ask(subject, payload, headers, timeout)

    def _results(self, job_id: str) -> str:
        return f"{self._namespace}.results.{self._database}.{job_id}"


async def finish(chunks: AsyncGenerator[bytes, None]) -> None:
    """Close a generator, also right after a call of it was cancelled, which takes a moment to end."""
    for _ in range(1000):
        with contextlib.suppress(RuntimeError):  # it is still running
            return await chunks.aclose()
        await asyncio.sleep(0.001)


def rows_object(answer: Answer) -> RowsObject:
    found = answer.rows_object
    if found is None:
        raise RowsUnavailable("the rows in the object store no longer exist; the result itself is still there")
    return found


def _refused(message: Msg) -> RequestRefused | None:
    text = (message.headers or {}).get("Nats-Service-Error")
    if text is None:
        return None
    if not message.data:
        return RequestRefused("busy", text, retryable=True)  # too many requests, or the runner is stopping
    error = json.loads(message.data)["error"]
    return RequestRefused(error["code"], error["message"], retryable=bool(error.get("retryable")))


def _refusal(database: str, job_id: str, code: str, message: str) -> Result:
    """Return the result of a job that a request was refused for; it is stored nowhere."""
    error = {"code": code, "message": message}
    return Result({"job_id": job_id, "database": database, "status": "rejected", "error": error}, "")
