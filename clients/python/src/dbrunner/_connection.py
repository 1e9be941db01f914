"""One connection to NATS for all threads and event loops of the process.

nats-py's connections belong to one event loop. So they live on a loop of this package, in a thread of its own; calls
from elsewhere are sent there. `Lease`s of the same settings share a connection, which closes with its last lease.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import re
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from .errors import AccessDenied, Closed, ConnectionFailed, DbrunnerError, Disconnected, RequestRefused

log = logging.getLogger("dbrunner")
T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
REQUEST_TIMEOUT = 6.0  # a little more than runners take to answer a request


@dataclass(frozen=True)
class Settings:
    """How to connect. Equal settings share a connection."""

    servers: tuple[str, ...] = field(repr=False)  # they may contain a password
    credentials: str | None = None
    credentials_text: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    inbox_prefix: str = "_INBOX"
    name: str = "dbrunner"

    @property
    def places(self) -> str:
        """The servers' addresses, without users and passwords."""
        return ", ".join(urlsplit(s if "://" in s else f"nats://{s}").netloc.rpartition("@")[2] for s in self.servers)

    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "servers": list(self.servers),
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "tls": self.tls,
            "inbox_prefix": self.inbox_prefix,
            "name": self.name,
        }
        if self.credentials_text:
            options["user_credentials"] = RawCredentials(self.credentials_text)
        elif self.credentials:
            options["user_credentials"] = self.credentials
        return options


class Connection:
    """A connection that reconnects indefinitely. All its methods run on the package's loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.leases = 0
        self._opening = asyncio.Lock()
        self._nc: Client | None = None
        self._up = asyncio.Event()
        self._closing = False
        self._calls: dict[asyncio.Future[None], str] = {}  # calls in flight also wait for these, for errors
        self._last_error: Exception | None = None

    async def open(self) -> Client:
        """Return the client, connecting where there is none, or where the server has ended the last one."""
        async with self._opening:
            if self._closing:
                raise Closed("the runner is closed")
            if self._nc is None:
                self._nc = await self._connect()
                self._up.set()
            elif self._nc.is_closed:
                self._nc = await self._connect()
                await self._on_reconnect()
            return self._nc

    async def _connect(self) -> Client:
        nc = Client()
        self._last_error = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await nc.connect(
                    **self.settings.options(),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnect,
                    reconnected_cb=self._on_reconnect,
                )
        except (TimeoutError, OSError, nats.errors.Error, ValueError) as error:
            cause = self._last_error or error
            reason = str(cause) or type(cause).__name__
            raise ConnectionFailed(f"no connection to NATS at {self.settings.places}: {reason}") from None
        return nc

    async def close(self) -> None:
        self._closing = True
        if self._nc is not None and not self._nc.is_closed:
            closing = asyncio.ensure_future(self._nc.close())
            # nats-py may wait for a broken transport or an attempt to reconnect, and end as if it were cancelled.
            await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT)
            if not closing.cancel() and not closing.cancelled() and closing.exception():
                log.debug("closing the connection to NATS: %r", closing.exception())
            for sub in list(self._nc._subs.values()):  # where closing fails, nats-py leaves their tasks
                if sub._wait_for_msgs_task:
                    sub._wait_for_msgs_task.cancel()
        self._fail(Closed("the runner was closed"))

    async def ask(
        self,
        subject: str,
        payload: bytes = b"",
        headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> Msg:
        """Send a request and return its answer. Raises NoRespondersError, Disconnected or AccessDenied."""
        try:
            async with asyncio.timeout(timeout):
                nc = await self.open()
                await self._up.wait()
                async with self._notified_of_errors(subject) as fault:
                    request = asyncio.ensure_future(nc.request(subject, payload, timeout=timeout, headers=headers))
                    waiting: set[asyncio.Future[Any]] = {request, fault}
                    try:
                        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                        if fault.done():
                            fault.result()
                        return request.result()
                    finally:
                        request.cancel()
        except TimeoutError:  # also nats-py's
            raise Disconnected(f"no answer to {subject} within {timeout:.3g} s") from None
        except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
            raise Disconnected("the connection to NATS was lost") from error
        except nats.errors.MaxPayloadError:
            message = "the job is larger than the server accepts: see upload_params"
            raise RequestRefused("body_too_large", message) from None

    @contextlib.asynccontextmanager
    async def subscription(self, subject: str) -> AsyncIterator[Subscription]:
        nc = await self.open()
        try:
            sub = await nc.subscribe(subject)
        except nats.errors.ConnectionClosedError as error:
            raise Disconnected("the connection to NATS was lost") from error
        try:
            yield sub
        finally:
            with contextlib.suppress(nats.errors.Error):
                await sub.unsubscribe()

    async def ask_all(
        self, subject: str, take: Callable[[Msg], None], enough: Callable[[], bool], timeout: float
    ) -> None:
        """Send a request that many answer. Returns when it is enough or the time is over."""
        inbox = await self.new_inbox()
        async with self.subscription(inbox) as sub, self._notified_of_errors(subject) as fault:
            await (await self.open()).publish(subject, b"", reply=inbox)
            ends = asyncio.get_running_loop().time() + timeout
            while not enough() and (left := ends - asyncio.get_running_loop().time()) > 0:
                message = asyncio.ensure_future(sub.next_msg(timeout=left))
                waiting: set[asyncio.Future[Any]] = {message, fault}
                try:
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    if fault.done():
                        fault.result()
                    take(message.result())
                except nats.errors.TimeoutError:
                    return
                except nats.errors.ConnectionClosedError as error:
                    raise Disconnected("the connection to NATS was lost") from error
                finally:
                    message.cancel()

    async def new_inbox(self) -> str:
        return (await self.open()).new_inbox()

    async def publish(self, subject: str, payload: bytes = b"") -> None:
        await (await self.open()).publish(subject, payload)

    @contextlib.asynccontextmanager
    async def _notified_of_errors(self, subject: str) -> AsyncIterator[asyncio.Future[None]]:
        fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls[fault] = subject
        try:
            yield fault
        finally:
            del self._calls[fault]
            if fault.done():
                fault.exception()  # it is looked at, so that asyncio does not complain
            fault.cancel()

    def _fail(self, error: DbrunnerError, subject: str | None = None) -> None:
        for fault, used in self._calls.items():
            if not fault.done() and (subject is None or used.lower() == subject):
                fault.set_exception(error)

    async def _on_error(self, error: Exception) -> None:
        """Take nats-py's reports: each failed attempt to reconnect, and what the server refuses."""
        self._last_error = error
        if self._nc is None and isinstance(error, nats.errors.AuthorizationError):
            raise error  # ends the attempt to connect
        # The text is nats-py's, in lower case: permissions violation for publish to "…"
        denied = re.search(r'permissions violation for (publish|subscription) to "([^"]+)"', str(error).lower())
        if not denied:
            log.debug("NATS: %s", error or type(error).__name__)
            return
        action, subject = denied.groups()
        verb = "publish" if action == "publish" else "subscribe to"
        refusal = AccessDenied(f"the NATS user may not {verb} {subject}")
        if action == "publish":
            self._fail(refusal, subject)
        elif subject.startswith(self.settings.inbox_prefix.lower() + "."):
            self._fail(AccessDenied(f"{refusal}: set inbox_prefix to the user's own inboxes"))
        else:
            log.debug("%s", refusal)  # results are looked for, too

    async def _on_disconnect(self) -> None:
        if self._closing or not self._up.is_set():
            return
        self._up.clear()
        log.warning("connection to NATS lost: %s", self.settings.places)
        self._fail(Disconnected("the connection to NATS was lost"))

    async def _on_reconnect(self) -> None:
        self._up.set()
        log.info("connection to NATS restored: %s", self.settings.places)


