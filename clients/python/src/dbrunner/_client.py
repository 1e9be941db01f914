"""The asynchronous client. `dbrunner.sync` has the same names, without `await`."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Literal, Self, Unpack

from . import jobs
from ._calls import NamedStatement
from ._connection import Lease, Settings, call
from ._core import Cancellation, Core, finish, rows_object
from ._objects import spool
from ._result import Result, Row
from ._rows import FileInTheMaking, LineDecoder, inline_file
from ._running import InFlight
from .jobs import AnyStatement, JobSpec, Params, ParamsFrom

WAIT = 300.0
"""The seconds that calls wait for a result unless they say otherwise."""


def settings(
    servers: str | Sequence[str],
    credentials: str | os.PathLike[str] | None,
    credentials_text: str | None,
    user: str | None,
    password: str | None,
    token: str | None,
    tls: ssl.SSLContext | None,
    inbox_prefix: str,
    name: str,
) -> Settings:
    return Settings(
        servers=tuple(s.strip() for s in servers.split(",")) if isinstance(servers, str) else tuple(servers),
        credentials=os.fspath(credentials) if credentials else None,
        credentials_text=credentials_text,
        user=user,
        password=password,
        token=token,
        tls=tls,
        inbox_prefix=inbox_prefix,
        name=name,
    )


def connect(
    servers: str | Sequence[str] = "nats://127.0.0.1:4222",
    *,
    credentials: str | os.PathLike[str] | None = None,
    credentials_text: str | None = None,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    namespace: str = "dbrunner",
    inbox_prefix: str = "_INBOX",
    name: str = "dbrunner",
) -> Runner:
    """Return an installation of runners. `async with` connects; without it the first call does.

    `credentials` is a credentials file, `credentials_text` its content. Equal settings share one connection in the
    whole process. A lost connection is restored for as long as the runner is open.
    """
    lease = Lease(settings(servers, credentials, credentials_text, user, password, token, tls, inbox_prefix, name))
    return Runner(lease, namespace)


class Runner:
    """An installation: the runners of a namespace and their databases."""

    def __init__(self, lease: Lease, namespace: str) -> None:
        self._lease, self._namespace = lease, namespace

    def __repr__(self) -> str:
        return f"<Runner {self._namespace} at {self._lease.settings.places}>"

    async def __aenter__(self) -> Self:
        async def open_connection() -> None:
            await (await self._lease.connection()).open()

        await call(open_connection())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connection back. It closes with the last runner that uses it."""
        await call(self._lease.close())

    def database(self, name: str, *, via: Literal["stream", "run"] = "stream") -> Database:
        """Return a database. With `via="run"` jobs go through the run endpoint: one request, no subscription."""
        return Database(Core(self._lease, self._namespace, name, via), name)


