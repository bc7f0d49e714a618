"""`gptmodel serve`: a bundle over HTTP, until SIGTERM or Ctrl-C. They drain, and the exit code is 0.

Left out on purpose: several worker processes (they would not share a batch), TLS and users (put a proxy before it).
"""

import ipaddress
import logging
import os
import socket
from typing import Annotated

from typer import Option

from gptmodel.cli.arguments import BundleFolder
from gptmodel.errors import UserError, one_line_errors
from gptmodel.progress import say
from gptmodel.runtime.session import Device
from gptmodel.serving.limits import Limits

KEY = "GPTMODEL_API_KEY"


@one_line_errors()
def serve(
    bundle: BundleFolder,
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0: all, for other machines too.")] = "127.0.0.1",
    port: Annotated[int, Option(help="Port to listen on; 0: any free one.")] = 8000,
    max_concurrent: Annotated[int, Option(help="Texts decoded together.")] = 32,
    max_queue: Annotated[int, Option(help="Texts that may wait; more get 429.")] = 256,
    max_tokens: Annotated[int, Option(help="The most tokens that a text may ask for.")] = 1024,
    max_prompt_characters: Annotated[int, Option(help="The longest prompt of a request.")] = 10_000,
    allow_host: Annotated[
        list[str] | None, Option(help="A name that it answers to beside localhost, --host and addresses; repeatable.")
    ] = None,
    cors: Annotated[
        list[str] | None, Option(help="An origin whose pages may use it, as https://my.example; *: all; repeatable.")
    ] = None,
    api_key: Annotated[
        str | None,
        Option(envvar=KEY, help="Whoever asks must send it: Authorization: Bearer KEY. `ps` shows the option."),
    ] = None,
    drain_seconds: Annotated[int, Option(help="Time for running requests to end after SIGTERM.")] = 30,
    device: Annotated[Device, Option(help="auto: CUDA where there is one.")] = "cpu",
    graph: Annotated[
        str | None, Option(help="portable, fp32, int8 or fp16. [default on a CPU: fp32, exact in company]")
    ] = None,
    threads: Annotated[int, Option(help="CPU threads of the model; one core is for the network.")] = 1,
) -> None:
    """Serve a bundle over HTTP: a playground page at /, an OpenAI-compatible API under /v1.

    Requests are decoded together; each gets the text that `gptmodel generate --graph fp32` gives for its seed. The API
    is described at /openapi.json; there are /health and /metrics (Prometheus) too. It listens to this machine only,
    unless --host says otherwise, and no other page in a browser may use it, unless --cors says so.
    """
    limits = Limits(max_concurrent, max_queue, max_tokens, max_prompt_characters)
    if drain_seconds < 0:
        raise UserError(f"--drain-seconds must be 0 or above, not {drain_seconds}")
    processors = os.cpu_count() or 1
    if not 1 <= threads <= processors:
        raise UserError(f"--threads must be between 1 and {processors}, the processors of this machine, not {threads}")
    try:
        from gptmodel.serving import server
        from gptmodel.serving.access import Access
        from gptmodel.serving.service import Service
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "gptmodel":
            raise
        raise UserError(f"{error.name} is not installed: pip install 'gptmodel[serve]'") from None
    if api_key is None:  # a variable that is set but empty is a mistake, no open door
        api_key = os.environ.get(KEY)
    access = Access((host, *(allow_host or ())), tuple(cors or ()), api_key)
    service = Service.open(bundle, device, threads, graph, limits)
    listening = _listen(host, port)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)

    def announce() -> None:
        say(service.summary)
        _announce(listening, access.names, api_key is not None, "*" in access.origins)

    lost = server.run(service, listening, drain_seconds, access, announce)
    say(f"stopped: {f'{lost} requests were cut off' if lost else 'all requests were answered'}")


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; `UserError` where the address cannot be had."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port must be between 0 (any) and 65535, not {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:  # a name may be none
        reason = getattr(error, "strerror", "no host name")
        raise UserError(
            f"cannot listen on {host}:{port} ({reason}): name another --port, or --host 127.0.0.1"
        ) from None


def _announce(listening: socket.socket, names: list[str], has_key: bool, has_any_origin: bool) -> None:
    address, port = listening.getsockname()[:2]
    if not ipaddress.ip_address(address).is_loopback:
        asked = "whoever asks needs the key" if has_key else "nothing asks them for a key (--api-key)"
        say(f"note: other machines can reach it, and {asked}")
        say(f"note: it answers to http://ADDRESS:{port} and by name to {', '.join(names)} (--allow-host adds more)")
    if has_any_origin and not has_key:
        say("note: every page that a browser opens may use it (--cors '*')")
    shown = f"[{address}]" if ":" in address else address
    say(f"listening on http://{shown}:{port} (Ctrl-C ends)")
