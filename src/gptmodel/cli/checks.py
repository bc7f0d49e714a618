"""What `gptmodel doctor` examines, one function per section, and how what it finds is shown.

The checks look and change nothing: no store, lock or file is made, and the only programs started are git, dvc and
nvidia-smi. They need the base install only; what needs more (torch, DVC, MLflow) is imported only if it is there. A
check that breaks is itself a finding, never a traceback.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gptmodel import layout
from gptmodel.errors import UserError
from gptmodel.machine import processor
from gptmodel.runtime import bundle, graphs, session

GIB = 1 << 30
ROOM_BYTES = GIB  # the default run leaves 0.2 GB, and each experiment adds to it
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
SLOW_SECONDS, FAST_SECONDS = 60, 10  # for dvc, which hashes what has changed; for git and the driver
SHOWN_STAGES = 5
BOTH_RUNTIMES = {"onnxruntime", "onnxruntime-gpu"}


@dataclass(frozen=True)
class Problem:
    """What is wrong and what mends it, in one line."""

    text: str
    stops: bool  # whether a command would fail until it is mended


@dataclass
class Section:
    """What was found out about one thing."""

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, text: str, stops: bool = False) -> None:
        """Add a problem."""
        self.problems.append(Problem(" ".join(text.split()), stops))


def examine(check: Callable[[Section], None]) -> Section:
    """Run one check; what it raises is a problem of its section."""
    section = Section(check.__name__)
    try:
        check(section)
    except UserError as error:
        section.wrong(str(error), stops=True)
    except Exception as error:  # a broken driver or package may raise anything, and saying so is what a doctor is for
        section.wrong(f"{section.title} cannot be examined ({type(error).__name__}: {error}): reinstall what it names")
    return section


def report(sections: list[Section]) -> str:
    """Return the findings as text: the facts by section, then the problems."""
    lines = []
    for section in sections:
        width = max(map(len, section.facts), default=0)
        lines += ["", section.title, *(f"  {name:<{width}}  {value}" for name, value in section.facts.items())]
    problems = [problem for section in sections for problem in section.problems]
    lines += ["", "problems", *(f"  {'stops work' if p.stops else 'note'}: {p.text}" for p in problems)]
    return "\n".join(lines[1:] + ([] if problems else ["  none"])) + "\n"


def as_dict(sections: list[Section]) -> dict[str, Any]:
    """Return the findings for JSON."""
    problems = [asdict(problem) for section in sections for problem in section.problems]
    return {**{section.title: section.facts for section in sections}, "problems": problems}


def packages(section: Section) -> None:
    """Python, this package, and those of its dependencies that are installed (developers' tools left out)."""
    section.facts["python"] = f"{platform.python_version()} ({sys.executable})"
    section.facts["gptmodel"] = f"{metadata.version('gptmodel')} ({Path(__file__).parents[1]})"
    wanted = [line for line in metadata.requires("gptmodel") or [] if 'extra == "dev"' not in line]
    names = {re.split(r"[^\w.-]", line)[0] for line in wanted} | BOTH_RUNTIMES
    installed = {name: number for name in sorted(names - {"gptmodel"}) if (number := _version(name))}
    section.facts |= installed
    for text in conflicts(installed):
        section.wrong(text)


def conflicts(installed: Collection[str]) -> list[str]:
    """Return a sentence for each set of packages that cannot live together."""
    if BOTH_RUNTIMES - set(installed):
        return []
    return [
        "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files: "
        "pip uninstall onnxruntime onnxruntime-gpu, then install 'gptmodel[cpu]' or 'gptmodel[gpu]'"
    ]


def machine(section: Section) -> None:
    """Processor, memory, disk and GPU."""
    facts = section.facts
    facts["system"] = platform.platform()
    model, flags = processor()
    facts["cpu"] = f"{model}, {len(os.sched_getaffinity(0)) if sys.platform == 'linux' else os.cpu_count()} cores"
    facts["instructions"] = ", ".join(flag for flag in FLAGS if flag in flags) or "not known"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / GIB:.1f} GiB"
    free = shutil.disk_usage(Path.cwd()).free
    facts["disk"] = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    if free < ROOM_BYTES:
        section.wrong(f"only {free / GIB:.2f} GiB are free in {Path.cwd()}: make room (`dvc gc -w` drops old results)")
    facts["gpu"] = "; ".join(gpus()) or "none found (nvidia-smi is not there or finds none)"


