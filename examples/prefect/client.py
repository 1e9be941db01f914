"""Jobs for dbrunner with nats-py: publish, await the stored result, ask for a database's health.

It knows nothing of Prefect, and can be tried alone:

    python3 client.py --server nats://127.0.0.1:4222 --databases demo
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections import Counter

import nats
import nats.errors
import nats.js.errors

LOOK_AGAIN = 3.0  # seconds between two looks for a stored result, which find what was stored while nobody listened
REQUEST_TIMEOUT = 6.0  # seconds: a little more than runners take to answer a request
MOST_TRIES = 3  # of a job whose failure says that the same again may succeed

# What a flow does after each end of a job. Whatever is not here is treated like unknown.
ADVICE = {
    "succeeded": "go on",
    "failed": "nothing of it is there: mend the job or the data, then start a new run",
    "rejected": "nothing was run, and the same again is rejected again: mend the job",
    "cancelled": "stopped on request, nothing of it is there: start a new run if it is wanted after all",
    "expired": "too late, nothing was done: start a new run if it is still wanted",
    "unknown": "it may have taken effect: look at the database, a person has to decide; never repeat it blindly",
}


class NotReady(Exception):
    """A database is not well, or nobody is there to tell."""


class NoSuchSubject(Exception):
    """No stream takes jobs of this database and kind: a typing error, or a database that is not set up."""


class Runners:
    """A connection by which jobs are run. Use it with `async with`."""

    def __init__(self, server, namespace="dbrunner", inbox_prefix="_INBOX"):
        self.server, self.namespace, self.inbox_prefix = server, namespace, inbox_prefix

    async def __aenter__(self):
        self.nc = await nats.connect(
            self.server,
            name="dbrunner example in Python",
            max_reconnect_attempts=-1,  # for ever: what was published is answered, however long the server is away
            inbox_prefix=self.inbox_prefix.encode(),
        )
        self.js = self.nc.jetstream(timeout=REQUEST_TIMEOUT)
        return self

    async def __aexit__(self, *_):
        await self.nc.close()

    async def health(self, database):
        """Return a runner's look at the database; raise NotReady unless jobs run there."""
        try:
            message = await self._ask(f"health.{database}")
        except nats.errors.NoRespondersError:
            raise NotReady(f"{database}: no runner is there") from None
        except nats.errors.TimeoutError:
            raise NotReady(f"{database}: no runner answers") from None
        error = (message.headers or {}).get("Nats-Service-Error")
        if error or not message.data:
            raise NotReady(f"{database}: {error or 'the runner has too many requests, or is ending'}")
        look = json.loads(message.data)
        if look["verdict"] not in ("healthy", "degraded"):
            raise NotReady(f"{database} is {look['verdict']}: {'; '.join(look.get('reasons', []))}")
        return look

    async def run(self, job, patience=60.0):
        """Run a job and return its result. A failure that may pass is tried again, each try under an id of its own.

        Whoever calls this again with the same job, also after a restart, gets the same results.
        """
        for attempt in range(1, MOST_TRIES + 1):
            result = await self._try(as_try(job, attempt), patience)
            if result["status"] != "failed" or not result["error"].get("retryable") or attempt == MOST_TRIES:
                return result
            await asyncio.sleep(1)

    async def _try(self, job, patience):
        """Get the stored result, or publish the job, for the first time or again, and await its result."""
        subject = f"{self.namespace}.results.{job['database']}.{job['body']['id']}"
        subscription = await self.nc.subscribe(subject)  # before anything else: so no result slips through
        try:
            result = await self._stored(job, subject)
            if result is not None:
                return result
            await self._publish(job)
            until = time.monotonic() + patience
            while True:
                result = await self._stored(job, subject) or await next_result(subscription)
                if result is not None:
                    return result
                if time.monotonic() > until:
                    await self._cancel(job)  # the result then tells what became of it
                    until = time.monotonic() + patience
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def _publish(self, job):
        """Publish until the stream has the job: the id makes it safe to publish again."""
        subject = f"{self.namespace}.jobs.{job['database']}.{job['kind']}"
        body, headers = json.dumps(job["body"]).encode(), {"Nats-Msg-Id": job["body"]["id"]}
        while True:
            try:
                # Where the acknowledgement says duplicate, the stream has had the id a moment ago: its result comes.
                return await self.js.publish(subject, body, headers=headers)
            except nats.js.errors.NoStreamResponseError:
                raise NoSuchSubject(f"no stream takes {subject}: is there such a database, and this kind?") from None
            except (nats.errors.TimeoutError, nats.js.errors.APIError):
                await asyncio.sleep(0.5)  # no acknowledgement, or the stream is full

    async def _stored(self, job, subject):
        """Get the stored result, None if there is none or no server answers now."""
        stream = f"{self.namespace.upper()}_RESULTS_{job['database']}"
        try:
            message = await self.nc.request(f"$JS.API.DIRECT.GET.{stream}.{subject}", timeout=LOOK_AGAIN)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            return None
        status = (message.headers or {}).get("Status", "")
        if status == "404":
            return None
        if status:
            raise RuntimeError(f"get {subject}: {status} {message.headers.get('Description', '')}")
        return json.loads(message.data)

    async def _cancel(self, job):
        with contextlib.suppress(nats.errors.NoRespondersError, nats.errors.TimeoutError):
            await self._ask(f"cancel.{job['database']}.{job['body']['id']}")

    async def _ask(self, request):
        return await self.nc.request(f"{self.namespace}.api.{request}", timeout=REQUEST_TIMEOUT)


