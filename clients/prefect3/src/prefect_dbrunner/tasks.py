"""Tasks: one job each. Reads take SQL first, writes their key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun

from dbrunner import JobFailed, RequestRefused, Result, TransportError, jobs
from dbrunner.jobs import AnyStatement, MigrationAction, Params

from ._ids import KeyScope
from .blocks import DbrunnerDatabase


def retry_condition(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry what is safe and may succeed.

    Faults of the way are retried under the same id; a job that failed, if its error says so, under the next one.
    Rejected jobs, cancelled ones and unknown outcomes are not, and neither are errors of other kinds.
    """
    match state.data:
        case TransportError():
            return True
        case JobFailed() as error:
            return error.status == "failed" and error.retryable
        case RequestRefused() as error:
            return error.retryable
    return False


def job_name(parameters: dict[str, Any]) -> str:
    """Name a task run after its block and key: shop/pay-7, or shop//pay-7 if that is global. `cancel_jobs` reads it."""
    block: DbrunnerDatabase = parameters["database"]
    slashes = "//" if parameters.get("key_scope") == "global" else "/"
    return f"{block._block_document_name or block.database}{slashes}{parameters.get('key') or ''}"


_options: dict[str, Any] = {
    "retries": 5,
    "retry_delay_seconds": [1, 2, 5, 10, 30],
    "retry_condition_fn": retry_condition,
    "task_run_name": job_name,
}


@task(name="dbrunner_query", **_options)
def dbrunner_query(
    database: DbrunnerDatabase,
    sql: str,
    params: Params | None = None,
    key: str | None = None,
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.RowOptions],
) -> Result:
    """Run one statement that changes nothing."""
    return database.query(sql, params, key=key, key_scope=key_scope, **options)


@task(name="dbrunner_query_async", **_options)
async def dbrunner_query_async(
    database: DbrunnerDatabase,
    sql: str,
    params: Params | None = None,
    key: str | None = None,
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.RowOptions],
) -> Result:
    return await database.aquery(sql, params, key=key, key_scope=key_scope, **options)


@task(name="dbrunner_transaction", **_options)
def dbrunner_transaction(
    database: DbrunnerDatabase,
    key: str,
    statements: Iterable[AnyStatement],
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.TransactionOptions],
) -> Result:
    """Run statements that take effect together and once, or not at all."""
    return database.transaction(statements, key=key, key_scope=key_scope, **options)


@task(name="dbrunner_transaction_async", **_options)
async def dbrunner_transaction_async(
    database: DbrunnerDatabase,
    key: str,
    statements: Iterable[AnyStatement],
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.TransactionOptions],
) -> Result:
    return await database.atransaction(statements, key=key, key_scope=key_scope, **options)


@task(name="dbrunner_statement", **_options)
def dbrunner_statement(
    database: DbrunnerDatabase,
    key: str,
    sql: str,
    params: Params | None = None,
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.StatementOptions],
) -> Result:
    """Run one statement outside a transaction, such as VACUUM, at most once under its key."""
    return database.statement(sql, params, key=key, key_scope=key_scope, **options)


@task(name="dbrunner_statement_async", **_options)
async def dbrunner_statement_async(
    database: DbrunnerDatabase,
    key: str,
    sql: str,
    params: Params | None = None,
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.StatementOptions],
) -> Result:
    return await database.astatement(sql, params, key=key, key_scope=key_scope, **options)


@task(name="dbrunner_migrate", **_options)
def dbrunner_migrate(
    database: DbrunnerDatabase,
    key: str,
    action: MigrationAction = "up",
    target: str | None = None,
    key_scope: KeyScope = "run",
) -> Result:
    """Run schema migrations, or report on them (`status`, `validate`, `plan`)."""
    return database.migrate(action, target, key=key, key_scope=key_scope)


@task(name="dbrunner_migrate_async", **_options)
async def dbrunner_migrate_async(
    database: DbrunnerDatabase,
    key: str,
    action: MigrationAction = "up",
    target: str | None = None,
    key_scope: KeyScope = "run",
) -> Result:
    return await database.amigrate(action, target, key=key, key_scope=key_scope)


@task(name="dbrunner_call", **_options)
def dbrunner_call(
    database: DbrunnerDatabase,
    key: str,
    name: str,
    params: Mapping[str, Any] | None = None,
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.RowOptions],
) -> Result:
    """Run a named statement of the database's catalog. One that writes takes effect once under its key."""
    return database.call(name, params, key=key, key_scope=key_scope, **options)


@task(name="dbrunner_call_async", **_options)
async def dbrunner_call_async(
    database: DbrunnerDatabase,
    key: str,
    name: str,
    params: Mapping[str, Any] | None = None,
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.RowOptions],
) -> Result:
    return await database.acall(name, params, key=key, key_scope=key_scope, **options)


@task(name="dbrunner_save", **_options)
def dbrunner_save(
    database: DbrunnerDatabase,
    sql: str,
    path: str,
    params: Params | None = None,
    key: str | None = None,
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.RowOptions],
) -> str:
    """Run a query and write its rows to a file (`format`: ndjson, json, csv or parquet). Returns the path."""
    options.setdefault("format", "ndjson")
    database.save_rows(database.query(sql, params, key=key, key_scope=key_scope, **options), path)
    return path


@task(name="dbrunner_save_async", **_options)
async def dbrunner_save_async(
    database: DbrunnerDatabase,
    sql: str,
    path: str,
    params: Params | None = None,
    key: str | None = None,
    key_scope: KeyScope = "run",
    **options: Unpack[jobs.RowOptions],
) -> str:
    options.setdefault("format", "ndjson")
    await database.asave_rows(await database.aquery(sql, params, key=key, key_scope=key_scope, **options), path)
    return path


@task(name="dbrunner_wait_healthy", task_run_name="{database.database} is healthy")
def dbrunner_wait_healthy(database: DbrunnerDatabase, migrated: bool = False) -> dict[str, Any]:
    """The prerequisite of a flow: wait until jobs run in the database."""
    return database.wait_healthy(migrated=migrated)


@task(name="dbrunner_wait_healthy_async", task_run_name="{database.database} is healthy")
async def dbrunner_wait_healthy_async(database: DbrunnerDatabase, migrated: bool = False) -> dict[str, Any]:
    return await database.await_healthy(migrated=migrated)
