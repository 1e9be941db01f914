"""The errors that calls raise.

- `TransportError`: NATS or a runner could not be reached in time. The same call with the same key may be repeated.
- `JobFailed`: the job ended and took no effect. There is one subclass for each code of the contract.
- `OutcomeUnknown`: the job may have taken effect. It is no `JobFailed`, so a retry of those cannot repeat it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from ._result import Result


class DbrunnerError(Exception):
    """Base of all errors of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)  # pickled without calling __init__


def _restored(cls: type[DbrunnerError], args: tuple[Any, ...], state: dict[str, Any]) -> DbrunnerError:
    error = cls.__new__(cls)
    error.args = args  # an OSError does not take them here
    error.__dict__.update(state)
    return error


class TransportError(DbrunnerError):
    """The answer did not arrive. Repeating the call with the same key is safe: the job has one effect."""


class ConnectionFailed(TransportError):
    """No server accepted the connection."""


class Disconnected(TransportError):
    """The connection ended during the call, and the call could not wait for it to return."""


class NoStream(TransportError):
    """No stream takes the job: the database or kind does not exist, or the stream has no leader at the moment."""


class NoRunner(TransportError):
    """No runner answers requests for this database."""


class NoResultYet(TransportError, TimeoutError):
    """The wait is over and the job is not: it continues. Wait again with the same key."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class NotHealthy(TransportError):
    """The database did not become healthy in time. The message has the reasons."""


class Closed(DbrunnerError):
    """The runner was closed, before the call or during it."""


class AccessDenied(DbrunnerError):
    """The NATS user may not use the subject that the message names."""


class RequestRefused(DbrunnerError):
    """A runner refused a request. `code` is one of those that docs/messages.md lists under "The service"."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message
        self.retryable = retryable


class RowsUnavailable(DbrunnerError):
    """The rows cannot be read this way, or they no longer exist. The message has the reason."""


class DigestMismatch(DbrunnerError):
    """The rows that arrived are not those that the runner stored."""


class OutcomeUnknown(DbrunnerError):
    """The job may have taken effect, and no record shows whether it did. Inspect the database; never repeat it."""

    def __init__(self, result: Result) -> None:
        super().__init__(_describe(result))
        self.result = result
        self.code = result.error.code if result.error else "outcome_unknown"


class JobFailed(DbrunnerError):
    """The job ended with the status failed, rejected, cancelled or expired, without effect.

    Effects of a failed job of kind `statement` or `migration` may remain: see docs/messages.md.
    """

    code: str = ""
    by_code: ClassVar[dict[str, type[JobFailed]]] = {}

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        JobFailed.by_code[cls.code] = cls

    def __init__(self, result: Result, message: str | None = None) -> None:
        super().__init__(message or _describe(result))
        self.result = result
        self.retryable = bool(result.error and result.error.retryable)
        """Whether the same job under another key may succeed."""
        if result.error and not self.code:
            self.code = result.error.code  # one that this version does not know

    @property
    def status(self) -> str:
        return self.result.status


def _describe(result: Result) -> str:
    text = f"job {result.job_id} on {result.database}: {result.status}"
    if result.error:
        text += f": {result.error.message} ({result.error.code})"
    return text


def error_of(result: Result) -> JobFailed | OutcomeUnknown | None:
    """Return the error for a result, or None if the job succeeded."""
    if result.status == "succeeded":
        return None
    if result.status not in ("failed", "rejected", "cancelled", "expired"):
        return OutcomeUnknown(result)
    code = result.error.code if result.error else result.status
    return JobFailed.by_code.get(code, JobFailed)(result)
