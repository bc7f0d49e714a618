"""The checks of training that need the device itself; gpu_check.sh runs them, on the CPU as a dry run.

    python benchmarks/gpu_training.py TEXT [--device cuda|cpu] [--recipe tinyshakespeare-gpu]

Each check says what it found in one line; the first that fails ends the run with an error. Small networks on TEXT, and
for the speed the recipe's own network on random tokens. The findings go to
benchmarks/results/checks-training-DEVICE.json.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from environment import RESULTS, ROOT, environment, processor
from scratch import Project, changed, recipe, trainer
from torch import Tensor

from gptmodel import files, layout, params, strict
from gptmodel.arrays import Ids
from gptmodel.data.dataset import Dataset
from gptmodel.errors import UserError, one_line_errors
from gptmodel.model import networks
from gptmodel.params import Model
from gptmodel.results.corpus import SplitName
from gptmodel.training import precision as choice
from gptmodel.training.batches import Windows
from gptmodel.training.precision import Numerics
from gptmodel.training.step import MicroBatch, Step
from gptmodel.training.trainer import ALONE, Trainer, Unwatched

MODEL, SEED = "gpt-char", 7
SMALL = [  # the modern decoder of params.yaml, smaller, with every ingredient that a GPU could get wrong
    *("n_layer=2", "n_head=2", "n_embd=32", "n_hidden=64", "context=32", "batch_size=8", "dropout=0.1"),
    *("init=zero", "muon_learning_rate=0.02", "learning_rate=3e-3", "warmup_steps=5", "steps=50", "evaluate_every=50"),
]
FAR = {"float32": 1e-4, "bfloat16": 1e-2}  # of two weights after the same steps, taken eagerly and as a graph
APART = 0.05  # nats per token: of two trainings that round differently
BAD_STEP = 20
WARM_UP = 10  # steps that speed does not count: kernels are loaded, graphs captured
VOCABULARY = 65  # tinyshakespeare's, for the speed on random tokens

Precision = Literal["float32", "bfloat16"]
Execution = Literal["eager", "compile", "graph"]


@dataclass
class Device:
    """Where the checks run, and what they have found so far."""

    kind: str
    findings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_cuda(self) -> bool:
        """Whether this is no dry run."""
        return self.kind == "cuda"

    @property
    def executions(self) -> list[Execution]:
        """The ways of taking a step beside `eager` that must give the same training, and exist here."""
        return ["compile", "graph"] if self.is_cuda else ["compile"]

    def numerics(self, precision: Precision = "float32", execution: Execution = "eager") -> Numerics:
        """Return how to compute."""
        return Numerics(self.kind, precision, execution, torch.get_num_threads())

    def found(self, check: str, what: str, **figures: Any) -> None:
        """Note a check that passed."""
        self.findings[check] = {"what": what, **figures}
        print(f"ok: {check}: {what}", flush=True)

    def wait(self) -> None:
        """Let the device finish."""
        if self.is_cuda:
            torch.cuda.synchronize()


def require(condition: bool, what: str) -> None:
    """End the run if a check failed."""
    if not condition:
        raise UserError(f"check failed: {what}")


@dataclass(frozen=True)
class Small:
    """A small training on TEXT."""

    config: Model
    data: Dataset

    def trainer(self, how: Numerics, dropout: float | None = None, **options: Any) -> Trainer:
        """Return it at its first step."""
        config = self.config if dropout is None else self.config.model_copy(update={"dropout": dropout})
        return trainer(config, self.data.ids, self.data.tokenizer.vocab_size, SEED, how, **options)

    def trained(self, how: Numerics, dropout: float | None = None) -> tuple[dict[str, Tensor], float]:
        """Return the last weights, on the CPU, and what they pay for a validation token."""
        training = self.trainer(how, dropout)
        *_, last = training.run()
        weights = {name: tensor.cpu() for name, tensor in networks.weights(training.network).items()}
        return weights, last.validation_nats / len(self.data.ids["validation"])


def check_precisions(device: Device, small: Small) -> None:
    """Both precisions learn, and learn the same."""
    plain, short = (small.trained(device.numerics(precision))[1] for precision in ("float32", "bfloat16"))
    untrained = float(np.log(small.data.tokenizer.vocab_size))
    require(plain < untrained - 0.5, f"float32 learns: {plain:.3f} nats per token, untrained {untrained:.3f}")
    require(abs(plain - short) < APART, f"bfloat16 learns as float32 does: {short:.4f} and {plain:.4f}")
    device.found(
        "precisions", f"float32 {plain:.6f}, bfloat16 {short:.6f} nats per token", float32=plain, bfloat16=short
    )


def check_executions(device: Device, small: Small) -> None:
    """The executions give one training; a graph to the last weight, dropout included.

    torch.compile draws its own dropout and rounds differently: it is compared without dropout, by the loss.
    """
    precisions: tuple[Precision, ...] = ("float32", "bfloat16") if device.is_cuda else ("float32",)
    for execution in device.executions:
        for precision in precisions:
            dropout = 0.0 if execution == "compile" else None
            weights, nats = small.trained(device.numerics(precision, execution), dropout)
            eager, eager_nats = small.trained(device.numerics(precision), dropout)
            distance = max(float((weights[name] - eager[name]).abs().max()) for name in eager)
            what = f"{nats:.4f} nats per token, eager {eager_nats:.4f}; largest difference of a weight {distance:.1e}"
            require(abs(nats - eager_nats) < APART, f"{execution} in {precision} as eager: {what}")
            require(execution != "graph" or distance < FAR[precision], f"graph in {precision} as eager: {what}")
            device.found(f"{execution}, {precision}", what, nats=nats, eager_nats=eager_nats, distance=distance)


class Poison(Unwatched):
    """A watcher that makes the gradient of one step NaN, and notes the state before and after it."""

    def __init__(self, training: Trainer, device: str) -> None:
        self._factor = torch.ones((), device=device)
        next(training.network.parameters()).register_hook(self._poisoned)  # type: ignore[no-untyped-call]
        self.states: list[dict[str, Tensor]] = []

    def _poisoned(self, gradient: Tensor) -> Tensor:
        return gradient * self._factor

    def stepped(self, trainer: Trainer, note: str) -> None:
        """Poison the next step, or take the poison away."""
        if trainer.step in (BAD_STEP, BAD_STEP + 1):
            self._factor.fill_(float("nan") if trainer.step == BAD_STEP else 1.0)
            self.states.append({name: tensor.clone() for name, tensor in trainer.state()[0].items()})


def check_nonfinite(device: Device, small: Small) -> None:
    """A step whose gradient is not finite changes no weight and no moment, and is named; or it ends the training."""
    executions: list[Execution] = ["eager", "graph"] if device.is_cuda else ["eager"]
    for execution in executions:
        said: list[str] = []
        training = small.trainer(device.numerics("float32", execution), skip_nonfinite=True, say=said.append)
        poison = Poison(training, device.kind)
        *_, last = training.run(poison)
        before, after = poison.states
        require(
            all(torch.equal(before[name], after[name]) for name in before), f"{execution}: the step changed a state"
        )
        require([line for line in said if f"step {BAD_STEP} skipped" in line] != [], f"{execution}: not named: {said}")
        require(bool(np.isfinite(last.validation_nats)), f"{execution}: the training went on to a finite loss")
        training = small.trainer(device.numerics("float32", execution))
        try:
            for _ in training.run(Poison(training, device.kind)):
                pass
            stopped = ""
        except UserError as error:
            stopped = str(error)
        require(f"step {BAD_STEP}:" in stopped, f"{execution}: nonfinite: stop names the step, not {stopped!r}")
        device.found(f"nonfinite, {execution}", f"{said[0]}; nothing changed; stop names it too")


@contextmanager
def no_waiting() -> Iterator[None]:
    """Make torch raise where the host waits for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def check_no_synchronisation(device: Device, small: Small) -> None:
    """A training step never waits for the GPU."""
    if not device.is_cuda:
        print("left out on the CPU: no synchronisation", flush=True)
        return
    ids, config = small.data.ids["train"], small.config
    windows = Windows(len(ids), config.context, config.batch_size, SEED, config.windows)
    for execution in ("eager", "graph"):
        training = small.trainer(device.numerics("bfloat16", execution))
        step = Step(training.network, torch.from_numpy(ids.astype(np.int32)), config, training.numerics, ALONE)
        pieces = [[MicroBatch(windows.starts(number), number)] for number in range(2 * WARM_UP)]
        for number in range(WARM_UP):
            step.take(number, pieces[number], 1.0)
        with no_waiting():
            for number in range(WARM_UP, 2 * WARM_UP):
                step.take(number, pieces[number], 1.0)
        device.found(f"no synchronisation, {execution}", f"{WARM_UP} steps without a wait")


