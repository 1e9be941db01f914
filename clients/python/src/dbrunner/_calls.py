"""Named statements of a database's catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NamedStatement:
    """A named statement, which `call` runs."""

    name: str
    description: str
    effect: str
    """`read_only` or `exactly_once`."""
    revision: str
    """It changes with the definition."""
    schema: Mapping[str, Any]
    """The JSON Schema of the parameters, as an object."""
    raw: Mapping[str, Any] = field(repr=False)

    @staticmethod
    def parse(raw: Mapping[str, Any]) -> NamedStatement:
        return NamedStatement(
            name=str(raw["name"]),
            description=str(raw.get("description", "")),
            effect=str(raw["effect"]),
            revision=str(raw["revision"]),
            schema=raw["schema"],
            raw=raw,
        )
