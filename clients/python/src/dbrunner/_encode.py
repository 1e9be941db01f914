"""Python values as JSON of the contract: nothing is rounded, and what needs a stated type is refused without one."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID


@dataclass(frozen=True)
class Typed:
    """A parameter with its database type: `Typed("jsonb", {"a": 1})`, `Typed("numeric(12,2)", "9.99")`.

    Bytes, lists and mappings always need one: `bytea`, `varbinary` or `blob`; `integer[]`; `jsonb` or `json`.
    """

    type: str
    value: Any = field(repr=False)


def encode(value: Any) -> bytes:
    """Return JSON text in UTF-8. Mappings and sequences are those of a job's body."""
    return _json(value, body=True).encode()


def encode_params(params: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """Return one parameter set as one line of NDJSON."""
    return _params(params).encode()


def duration(value: str | float | timedelta) -> str:
    """Return a duration as the contract writes it."""
    if isinstance(value, str):
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return f"{round(seconds * 1000)}ms"


def _json(value: Any, *, body: bool) -> str:
    if (text := _scalar(value)) is not None:
        return text
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(k))}:{_member(k, v, body)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(_json(v, body=body) for v in value) + "]"
    raise TypeError(f"a value of type {type(value).__name__} has no form in a job")


def _member(key: str, value: Any, body: bool) -> str:
    if body and key == "params":
        return _params(value)
    if body and key == "batch":
        return "[" + ",".join(map(_params, value)) + "]"
    return _json(value, body=body)


def _params(params: Any) -> str:
    if isinstance(params, Mapping):
        return "{" + ",".join(f"{json.dumps(k)}:{_param(v)}" for k, v in params.items()) + "}"
    if isinstance(params, Sequence) and not isinstance(params, str | bytes):
        return "[" + ",".join(map(_param, params)) + "]"
    raise TypeError(f"parameters are a mapping for :name or a sequence for $1, $2, …, not {type(params).__name__}")


def _param(value: Any) -> str:
    if isinstance(value, Typed):
        content = value.value
        if isinstance(content, bytes | bytearray | memoryview):
            content = base64.b64encode(content).decode()
        return f'{{"type":{json.dumps(value.type)},"value":{_json(content, body=False)}}}'
    if (text := _scalar(value)) is not None:
        return text
    raise TypeError(f"a parameter of type {type(value).__name__} needs its database type: dbrunner.Typed(type, value)")


def _scalar(value: Any) -> str | None:
    match value:
        case None | bool() | int() | str():
            return json.dumps(value, ensure_ascii=False)
        case float() | Decimal() if not math.isfinite(value):
            return json.dumps(str(value))  # NaN, Infinity: not numbers of JSON; databases read the text
        case float():
            return repr(value)
        case Decimal():
            return format(value, "f")
        case date() | time():  # a datetime is a date
            return f'"{value.isoformat()}"'
        case UUID():
            return f'"{value}"'
    return None
