"""Ids of jobs: the root flow run's id and a key. Retried tasks, flows and nested flows have the same ones."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import count
from typing import Literal

from prefect.runtime import flow_run, task_run

from dbrunner import Database, Result, sync
from dbrunner.jobs import random_key

KeyScope = Literal["run", "global"]
"""run: the key is unique in the flow run; global: it is the whole id, such as an invoice number."""

MOST_RUN_KEY = 60  # an id has at most 100 characters: 36 of the flow run, a hyphen, and room for the attempt
MOST_GLOBAL_KEY = 97


def job_id(key: str, scope: KeyScope, root: str | None = None) -> str:
    """Return the id of the job with this key in the flow run that runs now."""
    most = MOST_GLOBAL_KEY if scope == "global" else MOST_RUN_KEY
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{most}}}", key):
        raise ValueError(f"key {key!r}: 1 to {most} of A-Z a-z 0-9 _ - are possible (key_scope={scope!r})")
    if scope == "global":
        return key
    root = root or root_flow_run()
    if root is None:
        raise RuntimeError(f"key {key!r} belongs to a flow run, and none is active: key_scope='global' needs none")
    return f"{root}-{key}"


def read_id(key: str | None, scope: KeyScope) -> str:
    """Return the id of a read, which may do without a key: in a task it is the task run's id."""
    if key is not None:
        return job_id(key, scope)
    run = task_run.id
    return job_id(str(run), "run") if run else random_key()


def root_flow_run() -> str | None:
    current = flow_run.id
    return _root(str(current)) if current else None


@lru_cache(maxsize=1024)
def _root(_current: str) -> str:
    return str(flow_run.root_flow_run_id)  # asks Prefect's API in nested flows


def attempt(job: str, n: int) -> str:
    return job if n == 1 else f"{job}-t{n}"


def current_attempt(database: sync.Database, job: str) -> str:
    """Return the id to run a job under: a retryable failure is stored under its id for good, the next one is free."""
    for n in count(1):
        if not _may_run_again(database.job(attempt(job, n)).result()):
            return attempt(job, n)
    raise AssertionError


async def current_attempt_async(database: Database, job: str) -> str:
    for n in count(1):
        if not _may_run_again(await database.job(attempt(job, n)).result()):
            return attempt(job, n)
    raise AssertionError


def _may_run_again(result: Result | None) -> bool:
    return result is not None and result.status == "failed" and bool(result.error and result.error.retryable)
