"""The cases of contract/cases, which every client has to do alike."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from fleet import Fleet, restricted_users
from jsonschema import Draft202012Validator
from nats.aio.msg import Msg

import dbrunner
from dbrunner import JobSpec, jobs
from dbrunner._connection import call

CONTRACT = Path(__file__).parents[3] / "contract"
CASES = CONTRACT / "cases" / "cases.json"
WAIT = 60.0
UNKNOWN_KEY = "Additional properties are not allowed ('sqll' was unexpected)"


class Refused(Exception):
    """Why there is no result, in the words of the cases."""


class Installation:
    """What the cases run in."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._users: dict[str, dbrunner.Runner] = {}

    def database(self, user: str, name: str = "shop") -> dbrunner.Database:
        if user not in self._users:
            self._users[user] = dbrunner.connect(
                self._fleet.url, user=user, password=user, inbox_prefix=f"_INBOX.{user}", name=user
            )
        return self._users[user].database(name)

    async def close(self) -> None:
        for runner in self._users.values():
            await runner.close()

    async def do(self, action: str) -> None:
        if action == "kill_runner":
            await asyncio.to_thread(self._fleet.runner.kill)
        elif action == "start_runner":
            self._fleet.runner.start()
        elif action == "restart_nats":
            await asyncio.to_thread(self._fleet.nats.kill)
            await asyncio.to_thread(self._fleet.start_nats)
        elif action == "expire_results":
            await call(self.database("admin")._core._ask("$JS.API.STREAM.PURGE.DBRUNNER_RESULTS_shop", b"{}"))
        elif action == "pause":
            await asyncio.to_thread(self._fleet.command, "pause", "shop", "--by", "ada", "--reason", "upgrade")
        elif action == "resume":
            await asyncio.to_thread(self._fleet.command, "resume", "shop", "--by", "ada")
        else:
            raise AssertionError(f"no such action: {action}")

    async def carry_out(self, step: dict[str, Any]) -> Any:
        """Do a step and return its outcome, as JSON has it."""
        user = step.get("as", "admin")
        if action := step.get("do"):
            return await self.do(action)
        if job := step.get("run") or step.get("publish"):
            name, spec = self._job(job)
            database = self.database(user, name)
            if "publish" in step:
                await database.submit(spec, wait=WAIT)
                return None
            return await self._outcome(database.run(spec, wait=job.get("wait", WAIT)))
        if "healthy" in step:
            try:
                return await self.database(user).wait_healthy(wait=step["healthy"].get("wait", WAIT))
            except dbrunner.NotHealthy as error:
                raise Refused("not_healthy") from error
        if "running" in step:
            return await self._running(self.database(user), step["running"], step.get("seconds", 0))
        ((verb, reference),) = ((v, step[v]) for v in ("wait", "rows", "recorded", "cancel") if v in step)
        job_of = self.database(user).job(reference["id"])
        if verb == "wait":
            waiting = asyncio.ensure_future(self._outcome(job_of.wait(WAIT)))
            for action in step.get("meanwhile", ()):
                await self.do(action)
            return await waiting
        if verb == "rows":
            rows = [row async for row in job_of.rows()]
            return {"count": len(rows), "first": rows[0], "last": rows[-1]}
        if verb == "recorded":
            recorded = await job_of.recorded()
            if recorded is None:
                raise Refused("no_result_yet")
            return recorded.raw
        cancellation = await job_of.cancel(wait=WAIT / 2)
        return {"outcome": cancellation.outcome, "status": cancellation.status}

    def _job(self, job: dict[str, Any]) -> tuple[str, JobSpec]:
        spec = jobs._spec(job["kind"], job["id"], {}, **job["body"])
        return job.get("database", "shop"), spec.in_queue(job["queue"]) if "queue" in job else spec

    @staticmethod
    async def _outcome(waiting: Any) -> Any:
        """Return the result that a call returns or raises."""
        try:
            return (await waiting).raw
        except dbrunner.JobIdReused as error:
            raise Refused("job_id_reused") from error
        except (dbrunner.JobFailed, dbrunner.OutcomeUnknown) as error:
            return error.result.raw
        except dbrunner.NoResultYet as error:
            raise Refused("no_result_yet") from error
        except dbrunner.AccessDenied as error:
            raise Refused("denied") from error
        except dbrunner.NoStream as error:
            raise Refused("no_stream") from error

    @staticmethod
    async def _running(database: dbrunner.Database, wanted: dict[str, Any], seconds: float) -> None:
        async with asyncio.timeout(WAIT):
            while True:
                found = await database.running(wait=5)
                if any(job.seconds >= seconds and not differences(wanted, job.raw) for job in found.jobs):
                    return
                await asyncio.sleep(0.05)


