"""The stage `train` many times over: torch is imported once, and every training is a fork of the process that did.

python -m tests.support.stage reads commands, one JSON object a line, and answers each with one:
{"folder", "errors", "traps", "largest_file"} starts a training there -> {"pid"}; {"pid"} waits for its end -> {"code"}
"""

import importlib
import json
import os
import signal
import sys
import traceback
from functools import reduce
from pathlib import Path
from typing import Any, TypedDict

import torch

from pipelines import train as stage

MODEL = "tiny"


class Trap(TypedDict):
    """A signal that a training sends itself when it begins the `call`-th call of one of the functions `at`."""

    at: list[str]  # "module:Class.function"
    call: int
    signal: int


def lay(trap: Trap) -> None:
    """Replace the functions by ones that count."""
    calls = 0

    def counting(function: Any) -> Any:
        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == trap["call"]:
                os.kill(os.getpid(), trap["signal"])
            return function(*arguments, **named)

        return wrapped

    for place in trap["at"]:
        module, _, path = place.partition(":")
        *owners, name = path.split(".")
        owner = reduce(getattr, owners, importlib.import_module(module))
        setattr(owner, name, counting(getattr(owner, name)))


def train(folder: str, errors: str, traps: list[Trap], largest_file: int | None) -> int:
    """Do what `python -m pipelines.train tiny` does in `folder`; return the exit code."""
    os.chdir(folder)
    with Path(errors).open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    sys.argv = ["train", MODEL]
    for trap in traps:
        lay(trap)
    if largest_file:
        import resource  # only where there are POSIX systems

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        stage.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Serve until the input ends; a training that nobody waited for ends then, too."""
    from gptmodel.training import precision  # after `pipelines`, which says where the library is

    library = Path(precision.__file__).parent.parent
    assert library == Path.cwd() / "src" / "gptmodel", library  # the project's own, not an installed one
    precision.RATE_SIZE["cpu"] = 32  # a figure for speed.json, which takes a second to measure
    torch.optim.AdamW([torch.zeros(1)])  # imports the rest of torch
    running = set[int]()
    for line in sys.stdin:
        command = json.loads(line)
        if "pid" in command:
            _, status = os.waitpid(command["pid"], 0)
            running.remove(command["pid"])
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            child = os.fork()
            if child == 0:
                code = train(**command)
                sys.stderr.flush()
                os._exit(code)
            running.add(child)
            answer = {"pid": child}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for child in running:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