class Database:
    """A database that runs jobs.

    Calls that wait for a result take `wait`, in seconds; None: no limit. After it they raise NoResultYet:
    the job continues, and the same call with the same key waits again.
    """

    def __init__(self, core: Core, name: str) -> None:
        self._core, self.name = core, name

    def __repr__(self) -> str:
        return f"<Database {self.name}>"

    async def query(
        self,
        sql: str,
        params: Params | None = None,
        *,
        key: str | None = None,
        wait: float | None = WAIT,
        **options: Unpack[jobs.RowOptions],
    ) -> Result:
        """Run one statement that changes nothing."""
        return await self.run(jobs.query(sql, params, key=key, **options), wait=wait)

    async def transaction(
        self,
        statements: Iterable[AnyStatement],
        *,
        key: str,
        wait: float | None = WAIT,
        **options: Unpack[jobs.TransactionOptions],
    ) -> Result:
        """Run statements that take effect together and once, or not at all."""
        return await self.run(jobs.transaction(statements, key=key, **options), wait=wait)

    async def statement(
        self,
        sql: str,
        params: Params | None = None,
        *,
        key: str,
        wait: float | None = WAIT,
        **options: Unpack[jobs.StatementOptions],
    ) -> Result:
        """Run one statement outside a transaction, at most once."""
        return await self.run(jobs.statement(sql, params, key=key, **options), wait=wait)

    async def call(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str,
        wait: float | None = WAIT,
        **options: Unpack[jobs.RowOptions],
    ) -> Result:
        """Run a named statement of the database's catalog. One that writes takes effect once under its key."""
        return await self.run(jobs.call(name, params, key=key, **options), wait=wait)

    async def dry_run(
        self,
        statements: Iterable[AnyStatement],
        *,
        key: str | None = None,
        wait: float | None = WAIT,
        **options: Unpack[jobs.DryRunOptions],
    ) -> Result:
        """Execute statements and roll them back: the result shows what a transaction with them would do."""
        return await self.run(jobs.dry_run(statements, key=key, **options), wait=wait)

    async def dry_run_call(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        wait: float | None = WAIT,
        **options: Unpack[jobs.RowOptions],
    ) -> Result:
        """Execute a named statement and roll it back."""
        return await self.run(jobs.dry_run_call(name, params, key=key, **options), wait=wait)

    async def approve(
        self, dry_run: Result, *, wait: float | None = WAIT, **options: Unpack[jobs.RowOptions]
    ) -> Result:
        """Execute a dry run again and commit it, if its effect is the same; otherwise raise `EffectChanged`."""
        return await self.run(jobs.approve(dry_run, **options), wait=wait)

    async def migrate(
        self,
        action: jobs.MigrationAction = "up",
        target: str | None = None,
        *,
        key: str | None = None,
        out_of_order: bool = False,
        wait: float | None = None,
        **options: Unpack[jobs.CommonOptions],
    ) -> Result:
        """Run schema migrations, or report on them (`status`, `validate`, `plan`)."""
        return await self.run(jobs.migration(action, target, key=key, out_of_order=out_of_order, **options), wait=wait)

    async def run(self, job: JobSpec, *, wait: float | None = WAIT) -> Result:
        """Submit a job and return its result. Raises JobFailed or OutcomeUnknown unless it succeeded."""
        return await call(self._core.execute(job, wait))

    async def submit(self, job: JobSpec, *, wait: float | None = WAIT) -> Job:
        """Publish a job and return once the stream has it."""
        await call(self._core.submit(job, wait))
        return self.job(job.id)

    def job(self, key: str) -> Job:
        """Return a job that was submitted before, perhaps by another process."""
        return Job(self, self._core, key)

    async def rows(self, result: Result, *, statement: int | None = None) -> AsyncGenerator[Row, None]:
        """Yield the rows of a result, however many there are. `statement` counts a transaction's statements from 0."""
        answer = result.answer(statement)
        if not answer.offloaded:
            for row in answer.rows:
                yield row
            return
        decoder = LineDecoder(rows_object(answer), answer.decoder())
        chunks = self._core.chunks(rows_object(answer))
        try:
            while chunk := await call(anext(chunks, b"")):
                for row in decoder.feed(chunk):
                    yield row
        finally:
            await call(finish(chunks))

    async def save(self, result: Result, path: str | os.PathLike[str], *, statement: int | None = None) -> None:
        """Write the rows of a result to a file, which appears only when it is complete and its digest is right."""
        answer = result.answer(statement)
        with FileInTheMaking(path) as file:
            if not answer.offloaded:
                file.write(inline_file(answer, file.path))
            else:
                chunks = self._core.chunks(rows_object(answer))
                try:
                    while chunk := await call(anext(chunks, b"")):
                        file.write(chunk)
                finally:
                    await call(finish(chunks))
            file.complete()

    async def upload_params(self, sets: Iterable[Params]) -> ParamsFrom:
        """Store parameter sets that do not fit into a job; give the answer to Statement(params_from=…)."""
        with spool(sets) as spooled:
            return await call(self._core.upload_params(spooled))

    async def health(self) -> dict[str, Any]:
        """Return a health check that a runner makes now."""
        return await call(self._core.health())

    async def running(self, *, wait: float = 0.75) -> InFlight:
        """Return the jobs in flight. Every runner answers for itself; `wait` is for those that do not answer."""
        return await call(self._core.running(wait))

    async def wait_healthy(self, *, wait: float | None = WAIT, migrated: bool = False) -> dict[str, Any]:
        """Return as soon as the database is healthy or degraded and, if asked, has no pending migrations."""
        return await call(self._core.wait_healthy(wait, migrated))

    async def calls(self) -> tuple[NamedStatement, ...]:
        """Return the named statements that `call` can run."""
        return await call(self._core.calls())

    async def info(self) -> dict[str, Any]:
        """Return the database's engine, kinds and limits."""
        return await call(self._core.info())


class Job:
    """A submitted job. It can be made again in any process, from its database and key."""

    def __init__(self, database: Database, core: Core, key: str) -> None:
        self._database, self._core, self.id = database, core, key

    def __repr__(self) -> str:
        return f"<Job {self.id} on {self._database.name}>"

    async def wait(self, wait: float | None = WAIT) -> Result:
        """Return the result. Raises JobFailed or OutcomeUnknown unless the job succeeded."""
        return self._core.checked(await call(self._core.wait(self.id, wait)))

    async def result(self) -> Result | None:
        """Return the stored result whatever its status, None if there is none yet."""
        return await call(self._core.stored(self.id))

    async def recorded(self) -> Result | None:
        """Return the stored result, or what the ledger has when that has expired. A runner answers."""
        return await call(self._core.recorded(self.id))

    async def cancel(self, *, wait: float = 2.0) -> Cancellation:
        """Cancel the job, wherever it is. `requested` means that its result has the outcome."""
        return await call(self._core.cancel(self.id, wait))

    async def rows(self, *, wait: float | None = WAIT, statement: int | None = None) -> AsyncGenerator[Row, None]:
        """Wait, then yield the rows."""
        rows = self._database.rows(await self.wait(wait), statement=statement)
        try:
            async for row in rows:
                yield row
        finally:
            await rows.aclose()

    async def save(
        self, path: str | os.PathLike[str], *, wait: float | None = WAIT, statement: int | None = None
    ) -> Result:
        """Wait, then write the rows to a file."""
        result = await self.wait(wait)
        await self._database.save(result, path, statement=statement)
        return result