class _Loop:
    """The package's event loop and its connections."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._connections: dict[Settings, Connection] = {}
        self._thread = threading.Thread(target=self.loop.run_forever, name="dbrunner", daemon=True)
        self._thread.start()
        atexit.register(self._stop)

    def send(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(_guarded(coroutine), self.loop)

    def lease(self, settings: Settings) -> Connection:
        connection = self._connections.setdefault(settings, Connection(settings))
        connection.leases += 1
        return connection

    async def release(self, connection: Connection) -> None:
        connection.leases -= 1
        if connection.leases == 0:
            del self._connections[connection.settings]
            await connection.close()

    def _stop(self) -> None:
        """End what still runs when the process exits, so that asyncio has nothing to complain about."""
        if not self._thread.is_alive():
            return  # after a fork

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=1)
            self.loop.stop()

        asyncio.run_coroutine_threadsafe(cancel_all(), self.loop)
        self._thread.join(timeout=2)


async def _guarded(coroutine: Coroutine[Any, Any, T]) -> T:
    """Let a CancelledError pass only if the caller is cancelled; others are those of futures inside nats-py."""
    try:
        return await coroutine
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Disconnected("the connection to NATS ended during the call") from None


_lock = threading.Lock()
_shared: _Loop | None = None


def shared_loop() -> _Loop:
    global _shared
    with _lock:
        if _shared is None:
            _shared = _Loop()
        return _shared


def _after_fork() -> None:
    global _lock, _shared
    _lock, _shared = threading.Lock(), None  # threads do not survive a fork


os.register_at_fork(after_in_child=_after_fork)


class Lease:
    """A share of a connection. It may be used from any thread and any event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop: _Loop | None = None
        self._connection: Connection | None = None
        self._closed = False

    async def connection(self) -> Connection:
        """Return the connection; on the package's loop only."""
        if self._closed:
            raise Closed("the runner is closed")
        if self._connection is None or self._loop is not shared_loop():
            self._loop = shared_loop()
            self._connection = self._loop.lease(self.settings)
        return self._connection

    async def close(self) -> None:
        self._closed = True
        if self._connection is not None and self._loop is not None:
            connection, self._connection = self._connection, None
            await self._loop.release(connection)


async def call(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the package's loop, from another loop. Cancelling the caller cancels it."""
    return await asyncio.wrap_future(shared_loop().send(coroutine))


def call_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the package's loop, from a thread without one."""
    future = shared_loop().send(coroutine)
    try:
        return future.result()
    except BaseException:
        future.cancel()  # the caller was interrupted
        raise
