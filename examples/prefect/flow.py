"""The fan-out as a Prefect flow: a task is a job, and the tasks run concurrently by .map().

    python3 flow.py --server nats://127.0.0.1:4222 --databases demo
"""

import argparse
import asyncio
from collections import Counter

from prefect import flow, get_run_logger, task, unmapped
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

import client


@task(retries=12, retry_delay_seconds=5)
def healthy(server, database):
    """The prerequisite: raises, and so is tried again for a minute, until jobs run in the database."""

    async def look():
        async with client.Runners(server) as runners:
            return await runners.health(database)

    return asyncio.run(look())


@task(retries=3, retry_delay_seconds=5)
def run_job(server, job):
    """One job. How it ended is its result, whatever the status: to run it again under the same id would only read the
    same result again. What is raised, and so tried again, are faults of the way: no NATS server, a lost connection. To
    try again is safe then, because the id stays."""

    async def run():
        async with client.Runners(server) as runners:
            return await runners.run(job)

    return asyncio.run(run())


@flow(task_runner=ThreadPoolTaskRunner(max_workers=200))
def fan_out(server, databases, jobs=200, run=None):
    """Ids come from the run's id, which Prefect keeps when it tries a flow run again: what was done is not repeated, and
    its stored results are read. Give `run` to go on with another flow run's work."""
    log = get_run_logger()
    run = run or f"prefect-{flow_run.id}"
    healthy.map(unmapped(server), databases).result()
    prepared = run_job.map(unmapped(server), [client.prepare(run, database) for database in databases]).result()
    require_success(prepared)
    results = run_job.map(unmapped(server), client.fan(run, databases, jobs)).result()
    log.info("run %s: %s", run, dict(Counter(result["status"] for result in results)))
    require_success(results)


def require_success(results):
    """Raise where a job did not succeed, with what a person has to know about each."""
    bad = [client.describe(result) for result in results if result["status"] != "succeeded"]
    if bad:
        raise RuntimeError("\n".join([f"{len(bad)} of {len(results)} jobs did not succeed", *bad]))


if __name__ == "__main__":
    args = argparse.ArgumentParser()
    args.add_argument("--server", default="nats://127.0.0.1:4222")
    args.add_argument("--databases", default="demo", help="with commas")
    args.add_argument("--jobs", type=int, default=200)
    args.add_argument("--run", help="a run to go on with")
    args = args.parse_args()
    fan_out(args.server, args.databases.split(","), args.jobs, args.run)