def gpus() -> list[str]:
    """Return name, driver and memory of each NVIDIA GPU, as nvidia-smi says; none where it is not there or fails."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader"]
    done = _run(query, FAST_SECONDS) if shutil.which("nvidia-smi") else None
    if done is None or done.returncode:
        return []
    cells = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 3]
    return [f"{name}, driver {driver}, {total} ({free} free)" for name, driver, total, free in cells]


def inference(section: Section) -> None:
    """ONNX Runtime, and the graph that `generate` takes: of each bundle under models/, and of a complete one."""
    onnxruntime = session.onnxruntime()
    section.facts["onnxruntime"] = f"{onnxruntime.__version__} ({onnxruntime.__path__[0]})"
    section.facts["providers"] = ", ".join(onnxruntime.get_available_providers())
    spec, device = graphs.choose("auto", graphs.GRAPHS)
    section.facts["generate"] = f"{spec.name} on {device}, where the bundle has it"
    if device == "cpu" and gpus():
        section.wrong("there is a GPU, but this onnxruntime has no CUDA: install 'gptmodel[gpu]' in place of [cpu]")
    for folder in sorted(layout.MODELS.glob("*/bundle")):
        try:
            loaded = bundle.Bundle.load(folder)
        except UserError as error:
            section.wrong(str(error), stops=True)
        else:
            section.facts[str(folder)] = f"{loaded.graph} on {loaded.device}"
            if loaded.device != device:  # `auto` goes on without the libraries, `--device cuda` would not
                section.wrong("the CUDA or cuDNN libraries cannot be loaded: pip install 'gptmodel[gpu]'")
                break


def training(section: Section) -> None:
    """Where the train stage would run and in which precision, by the values of params.yaml if one is here."""
    if not _is_there(section, "torch", "train"):
        return
    from gptmodel import params
    from gptmodel.model import devices
    from gptmodel.training import precision

    name = "auto"
    engine = params.Engine(precision="auto", execution="eager", nonfinite="stop")
    if layout.PARAMS.is_file():
        given = params.load(layout.PARAMS)
        name = given.device
        engine = given.engine
        section.facts["params.yaml"] = f"valid: {len(given.models)} models, corpus {given.corpus.path}"
    device = devices.pick(name)
    chosen, rate = precision.choose(engine, device, section.wrong)
    section.facts |= {key: str(value) for key, value in chosen.as_dict().items()}
    hardware = precision.bfloat16_hardware(device)
    reason = f"{hardware} multiplies bfloat16" if hardware else "nothing here is known to multiply bfloat16 in hardware"
    section.facts["precision"] += f" ({reason if engine.precision == 'auto' else 'as params.yaml says'})"
    section.facts["matrix products"] = f"{rate / 1e9:,.0f} GFLOP/s"
    if chosen.device != "cuda" and name == "auto" and gpus():
        section.wrong(
            f"there is a GPU, but torch {metadata.version('torch')} finds no CUDA: install the torch built for it"
        )


def tracking(section: Section) -> None:
    """The MLflow store: off, not there yet, or whether it answers. A store that does not answer stops no stage."""
    if not _is_there(section, "mlflow", "pipeline"):
        return
    from gptmodel.tracking import runs, store

    address = store.address()
    section.facts["store"] = store.without_password(address)
    if runs.is_off():
        section.facts["state"] = "off: GPTMODEL_TRACKING is set"
        return
    database = Path(address.removeprefix("sqlite:///").partition("?")[0])
    if address.startswith("sqlite:///") and not database.exists():
        section.facts["state"] = "not there yet: the first stage makes it"
        return
    broken: tuple[type[Exception], ...] = (store.StoreUnavailable, *store.failures())
    try:
        found = store.open_store().client.search_experiments()
    except broken as error:
        section.facts["state"] = "does not answer"
        section.wrong(f"tracking would be off: {error}")
    else:
        section.facts["state"] = f"answers; experiments: {', '.join(experiment.name for experiment in found)}"


def versioning(section: Section) -> None:
    """The DVC repository: which stages would run, and the remotes."""
    if not Path(".dvc").is_dir():
        section.facts["repository"] = "none here (a bundle needs none)"
        return
    if not _is_there(section, "dvc", "pipeline"):
        return
    commit = _run(["git", "log", "-1", "--format=%h %s"], FAST_SECONDS) if shutil.which("git") else None
    section.facts["git"] = commit.stdout.strip() if commit and not commit.returncode else "no commit"
    remotes = _run([sys.executable, "-m", "dvc", "remote", "list"], FAST_SECONDS)
    names = remotes.stdout.split()[::2] if remotes and not remotes.returncode else []
    section.facts["remotes"] = ", ".join(names) or "none: `dvc push` has nowhere to go"
    section.facts["stages"] = _stages(section)


def _stages(section: Section) -> str:
    """Return which stages `dvc repro` would look at."""
    status = _run([sys.executable, "-m", "dvc", "status", "--json"], SLOW_SECONDS)
    if status is None:
        return f"not known: `dvc status` took longer than {SLOW_SECONDS} s"
    if status.returncode:
        reason = (status.stderr.strip().splitlines() or ["no reason given"])[0].removeprefix("ERROR: ")
        if "lock" in reason or "busy" in reason:
            return "not known: another dvc is at work here"
        section.wrong(f"`dvc status` fails ({reason}): mend what it names", stops=True)
        return "not known"
    changed = list(json.loads(status.stdout))
    if not changed:
        return "all up to date"
    more = f" and {len(changed) - SHOWN_STAGES} more" if len(changed) > SHOWN_STAGES else ""
    return f"`dvc repro` would look at {', '.join(changed[:SHOWN_STAGES])}{more}"


def _is_there(section: Section, package: str, extra: str) -> bool:
    """Say that a package is missing; in a repository, whose stages need it, that is a problem."""
    if find_spec(package):
        return True
    remedy = f"pip install 'gptmodel[{extra}]'"
    section.facts[package] = f"not installed ({remedy})"
    if Path("dvc.yaml").is_file():
        section.wrong(f"{package} is not installed, so `dvc repro` cannot run: {remedy}", stops=True)
    return False


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str] | None:
    """Return what a program said, None if it took too long; git takes no lock that DVC may hold."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, env=environment)
    except subprocess.TimeoutExpired:
        return None


ALL = (packages, machine, inference, training, tracking, versioning)
