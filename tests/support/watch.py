"""Whom a process talks to: its connects, and those of all its children, as the kernel sees them (strace, Linux)."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

STRACE = shutil.which("strace")
ELSEWHERE = re.compile(r'sa_family=AF_INET6?, .*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')
OF_THIS_MACHINE = re.compile(r"127\.|::1$|::ffff:127\.|0\.0\.0\.0$|::$")


class Watch:
    """Watches commands that start with an empty home folder and without `CI`, which silences some reporters."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.log = folder / "connects.log"

    def command(self, command: Sequence[str], gets_signals: bool = False) -> list[str]:
        """Return the command that runs `command` and adds to the log; signals reach either strace or the command."""
        if not STRACE:
            return list(command)
        calls = "trace=connect,sendto,sendmsg,sendmmsg"
        options = ["-f", "-A", "--quiet=all", "--seccomp-bpf", "-e", calls, "-o", str(self.log)]
        return [STRACE, *options, *(["-D"] if gets_signals else []), *command]

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return `environment` as on a new account of a person's machine."""
        silent = {"CI", "ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "DVC_NO_ANALYTICS"}
        kept = {key: value for key, value in environment.items() if key not in silent and not key.startswith("XDG_")}
        return kept | {"HOME": str(self.home)}

    def elsewhere(self) -> list[str]:
        """Return the addresses outside this machine that were asked for, name servers too."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return sorted({found[1] for found in ELSEWHERE.finditer(text) if not OF_THIS_MACHINE.match(found[1])})

    def identities(self) -> list[str]:
        """Return what ONNX Runtime's telemetry leaves in the home folder, even of a run too short to send anything."""
        return [str(path) for path in self.home.rglob("*") if "Microsoft" in path.parts]


def inherited() -> dict[str, str]:
    """Return this process's environment without the settings of our own programs."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DVC", "GPTMODEL"))}
