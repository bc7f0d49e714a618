import errno
import os
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gptmodel import files
from gptmodel.errors import UserError, one_line_errors


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stop_half_way(path: Path) -> None:
    path.write_text("half")
    _ = 1 / 0


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "a.txt"
    files.write_text(target, "début\r\nfin")
    assert target.read_bytes() == "début\r\nfin".encode()
    with pytest.raises(ZeroDivisionError), files.whole_file(target) as partial:
        stop_half_way(partial)
    assert target.read_bytes() == "début\r\nfin".encode()
    assert listing(tmp_path / "sub") == ["a.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.whole_folder(target) as partial:
        (partial / "old.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), files.whole_folder(target) as partial:
        stop_half_way(partial / "new.txt")
    assert listing(target) == ["old.txt"]
    with files.whole_folder(target) as partial:
        (partial / "new.txt").write_text("new")
    assert listing(target) == ["new.txt"]
    assert listing(tmp_path) == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from gptmodel import files
with files.whole_folder(Path(sys.argv[1]) / "out") as folder, files.whole_file(Path(sys.argv[1]) / "a.txt") as file:
    (folder / "half.txt").write_text("half")
    file.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
needs_posix = pytest.mark.skipif(os.name != "posix", reason="kills processes, and looks at their locks")


@needs_posix
def test_the_next_writer_removes_what_dead_ones_left_and_nothing_else(tmp_path: Path) -> None:
    """No process id is believed: that of a dead one may be another's, and in a container 1 always lives."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert len(listing(tmp_path)) == 2
    for name in (f".b.txt.{os.getpid()}.partial", ".b.txt.1.partial", ".c.partial", ".d.xyz.partial"):
        (tmp_path / name).write_text("of an older version" if "b.txt" in name else "not ours")
    (tmp_path / ".kept.7.old").mkdir()  # whose new one never came
    files.write_text(tmp_path / "a.txt", "whole")
    assert listing(tmp_path) == [".c.partial", ".d.xyz.partial", ".kept.7.old", "a.txt"]
    files.write_text(tmp_path / "kept", "whole")
    files.write_text(tmp_path / "a.txt", "whole")
    assert listing(tmp_path) == [".c.partial", ".d.xyz.partial", "a.txt", "kept"]


@needs_posix
def test_two_writers_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with files.whole_folder(target) as one:
        (one / "one.txt").write_text("1")
        with files.whole_folder(target) as two:
            (two / "two.txt").write_text("2")
        assert listing(target) == ["two.txt"]
        assert listing(one) == ["one.txt"]
    assert listing(target) == ["one.txt"]
    assert listing(tmp_path) == ["out"]


def test_a_writer_whose_file_was_taken_for_a_dead_ones_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the creation of a temporary file and its lock another process may sweep it."""
    real, swept = Path.touch, list[str]()

    def touch(self: Path, **named: bool) -> None:
        real(self, **named)
        if not swept:
            swept.append(self.name)
            files._sweep(tmp_path)

    monkeypatch.setattr(Path, "touch", touch)
    files.write_text(tmp_path / "a.txt", "whole")
    assert swept
    assert listing(tmp_path) == ["a.txt"]


def test_where_folders_cannot_trade_names_the_old_one_steps_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for name in ("old.txt", "new.txt"):
        with files.whole_folder(tmp_path / "out") as partial:
            (partial / name).write_text(name)
    assert listing(tmp_path / "out") == ["new.txt"]
    assert listing(tmp_path) == ["out"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to name what is flushed")
def test_content_is_on_the_disk_before_its_name_and_the_name_before_we_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        calls.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        real_fsync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        calls.append(f"replace {target.name}")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(secrets, "token_hex", lambda size: "7")
    here = tmp_path.name
    files.write_text(tmp_path / "a.txt", "a")
    assert calls == ["fsync .a.txt.7.partial", "replace a.txt", f"fsync {here}"]
    calls.clear()
    with files.whole_folder(tmp_path / "out") as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "b.txt").write_text("b")
    *flushed, renamed, last = calls
    assert sorted(flushed) == ["fsync .out.7.partial", "fsync b.txt", "fsync sub"]
    assert (renamed, last) == ("replace out", f"fsync {here}")
    calls.clear()
    files.write_text(tmp_path / "new" / "er" / "c.txt", "c")
    assert calls[:2] == [f"fsync {here}", "fsync new"]  # the names of new folders


def test_a_file_system_that_cannot_flush_folders_is_enough_and_a_failing_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> None:
        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    refuse(errno.EINVAL)
    files.write_text(tmp_path / "a.txt", "a")
    refuse(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        files.write_text(tmp_path / "a.txt", "a")


def test_json_is_readable_and_refuses_what_json_cannot_say(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": "été", "a": 1})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": "été",\n  "a": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert "été" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("a.txt is empty:\nput text in it"), 2, "error: a.txt is empty: put text in it\n"),
        (OSError(errno.ENOSPC, "No space", "b.npy"), 2, "error: no room left on the disk while writing b.npy"),
        (OSError(errno.EIO, "Input/output error", "b.npy"), 2, "error: the disk failed at b.npy (Input/output error)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, one_line_errors():
        raise error
    assert caught.value.code == code
    printed = capsys.readouterr().err
    assert printed.startswith(words)
    assert printed.count("\n") == 1


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0
    with pytest.raises(FileNotFoundError), one_line_errors():
        Path("/no/such/file").read_text()


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files, which only POSIX can")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The kernel refuses to write past a limit, as a full disk would; the old content survives."""
    target = tmp_path / "ids.txt"
    target.write_text("old")
    code = (
        "import resource, sys; from pathlib import Path; from gptmodel import files, errors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "with errors.one_line_errors(): files.write_text(Path(sys.argv[1]), 'x' * 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: no room left on the disk while writing {target} (100,000 bytes): free some space and run it again\n"
    )
    assert target.read_text() == "old"
    assert listing(tmp_path) == ["ids.txt"]
