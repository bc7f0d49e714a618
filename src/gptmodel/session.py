"""A training from its beginning, or from where it was stopped, to the files of the model's folder.

It brings together the loop, what is kept of it (journal), the saved state (resume), requests to stop, and the other
processes. Process 0 writes and tracks; the others follow the same steps.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gptmodel import decoding, generation, journal, networks, numerics, provenance, resume, samples, tracking
from gptmodel.errors import Stopped
from gptmodel.experiment import CODE as WEIGHTS_CODE
from gptmodel.experiment import Experiment
from gptmodel.journal import Journal
from gptmodel.numerics import Numerics
from gptmodel.params import Params
from gptmodel.processes import World
from gptmodel.progress import Update, progress, say
from gptmodel.resume import State, Store
from gptmodel.stop import Requests
from gptmodel.training import Trainer

# what decides the files of a training and the form of its saved states, beside the values
CODE = [*WEIGHTS_CODE, decoding, generation, journal, samples, sys.modules[__name__]]


@dataclass(frozen=True)
class Machine:
    """How this training computes, and how fast the machine's matrix products are; kept with its saved states."""

    numerics: Numerics
    matrix_rate: float  # FLOP/s


def run(
    experiment: Experiment, settings: Params, folder: Path, device: torch.device, world: World, asked: Requests
) -> None:
    """Train and write `folder`.

    Raises:
        UserError: another process trains the same, or training cannot go on (not finite, out of memory).
        Stopped: a signal asked for it; the state is saved.
    """
    if not world.is_main:
        trainer = _trainer(experiment, settings, device, world, None)
        for _ in trainer.run(Follower(world, asked)):
            pass
        return
    identity = _identity(experiment, settings)
    with _store(identity, settings) as store, tracking.run(**experiment.meta.identity(), stage="train") as tracked:
        saved = _find(store, identity)
        machine = _machine(settings, device, saved)
        trainer = _trainer(experiment, settings, device, world, (saved, machine))
        journal = Journal(folder, trainer.network, experiment, settings.timeline, tracked)
        facts = {**experiment.config.model_dump(mode="json"), "seed": settings.seed, **machine.numerics.as_dict()}
        tracked.log_params(facts)
        tracked.log_corpus(experiment.meta.corpus)
        title = f"train {experiment.meta.variant} on {device.type}, {machine.numerics.precision}"
        with progress(title, experiment.config.steps, "steps", trainer.step) as update:
            keeper = Keeper(world, asked, store, journal, update, settings.resume.save_every_seconds, machine)
            if saved:
                keeper.load(saved)
            keeper.follow(trainer)
        journal.write(_speed(trainer, journal, machine, world, keeper.seconds))
        store.discard()


def _identity(experiment: Experiment, settings: Params) -> dict[str, Any]:
    """Return the values that a saved state belongs to: all that decide weights, history and timeline, by name."""
    timeline = settings.timeline.model_dump(mode="json")
    return {**experiment.identity, "timeline": timeline, "torch": str(torch.__version__)}


@contextmanager
def _store(identity: dict[str, Any], settings: Params) -> Iterator[Store]:
    """Yield the saved states of this training, which no other process trains meanwhile."""
    store = Store(resume.folder(provenance.fingerprint(identity, CODE)), settings.resume.keep, say)
    with store.held():
        yield store


def _find(store: Store, identity: dict[str, Any]) -> State | None:
    """Return the state to go on from, and say so; else note what begins here."""
    saved = store.load()
    if saved:
        say(f"{identity['variant']}: going on from step {saved.step}")
        return saved
    changed = resume.changed_since(resume.home(), store.folder.name, identity)
    if changed:
        say(changed)
    store.describe(identity)
    return None


def _machine(settings: Params, device: torch.device, saved: State | None) -> Machine:
    """Return how to compute: as the saved state did, else as the parameters and the machine say."""
    if saved:
        return Machine(Numerics(**saved.facts["numerics"]), saved.facts["matrix_rate"])
    return Machine(*numerics.choose(settings.engine, device, say))


