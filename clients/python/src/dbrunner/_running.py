"""What runners have in flight: the answers of all of them, merged."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

MOST_PARTS = 10_000  # messages of one answer: more are those of no runner


@dataclass(frozen=True)
class RunningJob:
    """A job that a runner has in flight."""

    job_id: str
    kind: str
    call: str | None
    """The name of the statement that a call runs."""
    state: str
    """`waiting`, `executing`, `settling` or `awaiting_resume` (failed; its ordered queue waits for an operator)."""
    runner: str
    process: str
    since: datetime
    """When the runner received it, by the runner's clock."""
    executing_since: datetime | None
    seconds: float
    """Since the runner received it, by the runner's own clock."""
    deliveries: int
    attempts: int
    lease_lost: bool
    """Another runner may have the job as well."""
    queue: str | None
    """The queue that it was published to; None: none."""
    code: str | None
    """The code of its error, if it is `awaiting_resume`."""
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class MissingRunner:
    """A runner that has a heartbeat and did not answer, or not completely."""

    runner: str
    process: str
    state: str
    """In its last heartbeat."""
    heartbeat_at: datetime | None
    """When the stream stored that."""


@dataclass(frozen=True)
class InFlight:
    """The jobs in flight on a database, oldest first."""

    jobs: tuple[RunningJob, ...]
    runners: tuple[str, ...]
    """Those that answered completely."""
    missing: tuple[MissingRunner, ...]
    unlisted: str | None
    """Why the heartbeats could not be read, so that `missing` is not known; None: they were read."""


Key = tuple[str, str]  # a runner and its process


class Collector:
    """Merges the answers for one database."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.expected: dict[Key, MissingRunner] = {}
        self.unlisted: str | None = None
        self._parts: dict[Key, dict[int, dict[str, Any]]] = {}
        self._totals: dict[Key, int] = {}

    def heartbeat(self, message: Mapping[str, Any]) -> None:
        """Take over the last heartbeat of a runner, as the stream stored it."""
        try:
            beat = json.loads(base64.b64decode(message["data"]))
            names = [d["name"] for d in beat["databases"] or ()]
            if self._database in names and beat["state"] != "stopped":
                at = datetime.fromisoformat(message["time"])
                found = MissingRunner(str(beat["instance"]), str(beat["process"]), str(beat["state"]), at)
                self.expected[found.runner, found.process] = found
        except (ValueError, TypeError, KeyError):
            return  # no heartbeat

    def answer(self, data: bytes) -> None:
        """Take over a part of an answer. What is none is ignored."""
        try:
            found = json.loads(data)
            key, part, parts = (str(found["runner"]), str(found["process"])), found["part"], found["parts"]
            if found["database"] != self._database or not 1 <= part <= parts <= MOST_PARTS:
                return
            found["at"] = datetime.fromisoformat(found["at"])
            found["jobs"] = [self._job(key, found["at"], job) for job in found["jobs"]]
        except (ValueError, TypeError, KeyError):
            return
        if self._totals.setdefault(key, parts) == parts:
            self._parts.setdefault(key, {})[part] = found

    @property
    def any(self) -> bool:
        return bool(self._parts or self.expected)

    def complete(self) -> bool:
        """Return whether nothing more will come."""
        return self.unlisted is None and bool(self.expected) and all(map(self._whole, self.expected))

    def _whole(self, key: Key) -> bool:
        return key in self._totals and len(self._parts[key]) == self._totals[key]

    def result(self) -> InFlight:
        keys = sorted({*self._parts, *self.expected})
        jobs = [job for parts in self._parts.values() for part in parts.values() for job in part["jobs"]]
        return InFlight(
            jobs=tuple(sorted(jobs, key=lambda job: job.since)),
            runners=tuple(key[0] for key in keys if self._whole(key)),
            missing=tuple(
                self.expected.get(key) or MissingRunner(*key, "", None) for key in keys if not self._whole(key)
            ),
            unlisted=self.unlisted,
        )

    @staticmethod
    def _job(key: Key, at: datetime, raw: Mapping[str, Any]) -> RunningJob:
        since = datetime.fromisoformat(raw["since"])
        executing = raw.get("executing_since")
        return RunningJob(
            job_id=str(raw["job_id"]),
            kind=str(raw["kind"]),
            call=raw.get("call"),
            state=str(raw["state"]),
            runner=key[0],
            process=key[1],
            since=since,
            executing_since=datetime.fromisoformat(executing) if executing else None,
            seconds=(at - since).total_seconds(),
            deliveries=int(raw["deliveries"]),
            attempts=int(raw["attempts"]),
            lease_lost=bool(raw.get("lease_lost")),
            queue=raw.get("queue"),
            code=raw.get("code"),
            raw=raw,
        )
