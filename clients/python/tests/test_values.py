"""What needs no server: encoding, decoding, errors, secrets."""

from __future__ import annotations

import json
import pickle
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import dbrunner
from dbrunner import Typed, errors, jobs
from dbrunner._encode import encode_params
from dbrunner._result import Result

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (Decimal("12.50"), "12.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        (Decimal("NaN"), '"NaN"'),
        (date(2026, 11, 1), '"2026-11-01"'),
        (datetime(2026, 11, 1, 12, tzinfo=UTC), '"2026-11-01T12:00:00+00:00"'),
        (time(12, 30), '"12:30:00"'),
        (UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
        ('a "quoted" é', '"a \\"quoted\\" é"'),
        (Typed("bytea", b"\x00\xff"), '{"type":"bytea","value":"AP8="}'),
        (Typed("integer[]", [1, None]), '{"type":"integer[]","value":[1,null]}'),
        (Typed("jsonb", {"params": [1]}), '{"type":"jsonb","value":{"params":[1]}}'),
    ],
)
def test_parameters(value: Any, text: str) -> None:
    assert encode_params([value]).decode() == f"[{text}]"


@pytest.mark.parametrize("value", [b"bytes", [1], {"a": 1}, timedelta(1), object()])
def test_parameters_that_need_a_type(value: Any) -> None:
    with pytest.raises(TypeError, match=r"needs its database type: dbrunner\.Typed"):
        encode_params({"a": value})


def test_writes_require_a_key() -> None:
    with pytest.raises(TypeError):
        jobs.transaction(["DELETE FROM t"])  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="requires a key"):
        jobs.migration("up")
    for key in ("", "a.b", "x" * 101, "s42_dgrfgbv552j9"):
        with pytest.raises(ValueError, match="1 to 100 of"):
            jobs.statement("VACUUM", key=key)
    assert jobs.query("SELECT 1").id != jobs.query("SELECT 1").id


def test_bodies_are_those_of_the_contract() -> None:
    spec = jobs.transaction(
        [
            ("UPDATE a SET b = :b", {"b": Decimal("1.0")}),
            dbrunner.Statement("DELETE FROM a", expect_rows=(0, 3)),
            dbrunner.Statement("INSERT INTO a VALUES ($1)", batch=[[1], [2]]),
        ],
        key="k",
        timeout=1.5,
        isolation="serializable",
        labels={"order": "7"},
    )
    body = json.loads(spec.body)
    assert body.pop("labels") == {"order": "7", "dbrunner_request": spec.request}
    assert body == {
        "id": "k",
        "timeout": "1500ms",
        "isolation": "serializable",
        "statements": [
            {"sql": "UPDATE a SET b = :b", "params": {"b": 1.0}},
            {"sql": "DELETE FROM a", "expect_rows": {"min": 0, "max": 3}},
            {"sql": "INSERT INTO a VALUES ($1)", "batch": [[1], [2]]},
        ],
    }
    again = jobs.transaction([("UPDATE a SET b = :b", {"b": Decimal("2.0")})], key="k")
    assert again.request != spec.request
    limited = jobs.transaction([("UPDATE a SET b = :b", {"b": Decimal("2.0")})], key="k", max_affected=5)
    assert json.loads(limited.body)["max_affected"] == 5
    shared = jobs.transaction([("UPDATE a SET b = :b", {"b": Decimal("2.0")})], key="k", commit="shared")
    assert json.loads(shared.body)["commit"] == "shared"
    assert limited.request != again.request
    assert json.loads(jobs.query("SELECT 1", format="csv").body)["output"] == "object"


def result_of(status: str, code: str) -> Result:
    error = {"code": code, "message": "because", "retryable": True}
    return Result({"job_id": "j", "database": "shop", "status": status, "error": error}, "")


def test_each_documented_code_has_its_class() -> None:
    text = (DOCS / "messages.md").read_text()
    table = text[text.index("## Error codes") : text.index("## Dead letters")]
    codes = {c for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for c in re.findall("`(.*?)`", row)}
    assert len(codes) > 50
    assert errors.JobFailed.by_code.keys() == codes - {"outcome_unknown"}


