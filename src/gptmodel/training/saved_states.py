"""The state of an unfinished training on disk: saved whole, found again after a kill, gone after success.

One folder per fingerprint (of parameters, data and code), so that no changed experiment finds an old state:

    .resume/3f9a.lock               held by the living trainer; freed by the kernel when it dies, however it dies
    .resume/3f9a.holder.json        who holds it; both go with it, or when the next training here begins
    .resume/3f9a/identity.json      what is trained, for people and for `changed_since`
    .resume/3f9a/step-00001200.safetensors      a state: tensors, and in the file's header facts and a hash of the file

It is no DVC output: DVC deletes outputs before a run, and keeping them (`persist`) hands old states to new experiments.
"""

import errno
import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize
from torch import Tensor

from gptmodel import files
from gptmodel.errors import UserError

FORMAT_VERSION = 2
IDENTITY = "identity.json"
LOCK_SECONDS = 0.5  # outlasts a glance of `changed_since`, and lets a new holder write its name
SHOWN_DIFFERENCES = 4  # of one line of text
SHOWN_CHARACTERS = 24  # of a value in it
_STATE = re.compile(r"step-(\d+)\.safetensors")
_FACTS = "state"  # the key in the header's metadata: the format does not say in which order several keys are written
_UNHASHED = 64 * "0"  # stands where the SHA-256 of the file comes


def home() -> Path:
    """Return the folder of all unfinished trainings; DVC names the main repository, also in a temporary workspace."""
    return Path(os.environ.get("DVC_ROOT", ".")) / ".resume"


def folder(fingerprint: str) -> Path:
    """Return where the training with this fingerprint keeps its states."""
    return home() / fingerprint