class Messages:
    """What a fleet publishes, held against the schemas."""

    # Of jobs only what a stream takes: with a subscriber, no message is refused for want of a stream.
    SUBJECTS = ("jobs.shop", "queues.shop.bulk", "results", "replies", "health", "dead", "audit")

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._schemas: dict[str, Draft202012Validator] = {}

    def schema_of(self, subject: str) -> str:
        _, what, *rest = subject.split(".")
        if what in ("jobs", "queues"):
            return "job-" + rest[1 if what == "jobs" else 2]
        if what in ("results", "replies"):
            return "result"
        return {"health": f"heartbeat-{rest[0]}", "dead": "dead-letter-headers", "audit": "audit"}[what]

    async def check(self, message: Msg) -> None:
        name = self.schema_of(message.subject)
        if name not in self._schemas:
            text = (CONTRACT / "schema" / f"{name}.json").read_text()
            self._schemas[name] = Draft202012Validator(json.loads(text))
        value = dict(message.headers or {}) if name == "dead-letter-headers" else json.loads(message.data)
        self.checked[name] += 1
        if error := next(self._schemas[name].iter_errors(value), None):
            self.wrong.append(f"{message.subject}: {error.message}")


def differences(expected: Any, got: Any, path: str = "") -> list[str]:
    """List where a value is not as expected."""
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return [f"{path} is no object"]
        return [d for key, value in expected.items() for d in differences(value, got.get(key), f"{path}.{key}")]
    if isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            return [f"{path} has not {len(expected)} elements"]
        return [d for i, value in enumerate(expected) for d in differences(value, got[i], f"{path}[{i}]")]
    return [] if expected == got else [f"{path} is {got!r}, not {expected!r}"]


@pytest.fixture
def case_fleet(binaries: Path, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(binaries, tmp_path, users=restricted_users("flow"))
    fleet.start()
    yield fleet
    fleet.stop()


@pytest.fixture
async def installation(case_fleet: Fleet) -> AsyncIterator[Installation]:
    installation = Installation(case_fleet)
    await installation.database("admin").wait_healthy(wait=WAIT)
    yield installation
    await installation.close()


@pytest.fixture
async def messages(case_fleet: Fleet) -> AsyncIterator[Messages]:
    messages = Messages()
    connection = await nats.connect(case_fleet.url, user="admin", password="admin", max_reconnect_attempts=-1)
    for what in Messages.SUBJECTS:
        await connection.subscribe(f"dbrunner.{what}.>", cb=messages.check)
    yield messages
    await connection.close()


async def test_cases(installation: Installation, messages: Messages) -> None:
    cases = json.loads(CASES.read_text())
    assert len(cases) > 10
    for case in cases:
        for number, step in enumerate(case["steps"], 1):
            if "python" in step.get("except", {}):
                continue
            about = f"{case['name']}, step {number}"
            got, refused, text = None, None, ""
            try:
                got = await installation.carry_out(step)
            except Refused as error:
                refused, text = str(error), str(error.__cause__)
            assert refused == step.get("refused"), f"{about}: {got}"
            assert step.get("says", "") in text, f"{about}: {text}"
            assert refused or differences(step.get("expect", {}), got or {}) == [], f"{about}: {got}"
    expected = {
        "result",
        "heartbeat-runner",
        "heartbeat-database",
        "dead-letter-headers",
        "audit",
        "job-call",
        "job-query",
    }
    assert expected <= messages.checked.keys()
    # The one body that the cases have rejected for its keys.
    assert messages.wrong == [f"dbrunner.jobs.shop.query: {UNKNOWN_KEY}"], messages.wrong
