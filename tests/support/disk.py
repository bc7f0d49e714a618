"""A disk that fails: every call that changes a file below a folder is counted, and one of them goes wrong.

Python's own functions are replaced (also those below `open`, so that a `write` here is a write of the kernel). The
shim also knows what a power cut would leave: it follows what was flushed and what was only promised.
"""

import builtins
import errno
import io
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gptmodel import files

Fault = Literal["SIGKILL", "SIGTERM", "SIGINT", "ENOSPC", "EIO", "cut kept", "cut undone", "cut mixed"]
# After a power cut, of what was not flushed: all names are there, none, some; only in a mixed one some of the content.
TORN = {"SIGKILL", "ENOSPC", "cut kept", "cut undone", "cut mixed"}  # by which half of a write has been done
NEEDS_ROOM = {"create", "truncate", "write", "fsync", "mkdir", "rename", "exchange"}
REAL = {name: getattr(os, name) for name in ("open", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir")}
REAL_OPEN, REAL_EXCHANGE = io.open, files._exchange


@dataclass(frozen=True)
class Call:
    """One call that changes the disk."""

    kind: str
    path: str  # below the root


@dataclass
class Node:
    """A file or a folder, and what of it would survive a power cut."""

    flushed: bytes = b""  # of a file
    last: bytes | None = None  # of a file without a name
    names: list[dict[str, "Node"]] | None = None  # of a folder: as flushed, and after each change since

    @property
    def now(self) -> dict[str, "Node"]:
        assert self.names is not None
        return self.names[-1]

    def change(self, **changes: "Node | None") -> None:
        """Give names to nodes, or take them away."""
        changed = {**self.now, **changes}
        assert self.names is not None
        self.names.append({name: node for name, node in changed.items() if node is not None})


def _target(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


def read_tree(folder: Path) -> Node:
    """Return the nodes of a folder on which everything is flushed."""
    inside = {path.name: read_tree(path) if path.is_dir() else Node(path.read_bytes()) for path in folder.iterdir()}
    return Node(names=[inside])


@dataclass
class Disk:
    """The files below `root`, of whose changing calls the `at`-th suffers `fault` (the one after the last: the end)."""

    root: Path
    at: int = 0
    fault: Fault = "SIGKILL"
    aftermath: Path = Path()  # where a power cut leaves the files
    calls: list[Call] = field(default_factory=list)
    tree: Node = field(default_factory=Node)
    is_full: bool = False

    def install(self) -> None:
        """Replace Python's functions in this process, which is a fork for one fault: nothing puts them back."""
        self.tree = read_tree(self.root)
        patched: dict[str, Callable[..., Any]] = {
            "open": self._os_open,
            "fsync": self._fsync,
            "replace": self._rename,
            "rename": self._rename,
            "mkdir": self._counted("mkdir", lambda path: self._name(path, Node(names=[{}]))),
            "unlink": self._counted("unlink", lambda path: self._name(path, None)),
            "remove": self._counted("unlink", lambda path: self._name(path, None)),
            "rmdir": self._counted("rmdir", lambda path: self._name(path, None)),
        }
        for name, function in patched.items():
            setattr(os, name, function)
        for module in (io, builtins):
            module.open = self._open  # type: ignore[attr-defined]
        files._exchange = self._exchange
        shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]  # copies must pass by `write`

    def end(self) -> None:
        """Suffer the fault that comes after everything is done."""
        if self.at == len(self.calls) + 1:
            self._suffer(Call("end", "."))

    def begin(self, kind: str, path: str) -> None:
        """Count a call, and let it go wrong if it is its turn."""
        call = Call(kind, path)
        self.calls.append(call)
        if self.is_full and kind in ("create", "write", "mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(self.calls) == self.at:
            self._suffer(call)

    def _suffer(self, call: Call) -> None:
        if self.fault == "ENOSPC":
            self.is_full = True
        if self.fault in ("ENOSPC", "EIO"):
            number = getattr(errno, self.fault)
            named = () if call.kind in ("write", "fsync") else (call.path,)
            raise OSError(number, os.strerror(number), *named)
        if self.fault.startswith("cut"):
            self._cut(self.fault.removeprefix("cut "))
        os.kill(os.getpid(), signal.Signals[self.fault] if self.fault.startswith("SIG") else signal.SIGKILL)

    def locate(self, path: Any, folder: int | None = None) -> str | None:
        """Return the path below the root, None if it lies elsewhere or is a descriptor."""
        if isinstance(path, int):
            return None
        around = _target(folder) if folder is not None else Path.cwd()
        return self._below(os.path.normpath(around / os.fsdecode(path)))

    def _below(self, path: str) -> str | None:
        inside = os.path.relpath(path, self.root)
        return None if inside.startswith("..") or path.endswith("(deleted)") else inside

    def _counted(self, kind: str, after: Callable[[str], None]) -> Callable[..., None]:
        name = kind

        def counted(path: Any, *arguments: Any, dir_fd: int | None = None, **named: Any) -> None:
            inside = self.locate(path, dir_fd)
            if inside is None:
                REAL[name](path, *arguments, dir_fd=dir_fd, **named)
                return
            self.begin(kind, inside)
            if kind == "unlink":
                self._keep_last(inside)
            REAL[name](path, *arguments, dir_fd=dir_fd, **named)
            after(inside)

        return counted

    def _os_open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        inside = self.locate(path, dir_fd) if flags & os.O_CREAT else None
        is_new = inside is not None and self._find(inside) is None
        if inside is not None and is_new:
            self.begin("create", inside)
        descriptor: int = REAL["open"](path, flags, mode, dir_fd=dir_fd)
        if inside is not None and is_new:
            self._name(inside, Node())
        return descriptor

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **named: Any) -> Any:
        inside = None if set(mode) <= set("rbtU") else self.locate(file)
        if inside is None:
            return REAL_OPEN(file, mode, buffering, *arguments, **named)
        is_new = self._find(inside) is None
        if is_new or "w" in mode:
            self.begin("create" if is_new else "truncate", inside)
        raw = _Raw(self, inside, file, mode.replace("b", "").replace("t", ""))
        if is_new:
            self._name(inside, Node())
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, *arguments, **named)

    def _fsync(self, descriptor: int) -> None:
        inside = self._below(str(_target(descriptor)))
        if inside is not None:
            self.begin("fsync", inside)
        REAL["fsync"](descriptor)
        node = self._find(inside) if inside is not None else None
        if node and node.names:
            node.names = [node.now]
        elif node and inside is not None:
            node.flushed = self._content(inside)

    def _rename(self, source: Any, target: Any, **named: Any) -> None:
        old, new = self.locate(source), self.locate(target)
        if old is None or new is None:
            REAL["replace"](source, target, **named)
            return
        self.begin("rename", new)
        self._keep_last(new)
        REAL["replace"](source, target, **named)
        node = self._find(old)
        self._name(old, None)
        self._name(new, node)

    def _exchange(self, one: Path, other: Path) -> bool:
        old, new = self.locate(one), self.locate(other)
        assert old is not None
        assert new is not None
        assert Path(old).parent == Path(new).parent
        self.begin("exchange", new)
        is_done = REAL_EXCHANGE(one, other)
        if is_done:
            self._parent(old).change(**{Path(old).name: self._find(new), Path(new).name: self._find(old)})
        return is_done

    def _find(self, path: str) -> Node | None:
        node: Node | None = self.tree
        for part in Path(path).parts:
            node = node.now.get(part) if node and node.names else None
        return node

    def _parent(self, path: str) -> Node:
        parent = self._find(str(Path(path).parent))
        assert parent is not None
        return parent

    def _name(self, path: str, node: Node | None) -> None:
        self._parent(path).change(**{Path(path).name: node})

    def _content(self, path: str) -> bytes:
        with REAL_OPEN(self.root / path, "rb") as file:
            content: bytes = file.read()
            return content

    def _keep_last(self, path: str) -> None:
        """Remember the content of a file that is about to lose its name."""
        node = self._find(path)
        if node and node.names is None:
            node.last = self._content(path)

    def _cut(self, kind: str) -> None:
        """Write what the disk holds after a power cut."""
        choice = random.Random(f"{kind} {self.at}")
        newest = dict(self._newest(self.tree, ""))

        def write(node: Node, path: Path) -> None:
            if node.names is None:
                content = node.flushed
                last = newest.get(id(node), content if node.last is None else node.last)
                if kind == "mixed" and last != content:
                    content = choice.choice([content, last, last[: len(last) // 2]])
                with REAL_OPEN(path, "wb") as file:
                    file.write(content)
                return
            names = {"kept": node.now, "undone": node.names[0], "mixed": choice.choice(node.names)}[kind]
            REAL["mkdir"](path)
            for name, inside in names.items():
                write(inside, path / name)

        write(self.tree, self.aftermath)

    def _newest(self, node: Node, path: str) -> Iterator[tuple[int, bytes]]:
        if node.names is None:
            yield id(node), self._content(path)
            return
        for name, inside in node.now.items():
            yield from self._newest(inside, f"{path}/{name}".lstrip("/"))


class _Raw(io.FileIO):
    """A file whose writes are counted; one that goes wrong has written half."""

    def __init__(self, disk: Disk, inside: str, file: Any, mode: str) -> None:
        super().__init__(file, mode)
        self._disk = disk
        self._inside = inside

    def write(self, content: Any) -> int:
        half = memoryview(content)[: len(content) // 2]
        if len(self._disk.calls) + 1 == self._disk.at and self._disk.fault in TORN:
            super().write(half)
        self._disk.begin("write", self._inside)
        return super().write(content)