def check_resume(device: Device, project: Project, values: dict[str, Any]) -> None:
    """Kill -9 twice, go on: the same bytes as without a kill."""
    steps = 4000 if device.is_cuda else 90
    changes = [f"models.*.steps={steps}", f"models.*.evaluate_every={steps // 3}", "resume.save_every_seconds=0.1"]
    if device.is_cuda:  # a context longer than a block of the attention kernel (128), which may add up in any order
        changes += ["engine.execution=graph", "engine.precision=bfloat16", "models.*.context=192"]
    project.write(changed(values, changes))
    project.run("train", MODEL)
    whole, killed = written(project), list[int]()
    for share in (0.2, 0.6):
        process = project.start("train", MODEL)
        while process.poll() is None and newest(project) < share * steps:
            time.sleep(0.01)
        require(process.poll() is None, "the training ended before it could be killed: give it more steps")
        process.kill()
        process.wait()
        killed.append(newest(project))
    project.run("train", MODEL)
    different = [name for name, digest in written(project).items() if digest != whole[name]]
    if different:
        project.run("train", MODEL)
        alone = "two uninterrupted trainings agree" if written(project) == whole else "as after no kill at all"
        raise UserError(f"check failed: killed near steps {killed} of {steps}, {', '.join(different)} differ: {alone}")
    device.found("resume", f"killed near steps {killed} of {steps}: {', '.join(whole)} are the same bytes as unkilled")