async def next_result(subscription):
    """Return the result if it is stored within a while, else None."""
    try:
        return json.loads((await subscription.next_msg(timeout=LOOK_AGAIN)).data)
    except nats.errors.TimeoutError:
        return None


def as_try(job, attempt):
    """Return the job for a try: the first one has the job's own id."""
    if attempt == 1:
        return job
    return {**job, "body": {**job["body"], "id": f"{job['body']['id']}-t{attempt}"}}


def make_job(run, name, database, kind, **body):
    """Make a job whose id is the same in every life of the run."""
    return {"database": database, "kind": kind, "body": {"id": f"{run}-{name}", "labels": {"flow": run}, **body}}


def prepare(run, database):
    """Make the flow's table (PostgreSQL and SQLite)."""
    sql = "CREATE TABLE IF NOT EXISTS flow_bookings (flow_run varchar(100) NOT NULL, step varchar(100) NOT NULL)"
    return make_job(run, "prepare", database, "transaction", statements=[{"sql": sql}])


def fan(run, databases, n):
    """Make the work: bookings, which take effect exactly once, and reads in turn, spread over the databases."""
    jobs = []
    for i in range(n):
        database, number = databases[i % len(databases)], i // len(databases)
        if number % 2 == 0:
            name = f"book-{i:04}"
            statement = {
                "sql": "INSERT INTO flow_bookings (flow_run, step) VALUES (:run, :step)",
                "params": {"run": run, "step": name},
                "expect_rows": 1,
            }
            jobs.append(make_job(run, name, database, "transaction", statements=[statement]))
        else:
            jobs.append(
                make_job(run, f"read-{i:04}", database, "query", sql="SELECT CAST(:n AS integer) AS n", params={"n": i})
            )
    return jobs


def describe(result):
    """Tell one line about a job that did not succeed, and what to do."""
    error = result.get("error", {})
    advice = ADVICE.get(result["status"], ADVICE["unknown"])
    return f"{result['job_id']} {result['status']}: {error.get('message', '')} ({error.get('code', '')}) → {advice}"


class Arguments(argparse.ArgumentParser):
    """The exit codes are those of runner submit: 1 it could not be done, 3 a job did not succeed, 78 the command line is wrong."""

    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(78, f"{self.prog}: {message}\n")


async def main():
    """Run the fan-out without Prefect."""
    args = Arguments()
    args.add_argument("--server", default="nats://127.0.0.1:4222")
    args.add_argument("--databases", default="demo", help="with commas")
    args.add_argument("--jobs", type=int, default=200)
    args.add_argument("--run", default=f"python-{uuid.uuid4().hex[:12]}", help="the same run goes on where it was")
    args = args.parse_args()
    databases = args.databases.split(",")
    print(f"run {args.run}")
    async with Runners(args.server) as runners:
        for database in databases:
            print(f"{database} is {(await runners.health(database))['verdict']}")
            prepared = await runners.run(prepare(args.run, database))
            if prepared["status"] != "succeeded":
                print(describe(prepared), file=sys.stderr)
                return 3
        results = await asyncio.gather(*(runners.run(job) for job in fan(args.run, databases, args.jobs)))
    print(", ".join(f"{n} {status}" for status, n in sorted(Counter(r["status"] for r in results).items())))
    bad = [result for result in results if result["status"] != "succeeded"]
    for result in bad:
        print(describe(result))
    return 3 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (NotReady, NoSuchSubject) as error:
        sys.exit(str(error))
