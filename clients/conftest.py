"""Fixtures of both suites: servers are real processes."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet import Fleet, Postgres, build


@pytest.fixture(scope="session")
def binaries() -> Path:
    folder = Path(__file__).parent / ".bin"  # kept: go build links only what has changed
    build(folder)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[str | None]:
    """A connection string, None where there is no PostgreSQL."""
    if not (shutil.which("initdb") or Path("/usr/lib/postgresql").is_dir()):
        assert os.environ.get("REQUIRE_SERVICES") != "1", "no PostgreSQL is installed: scripts/setup postgres"
        yield None
        return
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def fleet(binaries: Path, postgres: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One fleet for all tests that do not harm it."""
    fleet = Fleet(binaries, tmp_path_factory.mktemp("fleet"), postgres=postgres)
    fleet.start()
    yield fleet
    fleet.stop()


@pytest.fixture
def own_fleet(binaries: Path, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet of the test's own, to be killed."""
    fleet = Fleet(binaries, tmp_path)
    fleet.start()
    yield fleet
    fleet.stop()


@pytest.fixture
def key() -> Callable[[str], str]:
    """Make keys that no other test uses, the same ones for the same names."""
    run = uuid.uuid4().hex[:12]
    return lambda name: f"{run}-{name}"