def newest(project: Project) -> int:
    """Return the step of the newest saved state, 0 without one."""
    found = (project.root / ".resume").glob("*/step-*.safetensors")
    return max((int(path.stem.removeprefix("step-")) for path in found), default=0)


def training_folder(project: Project) -> Path:
    """Return the folder that the stage train writes."""
    return layout.ModelFolder(MODEL, project.root / layout.MODELS).training


def written(project: Project) -> dict[str, str]:
    """Return the digests of what a training must write the same each time."""
    folder = training_folder(project)
    names = ("checkpoint/model.safetensors", "history.csv", "timeline.md")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def check_processes(device: Device, project: Project, values: dict[str, Any]) -> None:
    """Two processes train what one trains."""
    if device.is_cuda and torch.cuda.device_count() < 2:
        print("left out with one GPU: two processes", flush=True)
        return
    project.write(changed(values, ["models.*.dropout=0.0", "engine.precision=float32"]))
    losses = []
    for count in ("1", "2"):
        project.run("train", MODEL, GPTMODEL_PROCESSES=count)
        last = (training_folder(project) / "history.csv").read_text(encoding="utf-8").splitlines()
        losses.append(float(dict(zip(last[0].split(","), last[-1].split(","), strict=True))["validation_loss_nats"]))
    what = f"one process {losses[0]:.5f}, two {losses[1]:.5f} nats per token"
    require(abs(losses[0] - losses[1]) < 1e-3, what)
    device.found("processes", what)


class Clock(Unwatched):
    """A watcher that times the first step, and the steps after the warm-up."""

    def __init__(self, steps: int, wait: Callable[[], None]) -> None:
        self._at, self._wait = (1, WARM_UP, steps), wait
        self.times = [time.perf_counter()]

    def stepped(self, trainer: Trainer, note: str) -> None:
        """Read the clock where it counts."""
        if trainer.step in self._at:
            self._wait()
            self.times.append(time.perf_counter())


def check_speed(device: Device, name: str, steps: int) -> None:
    """Time the recipe's network: tokens per second, share of the matrix rate, start-up, by precision and execution."""
    _, values = recipe(name)
    if not device.is_cuda:
        values = changed(
            values, ["models.*.n_layer=1", "models.*.batch_size=2", "models.*.n_head=2", "models.*.n_embd=64"]
        )
    [config] = strict.parse(params.Params, values, Path(name)).models.values()
    config = config.model_copy(update={"steps": steps, "evaluate_every": steps, "warmup_steps": 1})
    ids: Ids = np.random.default_rng(SEED).integers(0, VOCABULARY, 1_000_000).astype(np.uint8)
    splits: dict[SplitName, Ids] = {"train": ids, "validation": ids[: 4 * config.context]}
    executions: list[Execution] = ["eager", *(device.executions if device.is_cuda else [])]
    for precision in ("bfloat16", "float32"):
        rate = choice.matrix_rate(torch.device(device.kind), choice.DTYPES[precision], choice.RATE_SIZE[device.kind])
        for execution in executions:
            training = trainer(config, splits, VOCABULARY, SEED, device.numerics(precision, execution))
            clock = Clock(steps, device.wait)
            for _ in training.run(clock):
                pass
            began, first, warm, end = clock.times
            tokens_per_second = (steps - WARM_UP) * training.tokens_per_step / (end - warm)
            share = networks.flops_per_token(training.network) * tokens_per_second / rate
            what = f"{tokens_per_second:,.0f} tokens/s, {share:.1%} of {rate / 1e12:.1f} TFLOP/s"
            device.found(
                f"speed, {precision}, {execution}",
                f"{what}, first step {first - began:.1f} s, warm after {warm - began:.1f} s",
                tokens_per_second=round(tokens_per_second),
                share_of_matrix_rate=share,
                start_up_seconds=warm - began,
            )


def main() -> None:
    """Run every check, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("text", type=Path)
    arguments.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments.add_argument("--recipe", default="tinyshakespeare-gpu")
    asked = arguments.parse_args()
    device = Device(asked.device)
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        values = strict.read_yaml(ROOT / "params.yaml")
        values["models"] = {MODEL: values["models"][MODEL]}
        small_values = [f"models.*.{change}" for change in SMALL]
        values = changed(values, [f"corpus={asked.text.resolve()}", f"device={device.kind}", *small_values])
        project = Project.make(Path(folder), values)
        project.prepare()
        small = Small(project.settings.model(MODEL), project.dataset("char"))
        for check in (check_precisions, check_executions, check_nonfinite, check_no_synchronisation):
            check(device, small)
        check_resume(device, project, values)
        check_processes(device, project, values)
        check_speed(device, asked.recipe, steps=200 if device.is_cuda else 2 * WARM_UP)
        gpu = torch.cuda.get_device_name() if device.is_cuda else None
        facts = environment("torch", "numpy", **processor(), torch_threads=torch.get_num_threads(), gpu=gpu)
        files.write_json(RESULTS / f"checks-training-{device.kind}.json", {"checks": device.findings, **facts})


if __name__ == "__main__":
    main()
