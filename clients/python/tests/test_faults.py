"""The client while servers are killed and started again, and with permissions that do not suffice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet import Fleet, restricted_users

import dbrunner
from dbrunner import jobs

Key = Callable[[str], str]


@pytest.fixture
def restricted_fleet(binaries: Path, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(binaries, tmp_path, users=restricted_users("pw"))
    fleet.start()
    yield fleet
    fleet.stop()


async def test_permissions(restricted_fleet: Fleet, tmp_path: Path, key: Key) -> None:
    url = restricted_fleet.url
    async with dbrunner.connect(url, user="flow", password="pw", inbox_prefix="_INBOX.flow") as runner:
        shop = runner.database("shop")
        await shop.wait_healthy(wait=60)
        job = await shop.submit(jobs.query("SELECT 1 AS n", format="csv", key=key("csv")))
        await job.save(tmp_path / "x.csv")
        assert (tmp_path / "x.csv").read_bytes() == b"n\r\n1\r\n"
        found = await shop.running(wait=5)
        assert len(found.runners) == 1
        assert found.unlisted is not None
        assert "STREAM.MSG.GET.DBRUNNER_HEALTH".lower() in found.unlisted.lower()
        assert await job.recorded() is not None
        with pytest.raises(dbrunner.AccessDenied, match=r"dbrunner\.api\.running\.pg"):
            await runner.database("pg").running()
        with pytest.raises(dbrunner.AccessDenied, match=r"may not publish dbrunner\.jobs\.shop\.statement"):
            await shop.statement("VACUUM", key=key("vacuum"))
    async with dbrunner.connect(url, user="flow", password="pw") as runner:
        with pytest.raises(dbrunner.AccessDenied, match="set inbox_prefix"):
            await runner.database("shop").query("SELECT 1")
    with pytest.raises(dbrunner.ConnectionFailed) as refused:
        async with dbrunner.connect(url, user="flow", password="wrong"):
            pass
    assert "wrong" not in str(refused.value)


async def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbrunner._connection.CONNECT_TIMEOUT", 1.0)
    with pytest.raises(dbrunner.ConnectionFailed, match=r"no connection to NATS at 127\.0\.0\.1:1"):
        async with dbrunner.connect("nats://user:secret@127.0.0.1:1") as runner:
            await runner.database("shop").health()


async def test_servers_are_killed_meanwhile(own_fleet: Fleet, key: Key, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with dbrunner.connect(own_fleet.url) as runner:
        shop = runner.database("shop")
        await shop.wait_healthy(wait=60)
        await shop.transaction(["CREATE TABLE booked (n integer)"], key=key("create"))

        async def book(n: int) -> None:
            await shop.transaction([("INSERT INTO booked VALUES (:n)", {"n": n})], key=key(str(n)), wait=None)

        async def trouble() -> None:
            for _ in range(2):
                await asyncio.sleep(0.3)
                await asyncio.to_thread(own_fleet.nats.kill)
                await asyncio.sleep(0.5)
                await asyncio.to_thread(own_fleet.start_nats)
                await asyncio.to_thread(own_fleet.runner.kill)
                own_fleet.runner.start()
                await shop.wait_healthy(wait=60)

        async def keep_booking() -> None:
            for start in range(0, 300, 50):
                await asyncio.gather(*(book(n) for n in range(start, start + 50)))

        await asyncio.gather(keep_booking(), trouble())
        counted = await shop.query("SELECT count(*) AS n, count(DISTINCT n) AS d FROM booked")
        assert counted.rows == [{"n": 300, "d": 300}]
    texts = [record.getMessage().partition(":")[0] for record in caplog.records if record.name != "asyncio"]
    assert texts == ["connection to NATS lost", "connection to NATS restored"] * 2
    assert [
        r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "lost" not in r.getMessage()
    ] == []


async def test_an_unknown_outcome(own_fleet: Fleet, key: Key) -> None:
    async with dbrunner.connect(own_fleet.url) as runner:
        shop = runner.database("shop")
        await shop.wait_healthy(wait=60)
        series = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000000) SELECT n FROM c"
        job = await shop.submit(jobs.statement(f"CREATE TABLE big AS {series}", key=key("statement")))
        ledger = "SELECT count(*) AS n FROM dbrunner_ledger WHERE job_id = :id"
        while not (await shop.query(ledger, {"id": job.id})).rows[0]["n"]:
            await asyncio.sleep(0.1)
        own_fleet.runner.kill()
        own_fleet.runner.start()
        with pytest.raises(dbrunner.OutcomeUnknown) as unknown:
            await job.wait(90)
        assert unknown.value.result.status == "unknown"


async def test_close_during_an_outage(own_fleet: Fleet) -> None:
    for _ in range(3):
        async with dbrunner.connect(own_fleet.url) as runner:
            shop = runner.database("shop")
            await shop.wait_healthy(wait=60)
            own_fleet.nats.kill()
            waiting = asyncio.ensure_future(shop.job("never").wait(60))
            await asyncio.sleep(0.2)
        with pytest.raises(dbrunner.Closed):
            await waiting
        own_fleet.start_nats()


async def test_only_the_callers_own_cancellation_cancels(fleet: Fleet) -> None:
    async with dbrunner.connect(fleet.url) as runner:
        waiting = asyncio.ensure_future(runner.database("shop").job("never").wait(60))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await runner.database("shop").job("never").wait(60)
        assert (await runner.database("shop").query("SELECT 1 AS n")).rows == [{"n": 1}]


async def test_reading_rows_is_cancelled(fleet: Fleet) -> None:
    async with dbrunner.connect(fleet.url) as runner:
        shop = runner.database("shop")
        sql = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 200000) SELECT n FROM c"
        result = await shop.query(sql, output="object")
        for seconds in (0.001, 0.01, 0.05):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds), contextlib.aclosing(shop.rows(result)) as rows:
                    async for _ in rows:
                        pass
        assert sum([1 async for _ in shop.rows(result)]) == 200_000


async def test_rows_arrive_although_nats_restarts(own_fleet: Fleet, tmp_path: Path) -> None:
    async with dbrunner.connect(own_fleet.url) as runner:
        shop = runner.database("shop")
        await shop.wait_healthy(wait=60)
        sql = (
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 400000) SELECT n, :t AS t FROM c"
        )
        result = await shop.query(sql, {"t": "x" * 100}, output="object")
        n = 0
        async for _ in shop.rows(result):
            n += 1
            if n in (1000, 300_000):
                await asyncio.to_thread(own_fleet.nats.kill)
                await asyncio.to_thread(own_fleet.start_nats)
        assert n == 400_000


MANY = """
import sys, dbrunner.sync
from dbrunner import jobs
url, rows, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sql = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :m) SELECT n FROM c"
with dbrunner.sync.connect(url) as runner:
    job = runner.database("shop").submit(jobs.query(sql, {"m": rows}, format="ndjson", timeout=600))
    job.save(path, wait=600)
    assert sum(1 for _ in job.rows()) == rows
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
assert peak < 150_000, f"{peak} kB"
"""


def test_many_rows_in_little_memory(fleet: Fleet, tmp_path: Path) -> None:
    """Less than 150 MB. DBRUNNER_TEST_ROWS=5000000 takes a minute."""
    rows = os.environ.get("DBRUNNER_TEST_ROWS", "1000000")
    subprocess.run([sys.executable, "-c", MANY, fleet.url, rows, str(tmp_path / "rows")], check=True)
    assert (tmp_path / "rows").stat().st_size > 8 * int(rows)
