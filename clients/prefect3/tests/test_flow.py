"""examples/prefect under real trouble: servers are killed, the flow's process too, runs are retried and cancelled."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.states import Cancelling, Scheduled
from prefect.utilities.importtools import load_script_as_module

from dbrunner import sync

EXAMPLE = Path(__file__).parents[3] / "examples" / "prefect"
RUN = """
import sys
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.flow_engine import run_flow
from flow import nightly
run = get_client(sync_client=True).read_flow_run(sys.argv[1])
run_flow(nightly, flow_run=run, parameters=nightly.validate_parameters(run.parameters))
"""

TEST_TIMEOUT = 120.0


def until(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + TEST_TIMEOUT
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come true")


def booked(fleet: Fleet, database: str, prefix: str) -> tuple[int, int]:
    with sqlite3.connect(f"file:{fleet.folder}/{database}.db?mode=ro", uri=True) as db:
        try:
            sql = "SELECT count(*), count(DISTINCT step) FROM bookings WHERE step LIKE ? || '%'"
            rows, steps = db.execute(sql, [prefix]).fetchone()
        except sqlite3.OperationalError:
            return 0, 0  # no table yet, or it is being written
    return rows, steps


def start(
    code: str, environment: dict[str, str], log: Path, *args: str, folder: Path = EXAMPLE
) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-c", code, *args], env=environment, cwd=folder, stdout=out, stderr=out
        )


def test_a_killed_flow_goes_on_under_its_id_while_servers_die(
    fleet: Fleet, flow_environment: dict[str, str], tmp_path: Path
) -> None:
    nightly = load_script_as_module(str(EXAMPLE / "flow.py")).nightly
    parameters = {"databases": ["shop", "billing"], "jobs": 200, "prefix": "killed", "export": str(tmp_path / "x.csv")}
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(nightly, parameters=parameters)
        first = start(RUN, flow_environment, tmp_path / "log1", str(run.id))
        until(lambda: booked(fleet, "shop", "killed")[0] > 40)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert sum(booked(fleet, d, "killed")[0] for d in ("shop", "billing")) < 400

        client.set_flow_run_state(run.id, Scheduled(name="AwaitingRetry"), force=True)
        second = start(RUN, flow_environment, tmp_path / "log2", str(run.id))
        time.sleep(2)
        for _ in range(2):
            fleet.nats.kill()
            time.sleep(0.5)
            fleet.start_nats()
            fleet.runner.kill()
            fleet.runner.start()
            time.sleep(2)
        assert second.wait(TEST_TIMEOUT) == 0, (tmp_path / "log2").read_text()
        state = client.read_flow_run(run.id).state
        assert state is not None
        assert state.is_completed()
    assert booked(fleet, "shop", "killed") == (200, 200)
    assert booked(fleet, "billing", "killed") == (200, 200)
    assert (tmp_path / "x.csv").read_bytes().count(b"\r\n") == 201
    log = (tmp_path / "log2").read_text()
    assert "400 steps are booked" in log
    assert "Traceback" not in log


def test_a_cancelled_flow_run_cancels_its_jobs(fleet: Fleet, flow_environment: dict[str, str], tmp_path: Path) -> None:
    code = "from slow_flow import slow; slow.serve(name='test')"
    server = start(code, flow_environment, tmp_path / "log", folder=Path(__file__).parent)
    try:
        with get_client(sync_client=True) as client, sync.connect(fleet.url) as runner:
            deployment = until(lambda: next(iter(client.read_deployments()), None))
            run = client.create_flow_run_from_deployment(deployment.id)
            mine = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
            until(lambda: len(client.read_task_runs(flow_run_filter=mine)) == 3)
            client.set_flow_run_state(run.id, Cancelling(), force=True)
            until(lambda: (state := client.read_flow_run(run.id).state) and state.is_cancelled())
            for n in range(3):
                result = until(runner.database("shop").job(f"{run.id}-slow-{n}").result)
                assert result.status == "cancelled", (tmp_path / "log").read_text()
    finally:
        server.terminate()
        server.wait()


def test_every_outcome_is_handled(fleet: Fleet, prefect_server: None) -> None:
    nightly = load_script_as_module(str(EXAMPLE / "flow.py")).nightly
    with sync.connect(fleet.url) as runner:
        shop = runner.database("shop")
        shop.transaction(
            [
                "CREATE TABLE IF NOT EXISTS bookings (step varchar(100), database_name varchar(100))",
                "CREATE TRIGGER refuse BEFORE INSERT ON bookings WHEN new.step = 'bad-0001' "
                "BEGIN SELECT raise(ABORT, 'no such step'); END",
            ],
            key="trigger",
        )
    with pytest.raises(RuntimeError, match="1 jobs did not succeed") as failed:
        nightly(["shop"], jobs=3, prefix="bad")
    assert "fix the job or the data, then start a new run" in str(failed.value)
    assert booked(fleet, "shop", "bad") == (2, 2)
