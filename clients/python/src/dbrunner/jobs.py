"""Builders of jobs, one for each kind. Options are the keys of a job's body in docs/messages.md, under the same names.

A key becomes the job's id: submitting the job again with its key returns the first result and has no second effect.
So everything that writes requires one. Reads get a random id if they have none.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Literal, TypedDict, Unpack

from ._encode import duration, encode
from ._result import Result

Params = Mapping[str, Any] | Sequence[Any]
"""Values for `:name` (a mapping) or for `$1`, `$2`, … (a sequence)."""

Duration = str | float | timedelta
"""A Go duration such as "1m30s", or a number of seconds."""


class CommonOptions(TypedDict, total=False):
    """Options of every kind."""

    labels: Mapping[str, str]
    timeout: Duration
    """The time limit of one execution. How long the caller waits is another matter: `wait`."""
    expires_in: Duration
    expires_at: datetime


class RowOptions(CommonOptions, total=False):
    """Options of kinds that return rows."""

    max_rows: int
    row_format: Literal["objects", "arrays"]
    output: Literal["auto", "object", "inline"]
    format: Literal["ndjson", "json", "csv", "parquet"]
    """The format of the rows as a file. It implies `output="object"`."""
    compression: Literal["none", "zstd", "gzip"]


class DryRunOptions(RowOptions, total=False):
    isolation: Literal["read_committed", "repeatable_read", "serializable", "snapshot"]
    max_affected: int
    """The largest number of rows that the transaction may write; the database's own limit stays in force."""


class TransactionOptions(DryRunOptions, total=False):
    effect: Literal["exactly_once", "at_least_once"]
    commit: Literal["shared"]
    """The transaction may have one COMMIT together with others; the database must have `shared_commits`."""


class StatementOptions(CommonOptions, total=False):
    max_rows: int
    row_format: Literal["objects", "arrays"]
    effect: Literal["at_most_once", "at_least_once"]


@dataclass(frozen=True)
class ParamsFrom:
    """Parameter sets in the object store. `Database.upload_params` returns one."""

    name: str
    digest: str
    compression: Literal["none", "zstd", "gzip"] = "none"


@dataclass(frozen=True)
class Statement:
    """One statement of a transaction. At most one of `params`, `batch` and `params_from` is set."""

    sql: str
    params: Params | None = None
    expect_rows: int | tuple[int, int] | None = None
    """The rows that it must affect or return, or the least and the most; otherwise the job is rolled back."""
    batch: Sequence[Params] | None = None
    params_from: ParamsFrom | None = None

    def body(self) -> dict[str, Any]:
        expect: Any = self.expect_rows
        if isinstance(expect, tuple):
            expect = {"min": expect[0], "max": expect[1]}
        source = None
        if self.params_from:
            source = {
                "name": self.params_from.name,
                "digest": self.params_from.digest,
                "compression": self.params_from.compression,
            }
        return _present(sql=self.sql, params=self.params, expect_rows=expect, batch=self.batch, params_from=source)


AnyStatement = Statement | str | tuple[str, Params]


@dataclass(frozen=True)
class JobSpec:
    """A job that can be submitted: its kind, its id, and the other keys of its body."""

    kind: str
    id: str
    keys: Mapping[str, Any]
    request: str
    """A hash of what the job requests. As a label it distinguishes jobs that use the same key."""
    name: str = ""
    """Of the statement that a call runs."""
    queue: str | None = None
    """The queue of the database that the job waits in; None: none."""

    @property
    def body(self) -> bytes:
        return encode({"id": self.id, **self.keys})

    @property
    def subject(self) -> str:
        """The end of the job's subject, behind the database."""
        return f"{self.kind}.{self.name}" if self.name else self.kind

    def under(self, key: str) -> JobSpec:
        """Return the same job with another key."""
        return replace(self, id=key)

    def in_queue(self, queue: str) -> JobSpec:
        """Return the same job for a queue of the database, with the same id and the same result."""
        if not re.fullmatch(r"[a-z0-9_]{1,64}", queue):
            raise ValueError(f"queue {queue!r}: names have 1 to 64 of a-z 0-9 _")
        return replace(self, queue=queue)


REQUEST_LABEL = "dbrunner_request"


def query(sql: str, params: Params | None = None, *, key: str | None = None, **options: Unpack[RowOptions]) -> JobSpec:
    """One statement that changes nothing."""
    _check(options, RowOptions)
    return _spec("query", key or random_key(), options, sql=sql, params=params)


def transaction(statements: Iterable[AnyStatement], *, key: str, **options: Unpack[TransactionOptions]) -> JobSpec:
    """Statements that take effect together and once, or not at all."""
    _check(options, TransactionOptions)
    if isinstance(statements, str | Statement):
        raise TypeError("statements is a list: write [statement] for a single one")
    return _spec("transaction", key, options, statements=[_statement(s).body() for s in statements])


def statement(sql: str, params: Params | None = None, *, key: str, **options: Unpack[StatementOptions]) -> JobSpec:
    """One statement outside a transaction, such as VACUUM. It is executed at most once."""
    _check(options, StatementOptions)
    return _spec("statement", key, options, sql=sql, params=params)