def test_errors_by_code() -> None:
    error = errors.error_of(result_of("failed", "lock_timeout"))
    assert isinstance(error, dbrunner.LockTimeout)
    assert (error.code, error.status, error.retryable) == ("lock_timeout", "failed", True)
    assert str(error) == "job j on shop: failed: because (lock_timeout)"
    future = errors.error_of(result_of("failed", "code_of_the_future"))
    assert type(future) is dbrunner.JobFailed
    assert future.code == "code_of_the_future"


@pytest.mark.parametrize("status", ["unknown", "status_of_the_future"])
def test_unknown_is_not_a_failed_job(status: str) -> None:
    error = errors.error_of(result_of(status, "lock_timeout"))
    assert isinstance(error, dbrunner.OutcomeUnknown)
    assert not isinstance(error, dbrunner.JobFailed | dbrunner.TransportError)


@pytest.mark.parametrize(
    "error",
    [
        dbrunner.NoResultYet("text", "id"),
        dbrunner.RequestRefused("code", "text", retryable=True),
        dbrunner.LockTimeout(result_of("failed", "lock_timeout")),
        dbrunner.OutcomeUnknown(result_of("unknown", "outcome_unknown")),
    ],
)
def test_errors_and_results_can_be_pickled(error: dbrunner.DbrunnerError) -> None:
    """Prefect stores them, and process pools send them."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


def test_values_of_sql_server() -> None:
    columns = ["bigint", "decimal", "uniqueidentifier", "datetime2", "datetime2", "varbinary", "float", "nvarchar"]
    row = [
        "9007199254740993",
        "12.50",
        "6f9619ff-8b86-d011-b42d-00c04fc964ff",
        "2026-11-25T16:22:01.1234560",
        "2026-11-25T16:22:01.1234567",
        "AP8=",
        1.5,
        {"type": "text_base64", "value": "AGE="},
    ]
    raw: dict[str, Any] = {"job_id": "j", "status": "succeeded", "engine": "sqlserver", "rows": [row]}
    raw["columns"] = [{"name": str(i), "type": t} for i, t in enumerate(columns)]
    assert Result.parse(json.dumps(raw).encode()).rows == [
        (
            9007199254740993,
            Decimal("12.50"),
            UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff"),
            datetime(2026, 11, 25, 16, 22, 1, 123456),
            "2026-11-25T16:22:01.1234567",  # Python's datetime has no room for it
            b"\x00\xff",
            1.5,
            "\x00a",
        )
    ]


def test_no_secret_is_shown() -> None:
    runner = dbrunner.connect("nats://user:secret1@127.0.0.1:1", password="secret2", token="secret3")
    other = dbrunner.connect("127.0.0.1:1", credentials_text="secret4")
    shown = repr(runner) + repr(runner._lease.settings) + repr(other._lease.settings) + repr(Typed("text", "secret5"))
    assert "secret" not in shown
    assert repr(runner) == "<Runner dbrunner at 127.0.0.1:1>"


DRY_RUN = Result({"job_id": "d1", "kind": "dry_run", "status": "succeeded", "effect_digest": "sha256:0"}, "sqlite")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: jobs.query("SELECT 1", timout=5), "unknown option 'timout'; did you mean 'timeout'?"),  # type: ignore[call-arg]
        (lambda: jobs.transaction(["SELECT 1"], key="k", kye="k"), "unknown option 'kye'"),  # type: ignore[call-arg]
        (lambda: jobs.migration("status", wiat=1), "unknown option 'wiat'"),  # type: ignore[call-arg]
        (lambda: jobs.approve(DRY_RUN, key="k"), "unknown option 'key'"),  # type: ignore[call-arg]
    ],
)
def test_unknown_options(make: Any, text: str) -> None:
    """An option that does not exist is no job that is rejected, which would use up the key."""
    with pytest.raises(TypeError, match=re.escape(text)):
        make()
