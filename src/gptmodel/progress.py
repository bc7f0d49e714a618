"""Progress of long work: a bar with rate and time left on a terminal, plain lines every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINE_EVERY_SECONDS = 10.0

Update = Callable[..., None]


@contextmanager
def progress(title: str, total: int, unit: str, begin: int = 0) -> Iterator[Update]:
    """Yield `update(done, note="")`: how many of `total` units are done so far, and a few words (the loss, say).

    `begin` units were done before: they count as done, not for the rate.
    """
    if sys.stderr.isatty():
        with _bar(title, total, unit, begin) as update:
            yield update
    else:
        yield _lines(title, total, unit, begin)


def say(line: str) -> None:
    """Print one line for the person who watches; a bar on the terminal stays below it."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _bar(title: str, total: int, unit: str, begin: int) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=begin, note="", rate="")

        def update(done: int, note: str = "") -> None:
            bar.update(task, completed=done, note=note, rate=_rate(done - begin, started, unit))

        yield update


def _lines(title: str, total: int, unit: str, begin: int) -> Update:
    started = time.monotonic()
    last = started

    def update(done: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_EVERY_SECONDS and done < total:
            return
        last = now
        left = (now - started) * (total - done) / max(done - begin, 1)
        tail = f", {note}" if note else ""
        line = f"{title}: {done:,}/{total:,} {unit}, {_rate(done - begin, started, unit)}, {left:.0f} s left{tail}"
        print(line, file=sys.stderr, flush=True)

    return update


def _rate(done: int, started: float, unit: str) -> str:
    return f"{done / max(time.monotonic() - started, 1e-9):,.1f} {unit}/s"
