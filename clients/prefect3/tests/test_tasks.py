"""Blocks and tasks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet
from prefect import flow, get_client, task, unmapped
from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import SecretStr

import dbrunner
from dbrunner import Result
from dbrunner._connection import shared_loop
from prefect_dbrunner import (
    DbrunnerCredentials,
    DbrunnerDatabase,
    dbrunner_call,
    dbrunner_call_async,
    dbrunner_migrate,
    dbrunner_migrate_async,
    dbrunner_query,
    dbrunner_query_async,
    dbrunner_save,
    dbrunner_statement,
    dbrunner_statement_async,
    dbrunner_transaction,
    dbrunner_wait_healthy,
    publish_table,
    retry_condition,
    to_dataframe,
)


def test_no_secret_is_shown(fleet: Fleet) -> None:
    credentials = DbrunnerCredentials(
        user="flow", password=SecretStr("secret1"), creds=SecretStr("secret2"), token=SecretStr("secret3")
    )
    credentials.save("secrets", overwrite=True)
    loaded = DbrunnerCredentials.load("secrets")
    assert isinstance(loaded, DbrunnerCredentials)
    assert loaded.password is not None
    assert loaded.password.get_secret_value() == "secret1"
    shown = [repr(loaded), repr(loaded.get_client()), loaded.model_dump_json()]
    with get_client(sync_client=True) as client:
        document = client.read_block_document_by_name("secrets", "dbrunner-credentials", include_secrets=False)
        shown.append(document.model_dump_json())
    assert "secret1" not in "".join(shown)
    assert "secret2" not in "".join(shown)
    with pytest.raises(ValueError, match="in clear text"):
        DbrunnerCredentials(servers="nats://flow:pw@127.0.0.1")


def test_prefect_finds_the_package(flow_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "prefect", "block", "register", "-m", "prefect_dbrunner"]
    output = subprocess.run(command, env=flow_environment, check=True, capture_output=True, text=True).stdout
    assert "dbrunner Credentials" in output
    assert "dbrunner Database" in output
    from importlib.metadata import entry_points

    assert "prefect_dbrunner" in {e.value for e in entry_points(group="prefect.collections")}


def test_a_killed_task_has_one_effect(shop: DbrunnerDatabase) -> None:
    deaths = iter([True, True, False])

    @task(retries=2)
    def book() -> Result:
        result = shop.transaction(["INSERT INTO once VALUES (1)"], key="book")
        if next(deaths):
            raise RuntimeError("killed after the job and before its result was of use")
        return result

    @flow
    def nested() -> Result:
        return book()

    @flow
    def parent() -> tuple[Any, ...]:
        dbrunner_transaction(shop, "create", ["CREATE TABLE once (n integer)"])
        first = nested()
        again = dbrunner_transaction(shop, "book", ["INSERT INTO once VALUES (1)"])  # the nested flow's, by its key
        assert again.job_id == first.job_id
        return (first.job_id, shop.query("SELECT count(*) AS n FROM once").rows)

    job, rows = parent()
    assert rows == [{"n": 1}]
    assert job.endswith("-book")


def test_a_named_statement_has_one_effect(shop: DbrunnerDatabase) -> None:
    create = [
        "CREATE TABLE purses (id INTEGER PRIMARY KEY, amount INTEGER)",
        "INSERT INTO purses VALUES (7, 100), (9, 0)",
    ]
    params = {"from": 7, "to": 9, "amount": 30}

    @flow
    def pay() -> list[str]:
        shop.transaction(create, key="purses")
        return [dbrunner_call(shop, "pay", "pay", params).job_id, shop.call("pay", params, key="pay").job_id]

    first, second = pay()
    assert first == second
    assert shop.query("SELECT amount FROM purses WHERE id = 7").rows == [{"amount": 70}]

    @flow
    async def pay_again() -> Result:
        return await dbrunner_call_async(shop, "later", "purse", {"id": 9})

    assert asyncio.run(pay_again()).rows == [{"amount": 30}]


def test_statements_and_migrations_run_under_their_keys(shop: DbrunnerDatabase) -> None:
    @flow
    def maintain() -> list[str]:
        dbrunner_migrate(shop, "up")
        first = dbrunner_statement(shop, "log", "CREATE TABLE maintained (n integer)")
        return [first.job_id, shop.statement("CREATE TABLE maintained (n integer)", key="log").job_id]

    first, second = maintain()
    assert first == second

    @flow
    async def maintain_again() -> list[Result]:
        return [
            await dbrunner_migrate_async(shop, "status", "status"),
            await dbrunner_statement_async(shop, "vacuum", "VACUUM"),
        ]

    status, vacuum = asyncio.run(maintain_again())
    assert status.raw["pending_count"] == 0
    assert vacuum.status == "succeeded"


def test_retryable_failures_get_the_next_id(fleet: Fleet, shop: DbrunnerDatabase) -> None:
    lock = sqlite3.connect(fleet.folder / "shop.db", check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")
    retrying = dbrunner_transaction.with_options(retries=3, retry_delay_seconds=0)

    @flow
    def locked() -> Result:
        return retrying(shop, "locked", ["CREATE TABLE IF NOT EXISTS locked (n integer)"], timeout=1)

    threading.Timer(3, lock.rollback).start()
    result = locked()
    assert result.job_id.rpartition("-")[2].startswith("t")
    assert result.status == "succeeded"


@pytest.mark.parametrize(
    ("status", "retryable", "retried"),
    [("failed", True, True), ("failed", False, False), ("rejected", True, False), ("cancelled", True, False),
     ("expired", True, False), ("unknown", True, False)],
)  # fmt: skip
def test_what_is_retried(status: str, retryable: bool, retried: bool) -> None:
    error = {"code": "lock_timeout", "message": "", "retryable": retryable}
    result = Result({"job_id": "j", "database": "shop", "status": status, "error": error}, "")
    state: State[Any] = Failed(data=dbrunner.errors.error_of(result))
    assert retry_condition(dbrunner_query, None, state) is retried  # type: ignore[arg-type]
    assert retry_condition(dbrunner_query, None, Failed(data=dbrunner.NoRunner(""))) is True  # type: ignore[arg-type]
    assert retry_condition(dbrunner_query, None, Failed(data=ValueError())) is False  # type: ignore[arg-type]


def test_keys(shop: DbrunnerDatabase) -> None:
    with pytest.raises(RuntimeError, match="key_scope='global'"):
        shop.query("SELECT 1", key="k")
    assert shop.query("SELECT 1 AS n", key="invoice-1", key_scope="global").job_id == "invoice-1"
    with pytest.raises(ValueError, match="1 to 97"):
        shop.query("SELECT 1", key="no dots.", key_scope="global")
    with pytest.raises(TypeError):
        shop.transaction(["DELETE FROM t"])  # type: ignore[call-arg]


def test_results_as_rows_files_tables_and_frames(shop: DbrunnerDatabase, tmp_path: Path) -> None:
    sql = (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :m) SELECT n, 'row ' || n AS t FROM c"
    )

    @flow
    def export() -> None:
        few = dbrunner_query(shop, "SELECT :d AS d, :n AS n", params={"d": date(2026, 11, 1), "n": Decimal("1.5")})
        assert few.rows == [{"d": "2026-11-01", "n": 1.5}]
        many = dbrunner_query(shop, sql, params={"m": 50_000})
        assert many.offloaded
        assert len(to_dataframe(shop, many)) == 50_000
        parquet = dbrunner_query(shop, sql, params={"m": 10}, format="parquet")
        assert list(to_dataframe(shop, parquet).columns) == ["n", "t"]
        assert dbrunner_save(shop, sql, str(tmp_path / "x.csv"), params={"m": 2}, format="csv").endswith("x.csv")
        publish_table(shop, many, "many-rows", most_rows=3)

    export()
    assert (tmp_path / "x.csv").read_bytes() == b"n,t\r\n1,row 1\r\n2,row 2\r\n"
    with get_client(sync_client=True) as client:
        (artifact,) = [a for a in client.read_artifacts() if a.key == "many-rows"]
    assert json.loads(str(artifact.data)) == [{"n": n, "t": f"row {n}"} for n in (1, 2, 3)]


async def test_an_async_flow(shop: DbrunnerDatabase) -> None:
    @flow
    async def read() -> list[Any]:
        await shop.await_healthy()
        row = await dbrunner_query_async(shop, "SELECT 1 AS n", key="one")
        return [row.job_id, row.rows, (await shop.aquery("SELECT 1 AS n", key="one")).job_id]

    first, rows, second = await read()
    assert rows == [{"n": 1}]
    assert first == second


def test_mapped_tasks_share_one_connection(shop: DbrunnerDatabase) -> None:
    @flow
    def read() -> list[int]:
        dbrunner_wait_healthy(shop)
        params = [{"n": n} for n in range(200)]
        results = dbrunner_query.map(unmapped(shop), unmapped("SELECT :n AS n"), params=params).result()
        return [result.rows[0]["n"] for result in results]

    assert read() == list(range(200))
    assert len([c for c in shared_loop()._connections.values() if shop.credentials.servers in c.settings.servers]) == 1
