"""Cancelling a flow run cancels its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

from prefect import Flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.logging import get_logger

from dbrunner import DbrunnerError

from ._ids import current_attempt, job_id
from .blocks import DbrunnerDatabase

PAGE = 200


def cancel_jobs(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A hook: `@flow(on_cancellation=[cancel_jobs])`.

    It cancels the jobs of all tasks of this package in the flow run and its nested runs that have not completed. They
    must use saved blocks: Prefect may run the hook in another process, which loads them. Jobs that a flow runs through
    the methods of a block are not known to Prefect, and continue.
    """
    log = get_logger("prefect_dbrunner")
    with get_client(sync_client=True) as client:
        root = _root(client, flow_run)
        for task_run in _task_runs(client, flow_run.id):
            if task_run.state and task_run.state.is_completed():
                continue
            block, slash, key = task_run.name.partition("/")
            if not slash:
                continue
            job = key[1:] if key.startswith("/") else job_id(key or str(task_run.id), "run", root)
            try:
                database = _load(block).get_database()
                job = current_attempt(database, job)
                log.info("job %s on %s: %s", job, database.name, database.job(job).cancel().outcome)
            except (DbrunnerError, ValueError) as error:  # ValueError: there is no such block
                log.error("job %s of %s was not cancelled: %s", job, block, error)


@lru_cache
def _load(name: str) -> DbrunnerDatabase:
    return cast(DbrunnerDatabase, DbrunnerDatabase.load(name))


def _root(client: SyncPrefectClient, flow_run: FlowRun) -> str:
    while flow_run.parent_task_run_id is not None:
        parent = client.read_task_run(flow_run.parent_task_run_id)
        if parent.flow_run_id is None:
            break
        flow_run = client.read_flow_run(parent.flow_run_id)
    return str(flow_run.id)


def _task_runs(client: SyncPrefectClient, flow_run_id: UUID) -> Iterator[TaskRun]:
    """Yield the task runs of a flow run and of its nested ones."""
    offset = 0
    while page := client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])), limit=PAGE, offset=offset
    ):
        yield from page
        offset += len(page)
    nested = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run_id]))
    for run in client.read_flow_runs(flow_run_filter=nested):
        yield from _task_runs(client, run.id)
