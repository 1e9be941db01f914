"""Blocks: how to reach dbrunner, and one of its databases.

All blocks with the same settings share one connection in the process, however many threads and tasks use them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Unpack

from prefect.blocks.abstract import CredentialsBlock
from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator

import dbrunner
import dbrunner.sync
from dbrunner import Result, jobs
from dbrunner.jobs import AnyStatement, JobSpec, MigrationAction, Params

from ._ids import KeyScope, current_attempt, current_attempt_async, job_id, read_id


class DbrunnerCredentials(CredentialsBlock):
    """How to connect to NATS."""

    _block_type_name = "dbrunner Credentials"
    _block_type_slug = "dbrunner-credentials"

    servers: str = Field(
        default="nats://127.0.0.1:4222", description="URLs of NATS servers, with commas, without passwords"
    )
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    creds: SecretStr | None = Field(default=None, description="The text of a credentials file")
    inbox_prefix: str = Field(
        default="_INBOX", description="The first tokens of reply subjects that the user may receive"
    )

    @field_validator("servers")
    @classmethod
    def _without_secrets(cls, servers: str) -> str:
        if "@" in servers:
            raise ValueError("servers are stored in clear text: put user and password into their own fields")
        return servers

    def get_client(self, namespace: str = "dbrunner") -> dbrunner.sync.Runner:
        """Return the process's shared client. Do not close it."""
        return _sync_runner(namespace, *self._settings())

    def get_async_client(self, namespace: str = "dbrunner") -> dbrunner.Runner:
        """Return the process's shared client for code in an event loop. Do not close it."""
        return _async_runner(namespace, *self._settings())

    def _settings(self) -> tuple[str | None, ...]:
        secrets = (s.get_secret_value() if s else None for s in (self.password, self.token, self.creds))
        return (self.servers, self.user, *secrets, self.inbox_prefix)


@lru_cache
def _sync_runner(namespace: str, *settings: str | None) -> dbrunner.sync.Runner:
    return dbrunner.sync.connect(**_arguments(namespace, settings))


@lru_cache
def _async_runner(namespace: str, *settings: str | None) -> dbrunner.Runner:
    return dbrunner.connect(**_arguments(namespace, settings))


def _arguments(namespace: str, settings: tuple[str | None, ...]) -> dict[str, Any]:
    names = ("servers", "user", "password", "token", "credentials_text", "inbox_prefix")
    return dict(zip(names, settings, strict=True)) | {"namespace": namespace, "name": "prefect-dbrunner"}


class DbrunnerDatabase(Block):
    """A database that runs jobs. Methods whose names begin with `a` are for flows with an event loop.

    A key is unique in the root flow run: a retried task or flow has the same effect once. `key_scope="global"` makes
    the key the whole id. Writes require one.
    """

    _block_type_name = "dbrunner Database"
    _block_type_slug = "dbrunner-database"

    credentials: DbrunnerCredentials = Field(default_factory=lambda: DbrunnerCredentials())
    database: str
    namespace: str = "dbrunner"
    timeout_seconds: float = Field(default=300, description="How long to wait for a result. The job itself continues.")

    def get_database(self) -> dbrunner.sync.Database:
        """Return the client's database, with everything that it can do."""
        return self.credentials.get_client(self.namespace).database(self.database)

    def get_async_database(self) -> dbrunner.Database:
        return self.credentials.get_async_client(self.namespace).database(self.database)

    def query(
        self,
        sql: str,
        params: Params | None = None,
        *,
        key: str | None = None,
        key_scope: KeyScope = "run",
        **options: Unpack[jobs.RowOptions],
    ) -> Result:
        """Run one statement that changes nothing."""
        return self._run(jobs.query(sql, params, key=read_id(key, key_scope), **options))

    async def aquery(
        self,
        sql: str,
        params: Params | None = None,
        *,
        key: str | None = None,
        key_scope: KeyScope = "run",
        **options: Unpack[jobs.RowOptions],
    ) -> Result:
        return await self._arun(jobs.query(sql, params, key=read_id(key, key_scope), **options))

    def transaction(
        self,
        statements: Iterable[AnyStatement],
        *,
        key: str,
        key_scope: KeyScope = "run",
        **options: Unpack[jobs.TransactionOptions],
    ) -> Result:
        """Run statements that take effect together and once, or not at all."""
        return self._run(jobs.transaction(statements, key=job_id(key, key_scope), **options))

    async def atransaction(
        self,
        statements: Iterable[AnyStatement],
        *,
        key: str,
        key_scope: KeyScope = "run",
        **options: Unpack[jobs.TransactionOptions],
    ) -> Result:
        return await self._arun(jobs.transaction(statements, key=job_id(key, key_scope), **options))

    def statement(
        self,
        sql: str,
        params: Params | None = None,
        *,
        key: str,
        key_scope: KeyScope = "run",
        **options: Unpack[jobs.StatementOptions],
    ) -> Result:
        """Run one statement outside a transaction, such as VACUUM, at most once under its key."""
        return self._run(jobs.statement(sql, params, key=job_id(key, key_scope), **options))

    async def astatement(
        self,
        sql: str,
        params: Params | None = None,
        *,
        key: str,
        key_scope: KeyScope = "run",
        **options: Unpack[jobs.StatementOptions],
    ) -> Result:
        return await self._arun(jobs.statement(sql, params, key=job_id(key, key_scope), **options))

    def call(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str,
        key_scope: KeyScope = "run",
        **options: Unpack[jobs.RowOptions],
    ) -> Result:
        """Run a named statement of the database's catalog. One that writes takes effect once under its key."""
        return self._run(jobs.call(name, params, key=job_id(key, key_scope), **options))

    async def acall(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        *,
        key: str,
        key_scope: KeyScope = "run",
        **options: Unpack[jobs.RowOptions],
    ) -> Result:
        return await self._arun(jobs.call(name, params, key=job_id(key, key_scope), **options))

    def migrate(
        self, action: MigrationAction = "up", target: str | None = None, *, key: str, key_scope: KeyScope = "run"
    ) -> Result:
        """Run schema migrations, or report on them (`status`, `validate`, `plan`)."""
        return self._run(jobs.migration(action, target, key=job_id(key, key_scope)))

    async def amigrate(
        self, action: MigrationAction = "up", target: str | None = None, *, key: str, key_scope: KeyScope = "run"
    ) -> Result:
        return await self._arun(jobs.migration(action, target, key=job_id(key, key_scope)))

    def save_rows(self, result: Result, path: str | os.PathLike[str], *, statement: int | None = None) -> None:
        """Write the rows of a result to a file, which appears only when it is complete and its digest is right."""
        self.get_database().save(result, path, statement=statement)

    async def asave_rows(self, result: Result, path: str | os.PathLike[str], *, statement: int | None = None) -> None:
        await self.get_async_database().save(result, path, statement=statement)

    def wait_healthy(self, *, migrated: bool = False) -> dict[str, Any]:
        """Return as soon as jobs run here and, if asked, no migrations are pending."""
        return self.get_database().wait_healthy(wait=self.timeout_seconds, migrated=migrated)

    async def await_healthy(self, *, migrated: bool = False) -> dict[str, Any]:
        return await self.get_async_database().wait_healthy(wait=self.timeout_seconds, migrated=migrated)

    def _run(self, job: JobSpec) -> Result:
        database = self.get_database()
        return database.run(job.under(current_attempt(database, job.id)), wait=self.timeout_seconds)

    async def _arun(self, job: JobSpec) -> Result:
        database = self.get_async_database()
        return await database.run(job.under(await current_attempt_async(database, job.id)), wait=self.timeout_seconds)
