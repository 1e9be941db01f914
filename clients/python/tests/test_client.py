"""The client against real servers."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import nats
import pytest
from fleet import Fleet

import dbrunner
import dbrunner.sync
from dbrunner import Statement, Typed, jobs
from dbrunner._connection import call, shared_loop
from dbrunner._running import Collector

Key = Callable[[str], str]
SERIES = (
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :m) SELECT n, 'row ' || n AS t FROM c"
)


@pytest.fixture
async def runner(fleet: Fleet) -> AsyncIterator[dbrunner.Runner]:
    async with dbrunner.connect(fleet.url) as runner:
        yield runner


@pytest.fixture
async def shop(runner: dbrunner.Runner) -> dbrunner.Database:
    shop = runner.database("shop")
    await shop.wait_healthy(wait=60)
    return shop


async def count(database: dbrunner.Database, table: str) -> int:
    return int((await database.query(f"SELECT count(*) AS n FROM {table}")).rows[0]["n"])


async def test_query(shop: dbrunner.Database) -> None:
    result = await shop.query("SELECT :n AS n, x'00ff' AS b, 9007199254740993 AS big, NULL AS z, 1.0 AS f", {"n": 7})
    assert result.rows == [{"n": 7, "b": b"\x00\xff", "big": 9007199254740993, "z": None, "f": 1.0}]
    assert list(result) == result.rows
    arrays = await shop.query("SELECT :n AS n, 2 AS n", {"n": Decimal("12.50")}, row_format="arrays")
    assert arrays.rows == [(12.5, 2)]


async def test_values_of_postgres_are_lossless(runner: dbrunner.Runner, postgres: str | None) -> None:
    if postgres is None:
        pytest.skip("no PostgreSQL is installed")
    pg = runner.database("pg")
    await pg.wait_healthy(wait=60)
    values = {
        "n": Decimal("123456789012345678901234567890.1234567890"),
        "d": date(2026, 11, 1),
        "t": datetime(2026, 11, 1, 12, 30, 1, 123456, tzinfo=UTC),
        "u": UUID(int=7),
        "b": Typed("bytea", b"\x00\xff"),
        "big": 2**62,
        "j": Typed("jsonb", {"a": [1, None]}),
    }
    sql = (
        "SELECT :n::numeric AS n, :d::date AS d, :t::timestamptz AS t, :u::uuid AS u, :b AS b, :big::bigint AS big, "
        ":j AS j, 'infinity'::date AS forever, 1.5::float8 AS f, ARRAY[1, 2] AS a, NULL::uuid AS z"
    )
    assert (await pg.query(sql, values)).rows == [
        {
            **values,
            "b": b"\x00\xff",
            "j": {"a": [1, None]},
            "forever": "infinity",
            "f": 1.5,
            "a": "{1,2}",
            "z": None,
        }
    ]


async def test_a_key_has_one_effect(shop: dbrunner.Database, key: Key) -> None:
    await shop.transaction(["CREATE TABLE once (n integer)"], key=key("create"))
    for database in (shop, shop, dbrunner.Database(shop._core, "shop")):
        result = await database.transaction([("INSERT INTO once VALUES (:n)", {"n": 1})], key=key("insert"))
        assert result.statements[0].rows_affected == 1
    assert await count(shop, "once") == 1


@pytest.mark.parametrize("via", ["stream", "run"])
async def test_another_request_with_the_key(
    runner: dbrunner.Runner, shop: dbrunner.Database, key: Key, via: str
) -> None:
    await shop.query("SELECT 1 AS n", key=key("k"))
    with pytest.raises(dbrunner.JobIdReused):
        await runner.database("shop", via="run" if via == "run" else "stream").query("SELECT 2 AS n", key=key("k"))


async def test_run_endpoint(runner: dbrunner.Runner, shop: dbrunner.Database, key: Key) -> None:
    database = runner.database("shop", via="run")
    assert (await database.query("SELECT 1 AS n")).rows == [{"n": 1}]
    with pytest.raises(dbrunner.UndefinedObject):
        await database.query("SELECT * FROM nowhere")
    with pytest.raises(dbrunner.NoResultYet):
        await database.query(SERIES, {"m": 20_000_000}, key=key("long"), wait=0.2)
    await database.job(key("long")).cancel()


async def test_outcomes(shop: dbrunner.Database, key: Key) -> None:
    with pytest.raises(dbrunner.SyntaxError):
        await shop.query("SELECT FROM FROM")
    with pytest.raises(dbrunner.ParameterError, match=r"params\.x: missing"):
        await shop.query("SELECT :x")
    await shop.transaction(["CREATE TABLE outcomes (n integer)"], key=key("create"))
    with pytest.raises(dbrunner.ExpectRowsFailed) as failed:
        await shop.transaction([Statement("DELETE FROM outcomes", expect_rows=1)], key=key("expect"))
    assert failed.value.result.job_id == key("expect")
    with pytest.raises(dbrunner.Expired) as expired:
        await shop.query("SELECT 1 AS n", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert expired.value.status == "expired"
    with pytest.raises(dbrunner.Timeout):
        await shop.query(SERIES, {"m": 100_000_000}, timeout="200ms")


async def test_cancel(shop: dbrunner.Database) -> None:
    job = await shop.submit(jobs.query("SELECT max(n) FROM (" + SERIES + ")", {"m": 1_000_000_000}))
    cancelled = asyncio.ensure_future(job.cancel(wait=30))
    with pytest.raises(dbrunner.Cancelled):
        await job.wait(60)
    assert (await cancelled).outcome in ("cancelled", "already_finished")
    assert (await job.cancel()).status == "cancelled"


async def test_waiting_elsewhere_and_again(shop: dbrunner.Database, key: Key) -> None:
    job = shop.job(key("later"))
    with pytest.raises(dbrunner.NoResultYet) as early:
        await job.wait(0.1)
    assert early.value.job_id == job.id
    assert await job.result() is None
    waiting = asyncio.ensure_future(job.wait(60))
    await shop.submit(jobs.query("SELECT 1 AS n", key=job.id))
    assert (await waiting).rows == [{"n": 1}]


async def test_statement_migration_and_health(shop: dbrunner.Database, key: Key) -> None:
    assert (await shop.statement("VACUUM", key=key("vacuum"))).status == "succeeded"
    assert (await shop.migrate("status")).raw["pending_count"] == 1
    with pytest.raises(dbrunner.NotHealthy, match="1 migrations are pending"):
        await shop.wait_healthy(wait=0, migrated=True)
    assert (await shop.migrate(key=key("up"))).raw["version_after"] == "1"
    await shop.wait_healthy(wait=60, migrated=True)
    assert (await shop.run(jobs.health(["connection", "pool"]))).raw["checks"].keys() == {"connection", "pool"}
    assert "pool" in (await shop.health())["checks"]
    assert (await shop.info())["engine"] == "sqlite"


async def test_calls(runner: dbrunner.Runner, shop: dbrunner.Database, fleet: Fleet, key: Key) -> None:
    create = [
        "CREATE TABLE purses (id INTEGER PRIMARY KEY, amount INTEGER)",
        "INSERT INTO purses VALUES (7, 100), (9, 0)",
    ]
    await shop.transaction(create, key=key("create"))
    params = {"from": 7, "to": 9, "amount": 30}
    for _ in range(2):
        paid = await shop.call("pay", params, key=key("pay"))
        assert paid.raw["call"]["name"] == "pay"
    assert (await runner.database("shop", via="run").call("purse", {"id": 7}, key=key("purse"))).rows == [
        {"amount": 70}
    ]
    with pytest.raises(dbrunner.UnknownCall):
        await shop.call("pya", params, key=key("pya"))
    with pytest.raises(dbrunner.JobIdReused):
        await shop.call("pay", {**params, "amount": 31}, key=key("pay"))
    with pytest.raises(ValueError, match="a-z 0-9 _"):
        jobs.call("pay.all", key="x")
    found = await shop.calls()
    assert [(c.name, c.effect) for c in found] == [("pay", "exactly_once"), ("purse", "read_only")]
    assert found[0].schema["required"] == ["amount", "from", "to"]
    with dbrunner.sync.connect(fleet.url) as blocking:
        assert blocking.database("shop").calls() == found
        assert blocking.database("billing").calls() == ()
        assert blocking.database("shop").call("pay", params, key=key("pay")).raw == paid.raw


async def test_dry_runs_and_approvals(shop: dbrunner.Database, fleet: Fleet, key: Key) -> None:
    create = ["CREATE TABLE tills (id INTEGER PRIMARY KEY, open INTEGER)", "INSERT INTO tills VALUES (1, 1), (2, 1)"]
    await shop.transaction(create, key=key("create"))
    close = ["UPDATE tills SET open = 0 WHERE open = 1 RETURNING id"]
    shown = await shop.dry_run(close, key=key("close"))
    assert shown.request == {"statements": [{"sql": close[0]}]}
    assert shown.statements[0].rows == [{"id": 1}, {"id": 2}]
    assert shown.answer().rows_affected == 2
    assert (await shop.query("SELECT sum(open) AS n FROM tills")).rows == [{"n": 2}]
    late = await shop.dry_run(close, key=key("late"))
    assert late.effect_digest == shown.effect_digest
    for _ in range(2):
        approved = await shop.approve(shown)
        assert approved.job_id == shown.job_id + "_approved"
    assert (await shop.query("SELECT sum(open) AS n FROM tills")).rows == [{"n": 0}]
    with pytest.raises(dbrunner.EffectChanged):
        await shop.approve(late)
    with pytest.raises(ValueError, match="no dry run"):
        jobs.approve(approved)
    with pytest.raises(ValueError, match="at most 90"):
        jobs.dry_run(close, key="x" * 91)
    many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 250) SELECT n FROM n"
    cut = (await shop.dry_run([many])).statements[0]
    assert (cut.row_count, cut.rows_omitted, len(cut.rows)) == (250, 150, 100)
    with dbrunner.sync.connect(fleet.url) as blocking:
        sync = blocking.database("shop")
        again = sync.dry_run(close)
        assert sync.approve(again).rows_affected is None
        with pytest.raises(dbrunner.UnknownCall):
            sync.dry_run_call("nosuch")


async def test_rows_as_rows_and_as_files(shop: dbrunner.Database, tmp_path: Path) -> None:
    result = await shop.query(SERIES, {"m": 50_000})
    assert result.offloaded
    with pytest.raises(dbrunner.RowsUnavailable, match="object store"):
        _ = result.rows
    rows = [row async for row in shop.rows(result)]
    assert len(rows) == 50_000
    assert rows[-1] == {"n": 50_000, "t": "row 50000"}
    for compression in ("gzip", "zstd"):
        job = await shop.submit(jobs.query(SERIES, {"m": 30_000}, compression=compression))
        assert [row async for row in job.rows()] == rows[:30_000]
    csv = await shop.submit(jobs.query(SERIES, {"m": 3}, format="csv", compression="gzip"))
    await csv.save(tmp_path / "rows.csv.gz")
    assert gzip.decompress((tmp_path / "rows.csv.gz").read_bytes()) == b"n,t\r\n1,row 1\r\n2,row 2\r\n3,row 3\r\n"
    with pytest.raises(dbrunner.RowsUnavailable, match="csv file"):
        _ = [row async for row in csv.rows()]
    await shop.save(await shop.query("SELECT 1 AS n"), tmp_path / "one.ndjson")
    assert (tmp_path / "one.ndjson").read_bytes() == b'{"n":1}\n'
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.ndjson", "rows.csv.gz"]


async def test_a_wrong_digest_leaves_no_file(shop: dbrunner.Database, tmp_path: Path) -> None:
    result = await shop.query(SERIES, {"m": 10}, output="object")
    result.raw["rows_object"]["digest"] = "SHA-256=" + "A" * 43 + "="
    with pytest.raises(dbrunner.DigestMismatch):
        await shop.save(result, tmp_path / "rows.ndjson")
    assert list(tmp_path.iterdir()) == []


async def test_bulk_input(shop: dbrunner.Database, key: Key) -> None:
    await shop.transaction(["CREATE TABLE bulk (n integer, t text)"], key=key("create"))
    batch = Statement("INSERT INTO bulk VALUES (:n, :t)", batch=[{"n": 1, "t": "a"}, {"n": 2, "t": "b"}])
    await shop.transaction([batch], key=key("batch"))
    for _ in range(2):  # a second attempt stores the same object again
        sets = await shop.upload_params({"n": n, "t": "text " * 10} for n in range(50_000))
        insert = Statement("INSERT INTO bulk VALUES (:n, :t)", params_from=sets, expect_rows=50_000)
        await shop.transaction([insert], key=key("load"))
    assert await count(shop, "bulk") == 50_002


async def test_what_is_not_there(runner: dbrunner.Runner) -> None:
    with pytest.raises(dbrunner.NoStream, match=r"dbrunner\.jobs\.nothing\.query"):
        await runner.database("nothing").query("SELECT 1", wait=0.1)
    with pytest.raises(dbrunner.NotHealthy, match="no runner has the database nothing"):
        await runner.database("nothing").wait_healthy(wait=0)


async def test_a_paused_database_waits_and_reports_by_whom(runner: dbrunner.Runner, fleet: Fleet) -> None:
    billing = runner.database("billing")
    await billing.wait_healthy(wait=60)
    nc = await nats.connect(fleet.url)
    bucket = await nc.jetstream().key_value("DBRUNNER_STATE")
    await bucket.put("pause.billing", b'{"reason": "upgrade", "by": "ada"}')
    try:
        async with asyncio.timeout(60):
            while (await billing.health())["verdict"] != "unhealthy":
                await asyncio.sleep(0.05)
        with pytest.raises(dbrunner.NotHealthy, match="paused by ada: upgrade"):
            await billing.wait_healthy(wait=0)
        waits = asyncio.create_task(billing.wait_healthy(wait=60))
        await asyncio.sleep(0)
        assert not waits.done()
    finally:
        await bucket.delete("pause.billing")
    found = await waits
    assert found["verdict"] != "unhealthy", found["reasons"]
    assert not any("paused" in reason or "bucket" in reason for reason in found["reasons"])
    await nc.close()


def test_sync_from_many_threads_shares_one_connection(fleet: Fleet) -> None:
    def work(n: int) -> tuple[object, int]:
        with dbrunner.sync.connect(fleet.url) as runner:
            (row,) = runner.database("shop").query("SELECT :n", {"n": n}, row_format="arrays").rows
            return runner._lease._connection, row[0]

    with dbrunner.sync.connect(fleet.url) as runner, ThreadPoolExecutor(50) as threads:
        runner.database("shop").wait_healthy(wait=60)
        found = list(threads.map(work, range(50)))
        assert [n for _, n in found] == list(range(50))
        assert {connection for connection, _ in found} == {runner._lease._connection}
    assert shared_loop()._connections == {}


def test_sync_rows_and_files(fleet: Fleet, tmp_path: Path) -> None:
    with dbrunner.sync.connect(fleet.url) as runner:
        shop = runner.database("shop")
        job = shop.submit(jobs.query(SERIES, {"m": 30_000}, format="ndjson"))
        assert sum(1 for _ in job.rows()) == 30_000
        job.save(tmp_path / "rows.ndjson")
        assert (tmp_path / "rows.ndjson").read_bytes().count(b"\n") == 30_000
        assert shop.job(job.id).result() is not None


async def test_running(shop: dbrunner.Database, key: Key) -> None:
    job = await shop.submit(jobs.query("SELECT max(n) FROM (" + SERIES + ")", {"m": 1_000_000_000}, key=key("long")))
    found = await shop.running(wait=30)
    while not any(j.job_id == job.id and j.state == "executing" for j in found.jobs):
        found = await shop.running(wait=30)
    (one,) = (j for j in found.jobs if j.job_id == job.id)
    assert one.kind == "query"
    assert one.runner in found.runners
    assert (one.deliveries, one.attempts, one.lease_lost) == (1, 1, False)
    assert one.executing_since is not None
    assert one.since <= one.executing_since
    assert found.missing == ()
    assert found.unlisted is None
    await job.cancel(wait=30)


async def test_running_without_runners(runner: dbrunner.Runner) -> None:
    with pytest.raises(dbrunner.RequestRefused, match="no runner has the database nothing"):
        await runner.database("nothing").running(wait=30)


def test_running_takes_only_answers() -> None:
    collector = Collector("shop")
    job = {"job_id": "a", "kind": "query", "state": "waiting", "deliveries": 1, "attempts": 0}
    job["since"] = "2026-03-01T12:00:00Z"
    whole = {"runner": "r1", "process": "p", "database": "shop", "at": "2026-03-01T12:00:01Z", "part": 1, "parts": 2}
    whole["jobs"] = [job]
    wrongs: list[dict[str, object]] = [
        {"part": 0},
        {"part": 3},
        {"parts": 2_000_000_000},
        {"part": "x"},
        {"database": "audit"},
        {"jobs": [{}]},
    ]
    for wrong in wrongs:
        collector.answer(json.dumps({**whole, **wrong}).encode())
    for text in (b"", b"no JSON", b"[]", b"{}", b"\xff"):
        collector.answer(text)
    assert not collector.any
    collector.answer(json.dumps(whole).encode())
    half = collector.result()
    assert [m.runner for m in half.missing] == ["r1"]
    assert [(j.job_id, j.seconds) for j in half.jobs] == [("a", 1.0)]
    collector.answer(json.dumps({**whole, "part": 2}).encode())
    assert collector.result().runners == ("r1",)


async def test_recorded(shop: dbrunner.Database, key: Key) -> None:
    assert await shop.job(key("never")).recorded() is None
    await shop.transaction(["CREATE TABLE recorded (n integer)"], key=key("create"))
    recorded = await shop.job(key("create")).recorded()
    assert recorded is not None
    assert recorded.status == "succeeded"
    purge = json.dumps({"filter": f"dbrunner.results.shop.{key('create')}"}).encode()
    await call(shop._core._ask("$JS.API.STREAM.PURGE.DBRUNNER_RESULTS_shop", purge))
    assert await shop.job(key("create")).result() is None
    recorded = await shop.job(key("create")).recorded()
    assert recorded is not None
    assert recorded.duplicate
