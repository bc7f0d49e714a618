"""A training from its beginning, or from where it was stopped, to the folder of its stage.

It brings together the loop, what is kept of it (history), the saved states, requests to stop, and the other processes.
Process 0 writes and is observed; the others follow the same steps.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gptmodel.errors import Stopped
from gptmodel.model import networks
from gptmodel.params import Resume, Timeline
from gptmodel.progress import Update, progress, say
from gptmodel.results.training import Speed
from gptmodel.training import demand, precision, saved_states
from gptmodel.training.distributed import World
from gptmodel.training.experiment import Experiment, fingerprint
from gptmodel.training.history import Guarded, History, Observer
from gptmodel.training.precision import Numerics
from gptmodel.training.saved_states import State, Store
from gptmodel.training.signals import Requests
from gptmodel.training.trainer import Trainer


@dataclass(frozen=True)
class Machine:
    """How this training computes, and how fast the machine's matrix products are; kept with its saved states."""

    numerics: Numerics
    matrix_rate: float  # FLOP/s


class Start(NamedTuple):
    """Where a training begins, and how it computes."""

    saved: State | None  # None: at its first step
    machine: Machine


@dataclass(frozen=True)
class Session:
    """One process of a training; `store` holds the saved states, on process 0 only."""

    experiment: Experiment
    timeline: Timeline
    resume: Resume
    device: torch.device
    world: World
    asked: Requests
    store: Store | None = None

    def run(self, folder: Path, observer: Observer) -> None:
        """Train and write `folder`; nothing that the observer does changes a byte of it.

        Raises:
            UserError: training cannot go on (not finite, out of memory).
            Stopped: a signal asked for it; the state is saved.
        """
        if self.store is not None:
            self._lead(self.store, folder, Guarded(observer, say))
            return
        for _ in self._trainer(None).run(Follower(self.world, self.asked)):
            pass

    def identity(self) -> dict[str, Any]:
        """Return the values that a saved state belongs to: all that decide the stage's folder, by name."""
        timeline = self.timeline.model_dump(mode="json")
        return {**self.experiment.identity, "timeline": timeline, "torch": str(torch.__version__)}

    def _lead(self, store: Store, folder: Path, observer: Observer) -> None:
        """Do what process 0 does beside training: save, show, keep, write."""
        saved = self._find(store)
        machine = self._machine(saved)
        meta = self.experiment.meta
        demand.check_time(meta.name, meta.model, meta.vocab_size, machine.matrix_rate * self.world.size, say)
        trainer = self._trainer(Start(saved, machine))
        observer.began({**meta.model.model_dump(mode="json"), "seed": meta.seed, **machine.numerics.as_dict()})
        history = History(trainer.network, self.experiment, self.timeline, observer)
        title = f"train {meta.name} on {self.device.type}, {machine.numerics.describe()}"
        with progress(title, meta.model.steps, "steps", trainer.step) as update:
            every = self.resume.save_every_seconds
            keeper = Keeper(self.world, self.asked, store, history, update, every, machine)
            if saved:
                keeper.load(saved)
            keeper.follow(trainer)
        history.write(folder, _speed(trainer, history, machine, self.world, keeper.seconds))
        store.discard()

    def _find(self, store: Store) -> State | None:
        """Return the state to go on from, and say so; else note what begins here."""
        saved = store.load()
        if saved:
            say(f"{self.experiment.meta.name}: going on from step {saved.step}")
            return saved
        identity = self.identity()
        changed = saved_states.changed_since(saved_states.home(), store.folder.name, identity)
        if changed:
            say(changed)
        store.describe(identity)
        return None

    def _machine(self, saved: State | None) -> Machine:
        """Return how to compute: as the saved state did, else as the parameters and the machine say."""
        if saved:
            return Machine(Numerics(**saved.facts["numerics"]), saved.facts["matrix_rate"])
        return Machine(*precision.choose(self.experiment.meta.engine, self.device, say))

    def _trainer(self, start: Start | None) -> Trainer:
        """Return the trainer at its `start`, which process 0 knows and sends to the others."""
        sent = self.world.broadcast(start)
        assert sent is not None  # process 0 has sent it
        saved, machine = sent
        if self.world.size == 1:
            torch.set_num_threads(machine.numerics.threads)
        meta = self.experiment.meta
        torch.manual_seed(meta.seed)
        network = networks.build(networks.architecture(meta.model), meta.vocab_size).to(self.device)
        trainer = Trainer(
            network,
            self.experiment.data.ids,
            meta.model,
            meta.seed,
            machine.numerics,
            skip_nonfinite=meta.engine.nonfinite == "skip",
            world=self.world,
            say=say if self.world.is_main else lambda line: None,
        )
        if saved:
            trainer.load(saved.tensors, saved.facts["trainer"])
        return trainer


@contextmanager
def held(
    experiment: Experiment, timeline: Timeline, resume: Resume, device: torch.device, world: World, asked: Requests
) -> Iterator[Session]:
    """Yield the session of a training that no other process trains meanwhile.

    `UserError` that names the other process if there is one: nobody has been told of this training then.
    """
    session = Session(experiment, timeline, resume, device, world, asked)
    if not world.is_main:
        yield session
        return
    store = Store(saved_states.folder(fingerprint(session.identity())), resume.keep, say)
    with store.held():
        yield replace(session, store=store)


def _speed(trainer: Trainer, history: History, machine: Machine, world: World, seconds: float) -> Speed:
    """Return how fast it went; the share is that of the machine's measured matrix products."""
    tokens_per_second = history.tokens_per_second()
    flops = networks.flops_per_token(trainer.network) * tokens_per_second
    return Speed(
        seconds=round(seconds, 1),
        tokens_per_second=round(tokens_per_second),
        gflops_per_second=round(flops / 1e9, 1),
        matrix_gflops_per_second=round(machine.matrix_rate / 1e9, 1),
        share_of_matrix_rate=round(flops / machine.matrix_rate / world.size, 4),
        processes=world.size,
        **machine.numerics.as_dict(),
    )


@dataclass
class Follower:
    """A watcher that stops the training on every process at the same step if one of them was asked to."""

    world: World
    asked: Requests

    def stepped(self, trainer: Trainer, note: str) -> None:
        """Stop here if some process was asked to, or lost the torchrun that started it."""
        if self.world.any(self.asked.signal is not None or self.world.is_orphan):
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
    """The follower of process 0: shows progress, fills the history, saves the state now and then and when stopped."""

    store: Store
    history: History
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
        self.history.load(saved.tensors, saved.facts["history"])

    def follow(self, trainer: Trainer) -> None:
        """Watch a training to its end, or until it is stopped, which leaves its state saved."""
        try:
            for evaluation in trainer.run(self):
                self.history.record(evaluation)
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
        tensors, trainer_facts = trainer.state()
        kept, history_facts = self.history.state()
        facts = {
            "trainer": trainer_facts,
            "history": history_facts,
            "numerics": self.machine.numerics.as_dict(),
            "matrix_rate": self.machine.matrix_rate,
            "seconds": self.seconds,
        }
        self.store.save(trainer.step, {**tensors, **kept}, facts)
        self.saved_at = time.monotonic()
