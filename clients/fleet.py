"""A NATS server and runners as processes, for tests: they can be killed and started again."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMEOUT = 60.0
KINDS = "query,transaction,statement,migration,health,call,dry_run,approve"


def build(folder: Path) -> None:
    """Build the runner and a NATS server, both of this repository's go.mod."""
    for name, package in (("runner", "./cmd/runner"), ("nats-server", "github.com/nats-io/nats-server/v2")):
        subprocess.run(["go", "build", "-o", str(folder / name), package], cwd=ROOT, check=True)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"{process.args!r} does not listen on {port}")


def restricted_users(password: str) -> str:
    """Return the part of a NATS configuration with an admin, and a flow with the permissions of docs/security.md."""
    docs = (ROOT / "docs" / "security.md").read_text()
    flow = docs[docs.index("FLOW_RIGHTS = {") :].split("```")[0]
    return f"""{flow}
    authorization {{ users = [
      {{ user: admin, password: admin }}
      {{ user: flow, password: {password}, permissions: $FLOW_RIGHTS }}
      {{ user: stranger, password: {password}, permissions: {{ publish: "x", subscribe: "_INBOX.stranger.>" }} }}
    ] }}"""


class Process:
    """A process that ends with the test."""

    def __init__(self, args: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self._args, self._log, self._env = args, log, env
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(self._args, stdout=out, stderr=out, env=self._env)
        return self.process

    def kill(self) -> None:
        """Kill it, as a crash would."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()


class Fleet:
    """A NATS server with JetStream, and a runner for two SQLite databases and, where it is installed, PostgreSQL."""

    def __init__(self, binaries: Path, folder: Path, *, postgres: str | None = None, users: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        conf = folder / "nats.conf"
        conf.write_text(f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{folder}/js" }}\n{users}')
        self.nats = Process([str(binaries / "nats-server"), "-c", str(conf)], folder / "nats.log")
        databases = {"shop": ("sqlite", f"file:{folder}/shop.db"), "billing": ("sqlite", f"file:{folder}/billing.db")}
        if postgres:
            databases["pg"] = ("postgres", postgres)
        env = {
            "PATH": os.environ["PATH"],
            "RUNNER_NATS_URLS": self.url,
            "RUNNER_INSTANCE": "r1",
            "RUNNER_DATABASES": ",".join(databases),
            "RUNNER_TOPOLOGY_JOBS_MAX_BYTES": "64MiB",
            "RUNNER_TOPOLOGY_RESULTS_MAX_BYTES": "128MiB",
            "RUNNER_TOPOLOGY_ACK_WAIT": "5s",
        }
        env["SHOP_QUEUES"] = "bulk"
        if users:
            env |= {"RUNNER_NATS_USER": "admin", "RUNNER_NATS_PASSWORD": "admin"}
        for name, (engine, dsn) in databases.items():
            env |= {f"{name.upper()}_TYPE": engine, f"{name.upper()}_CONNECTION_STRING": dsn}
            env |= {f"{name.upper()}_MIGRATIONS_FOLDER": str(folder / "migrations"), f"{name.upper()}_POOL_MAX": "4"}
        env |= {"SHOP_KINDS": KINDS, "SHOP_CATALOG_FOLDER": str(ROOT / "contract" / "cases" / "catalog")}
        migrations = folder / "migrations"
        migrations.mkdir()
        (migrations / "1_create_accounts.up.sql").write_text(
            "CREATE TABLE accounts (id integer PRIMARY KEY, name text);"
        )
        self.runner = Process([str(binaries / "runner"), "serve"], folder / "runner.log", env)
        self._env, self._runner = env, str(binaries / "runner")

    def command(self, *args: str) -> None:
        """Run a command of the runner's as its own NATS user."""
        subprocess.run([self._runner, *args], env=self._env, check=True)

    def start(self) -> None:
        self.start_nats()
        self.runner.start()

    def start_nats(self) -> None:
        await_port(self.port, self.nats.start())

    def stop(self) -> None:
        self.runner.kill()
        self.nats.kill()


class Postgres:
    """A PostgreSQL server of its own. It refuses to run as root, so there it runs as the package's user."""

    def __init__(self) -> None:
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [str(Path(shutil.which("initdb") or "").parent)]
        self._bin, self._port = found[-1], free_port()
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = tempfile.mkdtemp(prefix="dbrunner-pg")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        if self._user:
            shutil.chown(self._folder, self._user)
        data = f"{self._folder}/data"
        init = [f"{self._bin}/initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
        subprocess.run(init, check=True, user=self._user, cwd="/", stdout=subprocess.DEVNULL)
        server = [f"{self._bin}/postgres", "-D", data, "-p", str(self._port), "-c", "fsync=off"]
        server += ["-c", "unix_socket_directories=", "-c", "listen_addresses=127.0.0.1"]
        with open(f"{self._folder}/log", "wb") as log:
            self._process = subprocess.Popen(server, user=self._user, cwd="/", stdout=log, stderr=log)
        await_port(self._port, self._process)
        return f"postgres://postgres@127.0.0.1:{self._port}/postgres?sslmode=disable"

    def stop(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