def call(name: str, params: Mapping[str, Any] | None = None, *, key: str, **options: Unpack[RowOptions]) -> JobSpec:
    """A named statement of the database's catalog. Its definition decides whether it writes, so a key is required."""
    _check(options, RowOptions)
    if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
        raise ValueError(f"statement {name!r}: names have 1 to 64 of a-z 0-9 _")
    return _spec(f"call.{name}", key, options, params=dict(params) if params else None)


LONGEST_DRY_RUN = 90


def dry_run(statements: Iterable[AnyStatement], *, key: str | None = None, **options: Unpack[DryRunOptions]) -> JobSpec:
    """Statements that are executed and rolled back: the result shows what a transaction with them would do."""
    _check(options, DryRunOptions)
    if isinstance(statements, str | Statement):
        raise TypeError("statements is a list: write [statement] for a single one")
    return _dry_run("dry_run", key, options, statements=[_statement(s).body() for s in statements])


def dry_run_call(
    name: str, params: Mapping[str, Any] | None = None, *, key: str | None = None, **options: Unpack[RowOptions]
) -> JobSpec:
    """A named statement that is executed and rolled back. It must be a transaction."""
    _check(options, RowOptions)
    if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
        raise ValueError(f"statement {name!r}: names have 1 to 64 of a-z 0-9 _")
    return _dry_run(f"dry_run.{name}", key, options, params=dict(params) if params else None)


def _dry_run(kind: str, key: str | None, options: Mapping[str, Any], **content: Any) -> JobSpec:
    if key is not None and len(key) > LONGEST_DRY_RUN:
        raise ValueError(f"key {key!r}: that of a dry run has at most {LONGEST_DRY_RUN} characters")
    return _spec(kind, key or random_key(), options, **content)


def approve(dry_run: Result, **options: Unpack[RowOptions]) -> JobSpec:
    """The approval of a dry run, by its result. Its key follows from that of the dry run, so that there is only one."""
    _check(options, RowOptions)
    if dry_run.kind != "dry_run" or dry_run.effect_digest is None:
        raise ValueError(f"job {dry_run.job_id} is no dry run that has succeeded: {dry_run.kind}, {dry_run.status}")
    name = dry_run.raw.get("call", {}).get("name")
    return _spec(
        f"approve.{name}" if name else "approve",
        f"{dry_run.job_id}_approved",
        options,
        approves=dry_run.job_id,
        expect_digest=dry_run.effect_digest,
    )


MigrationAction = Literal["status", "validate", "plan", "up", "down", "goto", "baseline", "repair"]


def migration(
    action: MigrationAction = "up",
    target: str | None = None,
    *,
    key: str | None = None,
    out_of_order: bool = False,
    **options: Unpack[CommonOptions],
) -> JobSpec:
    """Move the schema to a version, with the runner's migration files. `status`, `validate` and `plan` need no key."""
    _check(options, CommonOptions)
    if key is None:
        if action not in ("status", "validate", "plan"):
            raise TypeError(f"migration {action!r} writes, so it requires a key")
        key = random_key()
    return _spec("migration", key, options, action=action, target=target, out_of_order=out_of_order or None)


def health(checks: Sequence[str] | None = None, *, key: str | None = None, **options: Unpack[CommonOptions]) -> JobSpec:
    """Check the database. The job succeeds whatever it finds; its result has the verdict."""
    _check(options, CommonOptions)
    return _spec("health", key or random_key(), options, checks=checks)


def random_key() -> str:
    return f"py-{uuid.uuid4().hex}"


def _statement(given: AnyStatement) -> Statement:
    match given:
        case Statement():
            return given
        case str():
            return Statement(given)
        case (sql, params):
            return Statement(sql, params)
    raise TypeError(f"a statement is a Statement, SQL text or (SQL text, params), not {type(given).__name__}")


def _check(options: Mapping[str, Any], known: type) -> None:
    """Refuse unknown options as Python does: a runner would reject the job, and its key would be used up."""
    for name in options:
        if name not in known.__annotations__:
            names = get_close_matches(name, known.__annotations__, 1)
            hint = f"; did you mean {names[0]!r}?" if names else ""
            raise TypeError(f"unknown option {name!r}{hint}")


def _spec(kind: str, key: str, options: Mapping[str, Any], **content: Any) -> JobSpec:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", key) or re.fullmatch(r"s[0-9]+_[0-9a-z]+", key):
        raise ValueError(
            f"key {key!r}: 1 to 100 of A-Z a-z 0-9 _ - are possible, and not the form s42_x1, which runners use"
        )
    options = dict(options)
    labels = dict(options.pop("labels", None) or {})
    if "output" not in options and ({"format", "compression"} & options.keys()):
        options["output"] = "object"
    for name in ("timeout", "expires_in"):
        if options.get(name) is not None:
            options[name] = duration(options[name])
    parts = [kind, _present(**content), options.get("effect"), options.get("isolation")]
    if options.get("max_affected") is not None:  # nothing without it: digests of other requests stay what they were
        parts.append(options["max_affected"])
    if options.get("commit") is not None:
        parts.append(["commit", options["commit"]])
    request = encode(parts)
    digest = hashlib.sha256(request).hexdigest()[:32]
    labels[REQUEST_LABEL] = digest
    kind, _, name = kind.partition(".")
    return JobSpec(kind, key, {"labels": labels, **_present(**options), **_present(**content)}, digest, name)


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