@dataclass(frozen=True)
class State:
    """A training after `step` steps. Tensors lie on the CPU; facts went through JSON, so tuples came back as lists."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Damaged(Exception):
    """A saved state that must not be used: names the file and the reason."""


@dataclass(frozen=True)
class Store:
    """The states of one training in `folder`, of which the newest `keep` stay. Save, load and discard while `held`."""

    folder: Path
    keep: int
    warn: Callable[[str], None]

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ValueError(f"keep must be 1 or more, not {self.keep}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only trainer of this model inside the block; `UserError` that names the other one if there is one.

        The lock file is removed while it is held: who had just opened it finds out that it is gone, and opens anew.
        """
        files.make_folder(self.folder.parent)
        lock = FileLock(_lock_file(self.folder), timeout=LOCK_SECONDS)
        holder = _holder_file(self.folder)
        try:
            lock.acquire()
        except Timeout:
            name, remedy = _living(self.folder)
            raise UserError(f"{name} is already training this model: wait for it, or {remedy}") from None
        try:
            _sweep(self.folder)
            holder.unlink(missing_ok=True)  # of a holder that was killed: better no name than a wrong one
            files.write_json(holder, {"pid": os.getpid(), "host": platform.node()})
            yield
        finally:
            _forget(self.folder)
            lock.release()

    def describe(self, identity: Mapping[str, Any]) -> None:
        """Write down what is trained: nested JSON values with a `name`, for `changed_since` of a later training."""
        files.write_json(self.folder / IDENTITY, identity)

    def save(self, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Add the state after `step` steps, whole or not at all, then delete what is older than the newest `keep`.

        `facts` are JSON values; NaN is allowed. The same input gives the same bytes. An `OSError` (a full disk)
        leaves every earlier state as it was.
        """
        own = {  # on the CPU, contiguous, sharing no memory: what the format can hold
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        record = json.dumps({"format_version": FORMAT_VERSION, "step": step, "facts": facts}, ensure_ascii=False)
        data = serialize(own, metadata={_FACTS: f"{_UNHASHED} {record}"})
        offset = data.index(_UNHASHED.encode())  # the metadata comes before the names of tensors
        # not save_file: its errors do not say that the disk is full
        content = data[:offset] + _digest(data, offset).encode() + data[offset + len(_UNHASHED) :]
        files.write_bytes(_file(self.folder, step), content)
        # States beyond this step were passed over as damaged, so they are not the newest.
        kept = [earlier for earlier in _steps(self.folder) if earlier <= step][-self.keep :]
        self._delete([each for each in _steps(self.folder) if each not in kept])

    def load(self) -> State | None:
        """Return the newest whole state, None without one; each damaged one on the way there is warned about."""
        damages: list[Damaged] = []
        state = None
        for step in reversed(_steps(self.folder)):
            try:
                state = _read(_file(self.folder, step), step)
                break
            except Damaged as error:
                damages.append(error)
        what_next = f"going on from step {state.step}" if state else "starting from the beginning"
        for damage in damages:
            self.warn(f"{damage}; {what_next}")
        return state

    def discard(self) -> None:
        """Delete all states and the folder: the training has succeeded. The lock stays held until its block ends."""
        self._delete(_steps(self.folder))  # oldest first: a kill in between leaves the newest
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _delete(self, steps: Collection[int]) -> None:
        """Delete the states of these steps."""
        for step in steps:
            _file(self.folder, step).unlink()


def changed_since(root: Path, fingerprint: str, identity: Mapping[str, Any]) -> str | None:
    """Return one line on the newest other training of the same `name` in `root` that is unfinished or still running.

    It names what differs from `identity`. None if there is none. For a training that found no state of its own.
    """
    wanted = json.loads(json.dumps(identity))
    others = []
    for path in root.glob(f"*/{IDENTITY}"):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if path.parent.name != fingerprint and found["name"] == wanted["name"]:
                others.append((path.parent.stat().st_mtime_ns, path.parent, found))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # finished in this moment, or not ours
    for _, other, found in sorted(others, key=lambda entry: entry[0], reverse=True):
        named = differences(found, wanted)
        more = [f"and {len(named) - SHOWN_DIFFERENCES} more"] if len(named) > SHOWN_DIFFERENCES else []
        what = f"other values ({', '.join(named[:SHOWN_DIFFERENCES] + more)})" if named else "other code"
        if _is_held(other):
            name, remedy = _living(other)
            return f"{name} is training {wanted['name']} with {what} at the same time: if that is not meant, {remedy}"
        if _steps(other):
            return (
                f"an unfinished training of {wanted['name']} exists with {what}: it is left alone, this one "
                f"starts afresh (delete {other} if it is not needed)"
            )
    return None


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Name the values that differ between two nested mappings, in the order of `new`; long ones (hashes) unshown.

    >>> differences({"model": {"width": 64, "lr": 0.1}, "data": {"a.npy": 64 * "0"}},
    ...             {"model": {"width": 64, "lr": 0.2}, "data": {"a.npy": 64 * "1"}, "seed": 7})
    ['lr 0.1 -> 0.2', 'data a.npy', 'seed unset -> 7']
    """
    before = dict(_leaves(old))
    after = dict(_leaves(new))
    paths = [*after, *(path for path in before if path not in after)]
    last_keys = [path[-1] for path in paths]
    named = []
    for path in paths:
        was, is_now = (json.dumps(side[path]).strip('"') if path in side else "unset" for side in (before, after))
        if was == is_now:
            continue
        if max(len(was), len(is_now)) > SHOWN_CHARACTERS:
            named.append(" ".join(path))
        else:
            key = path[-1] if last_keys.count(path[-1]) == 1 else ".".join(path)
            named.append(f"{key} {was} -> {is_now}")
    return named


def _leaves(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def _read(path: Path, step: int) -> State:
    """Return the state in a file after checking every byte of it; `Damaged` if it is not what was saved."""
    try:
        data = path.read_bytes()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EIO):
            raise
        raise Damaged(f"{path} is damaged ({error.strerror})") from None
    try:
        length = int.from_bytes(data[:8], "little")  # of the header: https://github.com/huggingface/safetensors
        expected, _, text = json.loads(data[8 : 8 + length])["__metadata__"][_FACTS].partition(" ")
        if _digest(data, data.index(expected.encode())) != expected:
            raise Damaged(f"{path} is damaged (its SHA-256 is not the one saved)")
        record = json.loads(text)
        if (record["format_version"], record["step"]) != (FORMAT_VERSION, step):
            raise Damaged(f"{path} is damaged (of another step, or of another format)")
        # clone: memory that torch aligns, since matrix products may round differently on an odd address
        return State(step, {name: tensor.clone() for name, tensor in deserialize(data).items()}, record["facts"])
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise Damaged(f"{path} is damaged (not readable: {type(error).__name__})") from None


def _digest(data: bytes, offset: int) -> str:
    """Return the SHA-256 of a file with zeros where its own SHA-256 stands."""
    digest = hashlib.sha256(data[:offset])
    digest.update(_UNHASHED.encode())
    digest.update(memoryview(data)[offset + len(_UNHASHED) :])
    return digest.hexdigest()


def _steps(where: Path) -> list[int]:
    found = (_STATE.fullmatch(path.name) for path in where.glob("step-*.safetensors"))
    return sorted(int(match[1]) for match in found if match)


def _file(where: Path, step: int) -> Path:
    return where / f"step-{step:08d}.safetensors"


def _lock_file(where: Path) -> Path:
    return where.with_name(f"{where.name}.lock")


def _holder_file(where: Path) -> Path:
    return where.with_name(f"{where.name}.holder.json")


def _sweep(own: Path) -> None:
    """Remove the locks and names of other trainers that died, and the folders of those without a state."""
    for where in {path.with_suffix("") for path in own.parent.glob("*.lock")} - {own}:
        with suppress(Timeout), FileLock(_lock_file(where), timeout=0):
            if not _steps(where):
                shutil.rmtree(where, ignore_errors=True)
            _forget(where)


def _forget(where: Path) -> None:
    """Remove the name and the lock file of a trainer; whoever calls holds the lock."""
    _holder_file(where).unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere an open file cannot be removed: it stays, empty
        _lock_file(where).unlink(missing_ok=True)


def _is_held(where: Path) -> bool:
    """Return whether a living process trains there: the lock knows, a process id may long be someone else's."""
    if not _lock_file(where).exists():
        return False
    try:
        with FileLock(_lock_file(where), timeout=0):
            return False
    except Timeout:
        return True


def _living(where: Path) -> tuple[str, str]:
    """Return the name of the process that holds the lock, and how to stop it."""
    try:
        holder = json.loads(_holder_file(where).read_text(encoding="utf-8"))
        pid, host = int(holder["pid"]), str(holder["host"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another process", "stop it"
    there = "" if host == platform.node() else f" on {host}"
    return f"another process (pid {pid} on {host})", f"stop it{there} with `kill {pid}`"
