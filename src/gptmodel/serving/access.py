"""Who may ask: the Host names that a server answers to, the origins whose pages may use it, the key.

A browser carries out what any page says, so a server on this machine is within reach of every site. Three rules keep
them out. The Host header must be an IP address, localhost, or a name that was allowed: a page whose name was pointed at
this machine (DNS rebinding) sends its own. What a page posts must come from this server's own page or from an allowed
origin. And only pages of allowed origins may read answers (CORS).

A request without Host (HTTP/1.0) or without Origin is no browser's, and passes.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol, RFC 9110 (421), RFC 6750 (the key).
"""

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from gptmodel.errors import UserError
from gptmodel.serving.refused import Refused, short

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^][:@/\s]+?)\.?(:\d*)?")  # name or address, a root's dot, port
NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
ORIGIN = re.compile(r"\*|https?://[^\s/?#@*]+")
KEY = re.compile(r"[!-~]+")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
BEARER = HTTPBearer(auto_error=False, description="the server's key; OpenAI's clients send it")


@dataclass(frozen=True)
class Access:
    """Who may ask; `UserError` for a name, an origin or a key that makes no sense."""

    hosts: tuple[str, ...] = ()  # names beside localhost; addresses are always answered
    origins: tuple[str, ...] = ()  # of other pages; *: of all
    key: str | None = None

    def __post_init__(self) -> None:
        for host in self.hosts:
            if not is_address(host) and not NAME.fullmatch(host.lower()):
                raise UserError(f"--host and --allow-host take a name or address, such as my.example, not {host!r}")
        for origin in self.origins:
            if not ORIGIN.fullmatch(origin):
                raise UserError(f"--cors takes an origin, such as https://my.example, or *, not {origin!r}")
        if self.key is not None and not KEY.fullmatch(self.key):
            raise UserError("--api-key takes ASCII letters, digits and signs: at least one, and no space")

    @property
    def names(self) -> list[str]:
        """The names that the server answers to, in lower case."""
        return list(dict.fromkeys(["localhost", *(host.lower() for host in self.hosts if not is_address(host))]))

    def check(self, method: str, headers: Headers) -> None:
        """Check where a request comes from; `Refused` says what is not allowed, and what would allow it."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if host and not self._answers_to(host.lower()):
            raise Refused(421, f"this server does not answer to the host {short(host)}: --allow-host adds a name")
        if origin is not None and method not in SAFE_METHODS and not self._takes_from(origin, host.lower()):
            raise Refused(403, f"pages of {short(origin)} may not ask this server: --cors allows an origin")

    def _answers_to(self, host: str) -> bool:
        parts = HOST.fullmatch(host)
        return parts is not None and (is_address(parts[1].strip("[]")) or parts[1] in self.names)

    def _takes_from(self, origin: str, host: str) -> bool:
        own = host and origin in (f"http://{host}", f"https://{host}")  # a proxy may speak TLS for it
        return bool(own) or "*" in self.origins or origin in self.origins


LOCAL = Access()


def requires(key: str) -> Callable[..., Awaitable[None]]:
    """Return the dependency that lets only requests with the key pass."""

    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(), key.encode()):
            raise Refused(401, "this server asks for its key: Authorization: Bearer KEY")

    return check


def is_address(host: str) -> bool:
    """Whether this is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
