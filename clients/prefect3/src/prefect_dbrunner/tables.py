"""Results as DataFrames and as table artifacts."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect.artifacts import create_table_artifact

from dbrunner import Result

from .blocks import DbrunnerDatabase

if TYPE_CHECKING:
    import pandas

MOST_ROWS = 1000


def to_dataframe(database: DbrunnerDatabase, result: Result, *, statement: int | None = None) -> pandas.DataFrame:
    """Return the rows of a result as a DataFrame, wherever they are. Requires `prefect-dbrunner[pandas]`.

    Values are exact: `numeric` is Decimal, in columns of type object. Parquet files keep typed columns.
    """
    import pandas

    answer = result.answer(statement)
    if answer.rows_object and answer.rows_object.format == "parquet":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            database.save_rows(result, path, statement=statement)
            return pandas.read_parquet(path)
    rows = database.get_database().rows(result, statement=statement)
    return pandas.DataFrame.from_records(list(rows), columns=[column.name for column in answer.columns])


def publish_table(
    database: DbrunnerDatabase,
    result: Result,
    key: str,
    *,
    description: str | None = None,
    statement: int | None = None,
    most_rows: int = MOST_ROWS,
) -> UUID:
    """Create a table artifact of the first rows of a result. Artifact keys consist of a-z, 0-9 and hyphens."""
    names = [column.name for column in result.answer(statement).columns]
    rows = islice(database.get_database().rows(result, statement=statement), most_rows)
    table = [
        {name: _cell(row[name] if isinstance(row, dict) else row[i]) for i, name in enumerate(names)} for row in rows
    ]
    return cast(UUID, create_table_artifact(table, key=key, description=description))


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)
