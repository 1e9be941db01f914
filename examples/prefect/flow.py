"""A nightly run as a Prefect flow: a task is a job, and the tasks run concurrently by .map().

python3 flow.py --server nats://127.0.0.1:4222 --databases demo
"""

import argparse
from typing import Any

from prefect import flow, get_run_logger, unmapped
from prefect.task_runners import ThreadPoolTaskRunner

import dbrunner
from prefect_dbrunner import (
    DbrunnerCredentials,
    DbrunnerDatabase,
    cancel_jobs,
    dbrunner_query,
    dbrunner_save,
    dbrunner_transaction,
    dbrunner_wait_healthy,
    publish_table,
)

# What to do after each outcome other than success.
ADVICE = {
    "failed": "nothing of it is there: fix the job or the data, then start a new run",
    "rejected": "nothing was run, and the same again is rejected again: fix the job",
    "cancelled": "stopped on request, nothing of it is there: start a new run if it is wanted after all",
    "expired": "too late, nothing was done: start a new run if it is still wanted",
    "unknown": "it may have taken effect: look at the database, a person has to decide; never repeat it blindly",
}

CREATE = "CREATE TABLE IF NOT EXISTS bookings (step varchar(100) NOT NULL, database_name varchar(100) NOT NULL)"
BOOK = "INSERT INTO bookings (step, database_name) VALUES (:step, :database)"


@flow(task_runner=ThreadPoolTaskRunner(max_workers=100), on_cancellation=[cancel_jobs])
def nightly(databases: list[str], jobs: int = 200, export: str | None = None, prefix: str = "step") -> int:
    """Book `jobs` steps on each database, exactly once, however often the run is retried. Returns how many there are.

    `databases` are names of DbrunnerDatabase blocks. Keys are the same in every attempt of the run; the ids of its jobs
    are made of the run's id and the key.
    """
    blocks = [DbrunnerDatabase.load(name) for name in databases]
    dbrunner_wait_healthy.map(blocks).result()
    dbrunner_transaction.map(blocks, "create", statements=unmapped([CREATE])).result()

    booked = []
    for block in blocks:
        steps = [f"{prefix}-{n:04}" for n in range(jobs)]
        statements = [[(BOOK, {"step": step, "database": block.database})] for step in steps]
        booked.append(dbrunner_transaction.map(unmapped(block), steps, statements=statements))
    failures = [describe(error) for futures in booked for error in errors(futures)]
    if failures:
        raise RuntimeError("\n".join([f"{len(failures)} jobs did not succeed", *failures]))

    sql = "SELECT count(DISTINCT step) AS steps FROM bookings WHERE step LIKE :steps"
    counted = dbrunner_query.map(blocks, sql, params=unmapped({"steps": f"{prefix}-%"})).result()
    publish_table(blocks[0], counted[0], "nightly-steps")
    if export:
        dbrunner_save(blocks[0], "SELECT * FROM bookings ORDER BY step", export, format="csv")
    total = sum(result.rows[0]["steps"] for result in counted)
    get_run_logger().info("%d steps are booked", total)
    return total


def errors(futures: Any) -> list[Exception]:
    """Wait for tasks and return the errors of those that failed for good."""
    futures.wait()
    return [future.result(raise_on_failure=False) for future in futures if not future.state.is_completed()]


def describe(error: Exception) -> str:
    """Describe the outcome of a job and the next step."""
    if isinstance(error, dbrunner.OutcomeUnknown | dbrunner.JobFailed):
        return f"{error} → {ADVICE.get(error.result.status, ADVICE['unknown'])}"
    return f"{error} → retry the flow run: what is done is not repeated"


def save_blocks(server: str, databases: list[str]) -> None:
    credentials = DbrunnerCredentials(servers=server)
    for name in databases:
        DbrunnerDatabase(credentials=credentials, database=name).save(name, overwrite=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--server", default="nats://127.0.0.1:4222")
    arguments.add_argument("--databases", default="demo", help="with commas; blocks of these names are saved")
    arguments.add_argument("--jobs", type=int, default=200)
    given = arguments.parse_args()
    save_blocks(given.server, given.databases.split(","))
    nightly(given.databases.split(","), given.jobs)
