"""The JSON Schemas of the contract, judged by a second validator, and what this client encodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

ROOT = Path(__file__).parents[3]
SCHEMAS = sorted((ROOT / "contract" / "schema").glob("*.json"))
GOLDEN = ROOT / "internal" / "jobs" / "testdata" / "golden"
KINDS = {"batch": "transaction", "outside": "query", "params_from": "transaction", "approve_call": "approve"}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "contract" / "schema" / f"{name}.json").read_text()))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_each_schema_is_valid(path: Path) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text()))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.name)
def test_golden_messages_fit(path: Path) -> None:
    name, what, _ = path.name.split(".")
    schema = "result" if what == "result" else f"job-{KINDS.get(name, name)}"
    validator(schema).validate(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        ("job-query", {"sql": "SELECT 1", "parms": []}),
        ("job-query", {"sql": " "}),
        ("job-query", {"sql": "SELECT 1", "answer": "reply"}),
        ("job-query", {"sql": "SELECT 1", "labels": {"a\x01": ""}}),
        ("job-transaction", {"statements": []}),
        ("job-transaction", {"statements": [{"sql": "DELETE", "params": [], "batch": [[1]]}]}),
        ("job-migration", {"action": "goto"}),
        ("job-health", {"checks": ["pools"]}),
        ("result", {"version": 1, "job_id": "a"}),
    ],
)
def test_what_is_wrong_is_refused(schema: str, body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        validator(schema).validate(body)