def _trainer(
    experiment: Experiment,
    settings: Params,
    device: torch.device,
    world: World,
    start: tuple[State | None, Machine] | None,
) -> Trainer:
    """Return the trainer at its first step or at the saved state; only process 0 knows the `start`, and tells."""
    saved, machine = world.broadcast(start)  # type: ignore[misc]  # never None after it
    if world.size == 1:
        torch.set_num_threads(machine.numerics.threads)
    torch.manual_seed(settings.seed)
    network = networks.build(experiment.meta.network, experiment.meta.vocab_size).to(device)
    skip = settings.engine.nonfinite == "skip"
    tell: Callable[[str], None] = say if world.is_main else lambda line: None
    splits = experiment.data.ids
    trainer = Trainer(network, splits, experiment.config, settings.seed, machine.numerics, skip, world, tell)
    if saved:
        trainer.load(saved.tensors, saved.facts["trainer"])
    return trainer


def _speed(trainer: Trainer, journal: Journal, machine: Machine, world: World, seconds: float) -> dict[str, Any]:
    """Return how fast it went, for training.json; the share is that of the machine's measured matrix products."""
    tokens_per_second = journal.tokens_per_second()
    flops = networks.flops_per_token(trainer.network) * tokens_per_second
    return {
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens_per_second),
        "gflops_per_second": round(flops / 1e9, 1),
        "matrix_gflops_per_second": round(machine.matrix_rate / 1e9, 1),
        "share_of_matrix_rate": round(flops / machine.matrix_rate / world.size, 4),
        "processes": world.size,
        **machine.numerics.as_dict(),
    }


@dataclass
class Follower:
    """A watcher that stops the training on every process at the same step if one of them was asked to."""

    world: World
    asked: Requests

    def stepped(self, trainer: Trainer, note: str) -> None:
        """Stop here if some process was asked to."""
        if self.world.any(self.asked.signal is not None):
            self._stop(trainer.step)

    def waiting(self, trainer: Trainer) -> None:
        """Stop here if that needs no agreement; several processes agree at their next step."""
        if self.world.size == 1 and self.asked.signal is not None:
            self._stop(trainer.step)

    def _stop(self, step: int) -> None:
        asked = self.asked.signal or signal.SIGTERM
        raise Stopped(asked, f"stopped at step {step} by {asked.name}: run the same command again to go on from there")


@dataclass
class Keeper(Follower):
    """The follower of process 0: shows progress, fills the journal, saves the state now and then and when stopped."""

    store: Store
    journal: Journal
    update: Update
    save_every_seconds: float
    machine: Machine
    began: float = field(default_factory=time.monotonic)
    seconds_before: float = 0.0  # of the sessions before this one
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Wall time of this training so far, evaluations and earlier sessions included."""
        return self.seconds_before + time.monotonic() - self.began

    def load(self, saved: State) -> None:
        """Go on from what was saved."""
        self.seconds_before = saved.facts["seconds"]
        self.journal.load(saved.tensors, saved.facts["journal"])

    def follow(self, trainer: Trainer) -> None:
        """Watch a training to its end, or until it is stopped, which leaves its state saved."""
        try:
            for evaluation in trainer.run(self):
                self.journal.record(evaluation)
        except Stopped:
            self._save(trainer)
            raise

    def stepped(self, trainer: Trainer, note: str) -> None:
        """Show progress; stop if asked to; save if it is time."""
        self.update(trainer.step, note)
        super().stepped(trainer, note)
        if time.monotonic() - self.saved_at >= self.save_every_seconds:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        (tensors, facts), (kept, kept_facts) = trainer.state(), self.journal.state()
        everything = {
            "trainer": facts,
            "journal": kept_facts,
            "numerics": self.machine.numerics.as_dict(),
            "matrix_rate": self.machine.matrix_rate,
            "seconds": self.seconds,
        }
        self.store.save(trainer.step, {**tensors, **kept}, everything)
        self.saved_at = time.monotonic()
