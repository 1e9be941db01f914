"""Rows as files and as Python's values. This runs in the caller's thread, beside the connection."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ._encode import encode
from ._result import Answer, Row, RowDecoder, RowsObject
from ._values import loads
from .errors import RowsUnavailable


class Decompress(Protocol):
    def decompress(self, data: bytes, /) -> bytes: ...


class _Plain:
    def decompress(self, data: bytes, /) -> bytes:
        return data


class LineDecoder:
    """Turns chunks of an NDJSON file into rows."""

    def __init__(self, rows: RowsObject, decode: RowDecoder) -> None:
        if rows.format != "ndjson":
            raise RowsUnavailable(f"the rows are a {rows.format} file: save it, or submit the job with format='ndjson'")
        self._decompressor = _decompressor(rows.compression)
        self._decode, self._rest = decode, b""

    def feed(self, chunk: bytes) -> Iterator[Row]:
        lines = (self._rest + self._decompressor.decompress(chunk)).split(b"\n")
        self._rest = lines.pop()
        for row in loads(b"[" + b",".join(lines) + b"]"):
            yield self._decode(row)


def _decompressor(compression: str) -> Decompress:
    if compression == "gzip":
        return zlib.decompressobj(wbits=31)
    if compression == "zstd":
        try:
            import zstandard
        except ImportError:
            raise RowsUnavailable("reading zstd requires: pip install 'dbrunner[zstd]'") from None
        decompressor: Any = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True)
        return decompressor  # type: ignore[no-any-return]
    return _Plain()


def inline_file(answer: Answer, path: Path) -> bytes:
    """Return the rows of a result as the NDJSON file that a runner would have written."""
    if "".join(path.suffixes[-2:]).endswith((".csv", ".parquet", ".json", ".gz", ".zst")):
        raise RowsUnavailable(
            f"the rows are in the result, not in a file of this format: submit with format= for {path.name}"
        )
    return b"".join(encode(row) + b"\n" for row in answer.raw.get("rows", ()))


class FileInTheMaking:
    """A temporary file beside `path` that takes its name when it is complete."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        prefix = f".{self.path.name}."
        self._file = tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=prefix, delete=False)  # noqa: SIM115
        self._complete = False

    def __enter__(self) -> FileInTheMaking:
        return self

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def complete(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(self._file.name, 0o666 & ~mask)  # as open() makes files; temporary ones are private
        os.replace(self._file.name, self.path)
        self._complete = True

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._complete:
            os.unlink(self._file.name)
