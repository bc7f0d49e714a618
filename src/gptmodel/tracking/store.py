"""Where MLflow keeps the runs: find the store, see within a second or two whether it answers, create the default one.

The store is `MLFLOW_TRACKING_URI` (a server or a database), or else the file `mlflow.db` in the repository's root:
`DVC_ROOT`, which DVC sets to the main repository even inside the temporary workspace of an experiment, or the current
folder. Artifacts of a sqlite store lie in `mlartifacts/` beside the database; a server decides for itself.

Left out on purpose: MLflow's own retries, which wait for minutes, and its file store (refused by MLflow since 3.13).
Source: https://mlflow.org/docs/latest/self-hosting/architecture/backend-store
"""

import http.client
import logging
import os
import re
import sqlite3
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gptmodel.errors import UserError
from gptmodel.files import whole_file

KNOCK_SECONDS = 2.0
LOCK_SECONDS = 120.0  # creating the database takes 6-7 s on 2 cores
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # migrations at INFO, tracebacks at ERROR: tracking says it in one line
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # standard output belongs to the stage
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}


class StoreUnavailable(Exception):
    """There is no usable store. The message is one line that names the address and the remedy."""


@dataclass(frozen=True)
class Store:
    """An open store: MLflow's client, and where new experiments keep artifacts (None: the server decides)."""

    client: Any
    artifacts: str | None


def require(package: str) -> None:
    """Raise a `UserError` where a package of the extra `pipeline` is not installed."""
    if find_spec(package) is None:
        raise UserError(f"{package} is not installed: pip install 'gptmodel[pipeline]'")


def root() -> Path:
    """Return the repository's root."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def address() -> str:
    """Return the address of the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root() / 'mlflow.db').as_posix()}"


def is_missing() -> bool:
    """Return whether the default store would have to be created: `MLFLOW_TRACKING_URI` names none."""
    return not os.environ.get("MLFLOW_TRACKING_URI") and not (root() / "mlflow.db").is_file()


def without_password(uri: str) -> str:
    """Return an address as it may be shown.

    >>> without_password("https://me:secret@example.org/mlflow")
    'https://example.org/mlflow'
    """
    return re.sub(r"//[^/@]*@", "//", uri)


def open_store() -> Store:
    """Open the store at `address()`, creating a sqlite database that is not there yet.

    Raises `StoreUnavailable` after at most a few seconds, or any of `failures()`.
    """
    uri = address()
    if uri.startswith(("http://", "https://")):
        _knock(uri)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # its retries are no news
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # where something else has imported it already
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise StoreUnavailable(
            f"mlflow cannot be imported ({error}): pip install 'gptmodel[pipeline]', or set GPTMODEL_TRACKING=off"
        ) from None
    database = _sqlite_file(uri)
    if database is None:
        remote = uri.startswith(("http://", "https://", "databricks"))
        return Store(MlflowClient(uri), None if remote else str(root() / "mlartifacts"))
    artifacts = str(database.parent / "mlartifacts")
    if not _is_there(database):
        _create(database, artifacts)
    _check(database)
    return Store(MlflowClient(uri), artifacts)


@contextmanager
def needed() -> Iterator[None]:
    """Turn what a store raises inside the block into a `UserError`: for commands that cannot do without it."""
    try:
        yield
    except StoreUnavailable as error:
        raise UserError(str(error)) from None
    except failures() as error:
        where = without_password(address())
        raise UserError(f"the store at {where} does not work ({brief(error)}): mend it or name another") from None


def failures() -> tuple[type[Exception], ...]:
    """Return what a store that breaks down may raise; anything else is a bug and keeps its traceback."""
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError, ValueError)


def brief(error: Exception) -> str:
    """Return the first line of what an error says (the others are SQL), at most 200 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _knock(uri: str) -> None:
    """See that something answers at an HTTP address: any answer will do, MLflow's client judges it later."""
    uri = without_password(uri)
    remedy = "start the server, unset MLFLOW_TRACKING_URI, or set GPTMODEL_TRACKING=off"
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=KNOCK_SECONDS).close()
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if not isinstance(reason, ssl.SSLError):  # a private certificate: the client has its own settings for it
            raise StoreUnavailable(f"no MLflow server answers at {uri} ({reason}): {remedy}") from None


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of a sqlite address; None for other stores, and for sqlite in memory or at a `file:` address."""
    if not uri.startswith("sqlite:///"):
        return None
    name = uri.removeprefix("sqlite:///").partition("?")[0]
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name).resolve()


def _is_there(database: Path) -> bool:
    return database.is_file() and database.stat().st_size > 0


def _create(database: Path, artifacts: str) -> None:
    """Create the database beside its place and move it there whole; of several processes one does, the others wait."""
    from filelock import FileLock, Timeout
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if database.is_dir():
        raise StoreUnavailable(f"{database} is a folder: MLFLOW_TRACKING_URI must name a database file in it")
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{database}.lock", timeout=LOCK_SECONDS):
            if _is_there(database):
                return
            with whole_file(database) as partial:
                store = SqlAlchemyStore(f"sqlite:///{partial.as_posix()}", artifacts)  # type: ignore[no-untyped-call]
                store.engine.dispose()
                with closing(sqlite3.connect(partial)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")  # the UI reads while a stage writes; kept in the file
    except Timeout:
        raise StoreUnavailable(f"another process holds {database}.lock: end it and run again") from None


def _check(database: Path) -> None:
    """See that the file is a database and can be written, before MLflow tries ten times."""
    try:
        with closing(sqlite3.connect(database, timeout=KNOCK_SECONDS * 10)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise StoreUnavailable(
            f"the MLflow database {database} cannot be used ({error}): move it away or mend it, then run again"
        ) from None
