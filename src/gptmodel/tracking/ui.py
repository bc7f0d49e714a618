"""MLflow's pages over the store (`gptmodel ui`), and the address at which they begin with the validation curves.

One server process, no background jobs: a quarter of the memory of plain `mlflow ui`. MLflow's own first page asks for
traces of language models, so the address leads past it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gptmodel.errors import UserError
from gptmodel.tracking import store

SETTINGS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
TRAINING = "workflowType=machine_learning"


def server() -> str:
    """Return the address of the tracking server that `MLFLOW_TRACKING_URI` names, "" where it names none."""
    uri = store.address()
    return store.without_password(uri).rstrip("/") if uri.startswith(("http://", "https://")) else ""


def page(base: str) -> str:
    """Return the address of the curves of the experiment that ran last; of all experiments where there is none.

    `base`: where MLflow's pages are. `UserError` where the store does not work.
    """
    with store.needed():
        client = store.open_store().client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        newest = client.search_runs(experiments, order_by=["attributes.start_time DESC"], max_results=1)
    if not newest:
        return f"{base}/#/experiments?{TRAINING}"
    return f"{base}/#/experiments/{newest[0].info.experiment_id}/runs?{TRAINING}&compareRunsMode=CHART"


@contextmanager
def serving(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run MLflow's server on this machine's `port` inside the block, to which it answers from the beginning.

    `UserError` where the port is taken or the server ends.
    """
    if not 0 < port < 1 << 16:
        raise UserError(f"--port must be between 1 and 65535, not {port}")
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        said = f"cannot listen on port {port} ({error.strerror}): name another"
        raise UserError(f"{said}, `make ui PORT=5001` or `gptmodel ui --port 5001`") from None
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", store.address(), "--uvicorn-opts", "--log-level warning"]
    environment = {**os.environ, **SETTINGS}
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    ended_before = signal.signal(signal.SIGTERM, lambda *_: _end(running))
    try:
        while not _answers(f"http://127.0.0.1:{port}/health"):
            if running.poll() is not None:
                raise UserError(f"MLflow's server ended with exit code {running.returncode}: its lines above say why")
            time.sleep(0.2)
        yield running
    finally:
        _end(running)
        running.wait()
        signal.signal(signal.SIGTERM, ended_before)


def show(address: str) -> None:
    """Open an address in the browser of who sits before a screen."""
    has_screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.stdout.isatty() and has_screen:
        webbrowser.open(address)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=1).close()
    except OSError:
        return False
    return True


def _end(running: "subprocess.Popen[bytes]") -> None:
    """Ask the server and its workers to end."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(running.pid, signal.SIGTERM)
        else:
            running.terminate()
