"""Placeholder until tracking's own `watching` is here: a training that nobody observes."""

from collections.abc import Iterator
from contextlib import contextmanager

from gptmodel.layout import ModelFolder
from gptmodel.results.training import Meta
from gptmodel.training.history import Nobody, Observer


@contextmanager
def watching(meta: Meta, folder: ModelFolder, tracked: bool) -> Iterator[Observer]:
    """Yield an observer that looks away."""
    yield Nobody()
