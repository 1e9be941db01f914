"""Values of results as Python's types, without loss: what a type cannot hold exactly stays the text that arrived."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from ._encode import Typed

Convert = Callable[[Any], Any]

_decode = json.JSONDecoder(parse_float=Decimal).decode


def loads(text: bytes | str) -> Any:
    """Decode JSON; fractions become Decimal, so that columns decide what they are."""
    return _decode(text.decode() if isinstance(text, bytes) else text)


def converters(engine: str, types: Sequence[str]) -> list[Convert | None]:
    """Return for each column how its values are converted, None for those that JSON already gives."""
    if engine == "sqlite":
        return [_sqlite] * len(types)
    table = _POSTGRES if engine == "postgres" else _SQLSERVER if engine == "sqlserver" else {}
    return [table.get(t.partition("(")[0].strip()) for t in types]


def _exact(parse: Callable[[str], Any]) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return parse(value)
        except (ValueError, InvalidOperation):
            return value  # infinity, a year before Christ, …

    return convert


def _moment(text: str) -> datetime:
    _refuse_nanoseconds(text)
    return datetime.fromisoformat(text)


def _time(text: str) -> time:
    _refuse_nanoseconds(text)
    return time.fromisoformat(text)


def _refuse_nanoseconds(text: str) -> None:
    fraction = text.partition(".")[2]
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    if len(digits.rstrip("0")) > 6:
        raise ValueError("more digits than microseconds")


def _float(value: Any) -> Any:
    return value if value is None or isinstance(value, bool) else float(value)  # also "NaN", "Infinity"


def _sqlserver_text(value: Any) -> Any:
    if isinstance(value, dict) and value.get("type") == "text_base64":
        return base64.b64decode(value["value"]).decode()
    return value


def _sqlite(value: Any) -> Any:
    """SQLite's values have a storage class each, whatever the column says."""
    if isinstance(value, Decimal):
        return float(value)
    if not isinstance(value, dict):
        return value
    text: str = value["value"]
    match value["type"]:
        case "integer":
            return int(text)
        case "real":
            return float(text)
        case "blob":
            return base64.b64decode(text)
        case "text_base64":
            with contextlib.suppress(UnicodeDecodeError):
                return base64.b64decode(text).decode()
    return Typed(value["type"], text)  # such as a text that is not UTF-8; it can be a parameter again


_POSTGRES: dict[str, Convert] = {
    "bigint": _exact(int),
    "oid": _exact(int),
    "numeric": _exact(Decimal),
    "real": _float,
    "double precision": _float,
    "date": _exact(date.fromisoformat),
    "timestamp": _exact(_moment),
    "timestamp without time zone": _exact(_moment),
    "timestamptz": _exact(_moment),
    "timestamp with time zone": _exact(_moment),
    "time": _exact(_time),
    "time without time zone": _exact(_time),
    "uuid": _exact(UUID),
    "bytea": _exact(base64.b64decode),
}

_SQLSERVER: dict[str, Convert] = {
    "bigint": _exact(int),
    "decimal": _exact(Decimal),
    "numeric": _exact(Decimal),
    "money": _exact(Decimal),
    "smallmoney": _exact(Decimal),
    "float": _float,
    "real": _float,
    "date": _exact(date.fromisoformat),
    "datetime": _exact(_moment),
    "smalldatetime": _exact(_moment),
    "datetime2": _exact(_moment),
    "datetimeoffset": _exact(_moment),
    "time": _exact(_time),
    "uniqueidentifier": _exact(UUID),
    **{name: _exact(base64.b64decode) for name in ("binary", "varbinary", "image", "timestamp", "rowversion")},
    **dict.fromkeys(("char", "varchar", "text", "nchar", "nvarchar", "ntext"), _sqlserver_text),
}
