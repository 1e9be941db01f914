"""A Prefect server and a fleet, for all tests of the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

import dbrunner.sync
from prefect_dbrunner import DbrunnerCredentials, DbrunnerDatabase


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def fleet(binaries: Path, prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    fleet = Fleet(binaries, tmp_path_factory.mktemp("fleet"))
    fleet.start()
    with dbrunner.sync.connect(fleet.url) as runner:
        for name in ("shop", "billing"):
            runner.database(name).wait_healthy(wait=60)
            block = DbrunnerDatabase(credentials=DbrunnerCredentials(servers=fleet.url), database=name)
            block.save(name, overwrite=True)
    yield fleet
    fleet.stop()


@pytest.fixture
def shop(fleet: Fleet) -> DbrunnerDatabase:
    block = DbrunnerDatabase.load("shop")
    assert isinstance(block, DbrunnerDatabase)
    return block


@pytest.fixture
def flow_environment(prefect_server: None) -> dict[str, str]:
    """The environment for a process that runs the example's flow."""
    return {
        **os.environ,
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }
