"""Run SQL jobs on databases through dbrunner: each takes effect once, and its result is stored once.

    async with dbrunner.connect("nats://127.0.0.1:4222") as runner:
        result = await runner.database("shop").query("SELECT 1 AS n")

`dbrunner.sync` has the same names for code without an event loop.
"""

from . import jobs as jobs
from ._calls import NamedStatement as NamedStatement
from ._client import Database as Database
from ._client import Job as Job
from ._client import Runner as Runner
from ._client import connect as connect
from ._core import Cancellation as Cancellation
from ._encode import Typed as Typed
from ._result import Answer as Answer
from ._result import Column as Column
from ._result import Result as Result
from ._result import ResultError as ResultError
from ._result import Row as Row
from ._result import RowsObject as RowsObject
from ._running import InFlight as InFlight
from ._running import MissingRunner as MissingRunner
from ._running import RunningJob as RunningJob
from .codes import *  # noqa: F403
from .errors import AccessDenied as AccessDenied
from .errors import Closed as Closed
from .errors import ConnectionFailed as ConnectionFailed
from .errors import DbrunnerError as DbrunnerError
from .errors import DigestMismatch as DigestMismatch
from .errors import Disconnected as Disconnected
from .errors import NoResultYet as NoResultYet
from .errors import NoRunner as NoRunner
from .errors import NoStream as NoStream
from .errors import NotHealthy as NotHealthy
from .errors import OutcomeUnknown as OutcomeUnknown
from .errors import RequestRefused as RequestRefused
from .errors import RowsUnavailable as RowsUnavailable
from .errors import TransportError as TransportError
from .jobs import JobSpec as JobSpec
from .jobs import ParamsFrom as ParamsFrom
from .jobs import Statement as Statement
