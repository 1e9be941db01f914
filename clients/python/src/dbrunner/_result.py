"""Results of jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from ._values import converters, loads
from .errors import RowsUnavailable

Row = Any
"""A dict of column names and values, or a tuple with `row_format="arrays"`."""


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    """The database's own name of the type."""


@dataclass(frozen=True)
class RowsObject:
    """Rows in the object store."""

    bucket: str
    name: str
    size: int
    row_count: int
    digest: str
    format: str
    compression: str


@dataclass(frozen=True)
class ResultError:
    code: str
    message: str
    retryable: bool = False
    engine_code: str | None = None
    faults: tuple[Mapping[str, str], ...] = ()


class RowDecoder:
    """Converts rows as JSON decoded them."""

    def __init__(self, engine: str, columns: tuple[Column, ...]) -> None:
        self._names = [c.name for c in columns]
        self._converters = converters(engine, [c.type for c in columns])

    def __call__(self, raw: Any) -> Row:
        if isinstance(raw, list):
            return tuple(v if c is None else c(v) for c, v in zip(self._converters, raw, strict=True))
        for name, convert in zip(self._names, self._converters, strict=True):
            if convert is not None:
                raw[name] = convert(raw[name])
        return raw


@dataclass(frozen=True)
class Answer:
    """The answer of one statement."""

    raw: Mapping[str, Any] = field(repr=False)
    """The answer as the contract has it, fractions as Decimal."""
    engine: str = field(repr=False)

    @property
    def rows_affected(self) -> int | None:
        return self.raw.get("rows_affected")

    @property
    def row_count(self) -> int | None:
        return self.raw.get("row_count")

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        return tuple(Column(c["name"], c["type"]) for c in self.raw.get("columns", ()))

    @property
    def rows_object(self) -> RowsObject | None:
        found = self.raw.get("rows_object")
        return RowsObject(**{f: found[f] for f in RowsObject.__dataclass_fields__}) if found else None

    @property
    def offloaded(self) -> bool:
        """Whether the rows are in the object store: `Database.rows` and `Database.save` read them."""
        return "rows_object" in self.raw or bool(self.raw.get("rows_expired"))

    @cached_property
    def rows(self) -> list[Row]:
        """The rows, with Python's types."""
        if self.offloaded:
            raise RowsUnavailable("the rows are in the object store: iterate over rows(result), or save(result, path)")
        decode = self.decoder()
        return [decode(row.copy()) for row in self.raw.get("rows", ())]

    @property
    def rows_omitted(self) -> int:
        """How many of the `row_count` rows the result of a dry run leaves out."""
        return int(self.raw.get("rows_omitted", 0))

    @property
    def more(self) -> tuple[Answer, ...]:
        """Further answers of the same statement."""
        return tuple(Answer(raw, self.engine) for raw in self.raw.get("more", ()))

    def decoder(self) -> RowDecoder:
        return RowDecoder(self.engine, self.columns)


@dataclass(frozen=True)
class Result(Answer):
    """The result of a job. `raw` has every key of it, also those without a property here."""

    @staticmethod
    def parse(data: bytes) -> Result:
        raw = loads(data)
        return Result(raw, raw.get("engine", ""))

    def __repr__(self) -> str:
        return f"<Result {self.job_id} on {self.database}: {self.status}>"

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def job_id(self) -> str:
        return str(self.raw["job_id"])

    @property
    def database(self) -> str:
        return str(self.raw.get("database", ""))

    @property
    def kind(self) -> str:
        return str(self.raw.get("kind", ""))

    @property
    def status(self) -> str:
        return str(self.raw["status"])

    @property
    def duplicate(self) -> bool:
        return bool(self.raw.get("duplicate"))

    @property
    def labels(self) -> Mapping[str, str]:
        return dict(self.raw.get("labels", {}))

    @property
    def queued_at(self) -> datetime | None:
        return self._time("queued_at")

    @property
    def started_at(self) -> datetime | None:
        return self._time("started_at")

    @property
    def finished_at(self) -> datetime | None:
        return self._time("finished_at")

    def _time(self, key: str) -> datetime | None:
        text = self.raw.get(key)
        return datetime.fromisoformat(text) if text else None

    @cached_property
    def statements(self) -> tuple[Answer, ...]:
        """The answers of a transaction's statements, in their order."""
        return tuple(Answer(raw, self.engine) for raw in self.raw.get("statements", ()))

    @cached_property
    def error(self) -> ResultError | None:
        found = self.raw.get("error")
        if not found:
            return None
        return ResultError(
            code=found["code"],
            message=found.get("message", ""),
            retryable=bool(found.get("retryable")),
            engine_code=found.get("engine_code"),
            faults=tuple(found.get("faults", ())),
        )

    @property
    def effect_digest(self) -> str | None:
        """Of a dry run that has succeeded: what identifies its effect."""
        return self.raw.get("effect_digest")

    @property
    def request(self) -> Mapping[str, Any] | None:
        """Of a dry run that has succeeded: what it executed."""
        return self.raw.get("request")

    @property
    def verdict(self) -> str | None:
        """Of a health check: healthy, degraded or unhealthy."""
        return self.raw.get("verdict")

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self.raw.get("reasons", ()))

    def answer(self, statement: int | None = None) -> Answer:
        """Return the answer that has the rows: that of a statement from 0 on, or the only one with rows."""
        if statement is not None:
            return self.statements[statement]
        if self.kind not in ("transaction", "dry_run", "approve"):
            return self
        with_rows = [a for a in self.statements if a.columns]
        if len(with_rows) != 1:
            raise RowsUnavailable(f"{len(with_rows)} statements returned rows: name one with statement=")
        return with_rows[0]
