"""`gptmodel serve`: the command line of the server, and its life from the socket to the last request.

SIGTERM and Ctrl-C drain: no connection is accepted any more, what runs or waits is finished, at most `--drain-seconds`
long, and the exit code is 0. Light to import: what it serves (`web`) needs the extra [serve] and comes in when it runs.

Left out on purpose: several worker processes (they would not share a batch), TLS and passwords (put a proxy before it).
"""

import importlib
import ipaddress
import logging
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal, get_args

import typer

from gptmodel.errors import UserError, one_line_errors
from gptmodel.serving.limits import Limits

DeviceName = Literal["cpu", "cuda", "auto"]


def serve(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle: models/NAME/bundle")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all, for other machines too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 8000,
    max_concurrent: Annotated[int, typer.Option(help="Texts decoded together.")] = 32,
    max_queue: Annotated[int, typer.Option(help="Texts that may wait for a place; more get 429.")] = 256,
    max_tokens: Annotated[int, typer.Option(help="The most tokens that a text may ask for.")] = 1024,
    max_prompt_characters: Annotated[int, typer.Option(help="The longest prompt of a request.")] = 10_000,
    drain_seconds: Annotated[int, typer.Option(help="Time for running requests to end after SIGTERM.")] = 30,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: CUDA where there is one.")] = "cpu",
    variant: Annotated[
        str | None,
        typer.Option(help="Graph: portable, fp32, int8 or fp16. [default on a CPU: fp32, exact in company]"),
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of the model; one core is for the network.")] = 1,
) -> None:
    """Serve a bundle over HTTP: a playground page at /, an OpenAI-compatible API under /v1.

    Requests are decoded together; each gets the text that `gptmodel generate --variant fp32` gives for its seed.
    There are /health and /metrics (Prometheus) too. It listens to this machine only, unless --host says otherwise.
    """
    with one_line_errors():
        limits = Limits(max_concurrent, max_queue, max_tokens, max_prompt_characters)
        if device not in get_args(DeviceName):
            raise UserError(f"device must be one of {', '.join(get_args(DeviceName))}, not {device}")
        web = _web()
        service = web.Service.open(bundle, device, threads, variant, limits)
        listening = _listen(host, port)
        address, number = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        _say(service.summary)
        if not ipaddress.ip_address(address).is_loopback:
            _say("note: other machines can reach it, and nothing asks them for a password")
        logging.basicConfig(format="%(message)s", level=logging.WARNING)
        _say(f"listening on http://{shown}:{number} (Ctrl-C ends)")
        lost = web.run(service, listening, drain_seconds)
        _say(f"stopped: {f'{lost} requests were cut off' if lost else 'all requests were answered'}")


def _web() -> ModuleType:
    """Return the module that needs the extra [serve]."""
    try:
        return importlib.import_module("gptmodel.serving.app")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "gptmodel":
            raise
        raise UserError(f"{error.name} is not installed: pip install 'gptmodel[serve]'") from None


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; `UserError` where the address cannot be had."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"port must be between 0 (any) and 65535, not {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror}): name another --port, or --host 127.0.0.1"
        ) from None


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    typer.run(serve)
