"""The door of the stages: what they write to models/NAME (the truth) is mirrored in the MLflow run of their model.

Nothing here changes a stage: no stage uses what is returned, and whatever goes wrong is one line on standard error.
`sync` logs the same outputs later. Artifacts lie in the folders of models/NAME; tables, which the UI shows, at the top.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from gptmodel import layout
from gptmodel.data.corpus import read_clean
from gptmodel.errors import UserError
from gptmodel.layout import ModelFolder
from gptmodel.results.bundle import Benchmark, BundleInfo, Origin
from gptmodel.results.corpus import CleanCorpus
from gptmodel.results.evaluation import Metrics, Novelty
from gptmodel.results.samples import Samples
from gptmodel.results.training import Meta, Point, Speed, Timeline, TimelineEntry
from gptmodel.tracking import figures, runs
from gptmodel.tracking.run import Run, say
from gptmodel.tracking.runs import Identity

if TYPE_CHECKING:  # it brings torch, which a benchmark does without
    from gptmodel.training.history import Observer

EXCERPT = 600  # characters of a sample in the description, of which MLflow keeps 8000


class Watcher:
    """Follows a training in its MLflow run (see `training.history.Observer`)."""

    def __init__(self, run: Run, meta: Meta, corpus: CleanCorpus | None) -> None:
        self._run = run
        self._meta = meta
        self._corpus = corpus

    def began(self, facts: Mapping[str, Any]) -> None:
        """Log the hyperparameters, what the training adds to them, and the text."""
        self._run.log_params({**hyperparameters(self._meta), **facts})
        if self._corpus:
            self._run.log_corpus(self._corpus)

    def evaluated(self, point: Point, tokens_per_second: float) -> None:
        """Log a point of the curves."""
        self._run.log_history([{**figures.curve(point), figures.LIVE: tokens_per_second}])

    def sampled(self, entry: TimelineEntry) -> None:
        """Log a sample by itself, while there is no table of all."""
        log_sample(self._run, entry)


@contextmanager
def watching(meta: Meta, folder: ModelFolder, tracked: bool) -> Iterator["Observer"]:
    """Yield an observer that follows a training in its MLflow run, and log its outputs when the block succeeds.

    With `tracked` False (a process that does not write) nothing is logged.
    """
    corpus = _clean_corpus(meta) if tracked and not runs.is_off() else None
    with _run(meta, title_page(corpus) if corpus else None, "train") as run:
        yield Watcher(run, meta, corpus)
        _log(run, "train", folder, meta, None)


@contextmanager
def tracked(described: Meta | BundleInfo, folder: ModelFolder, stage: str) -> Iterator[None]:
    """Log the outputs of a stage in the MLflow run of its model when the block succeeds."""
    page = None if runs.is_off() else _title_page(described)
    with _run(described, page, stage) as run:
        yield
        _log(run, stage, folder, described if isinstance(described, Meta) else None, page)


def title_page(corpus: CleanCorpus) -> Origin:
    """Return the title page of a corpus."""
    return Origin(**corpus.model_dump(include=set(Origin.model_fields)))


def hyperparameters(meta: Meta) -> dict[str, Any]:
    """Return what a model was trained with, as far as params.yaml says."""
    return {**meta.model.model_dump(mode="json"), "engine": meta.engine.model_dump(mode="json"), "seed": meta.seed}


def describe(run: Run, page: Origin, meta: Meta, folder: ModelFolder, with_report: bool) -> None:
    """Set the run's description: the figures in a line, the beginning of a sample, how the models compare."""
    metrics = Metrics.read(folder.metrics)
    sample = Samples.read(folder.details / "samples.json").samples[0]
    table = (layout.REPORTS / "comparison.md").read_text(encoding="utf-8") if with_report else ""
    run.set_note(
        f"{page.title}, {meta.level} level: bits per character: {metrics.summary()}\n\n"
        f"{sample.markdown(EXCERPT)}\n{table}\n"
        "All samples: table samples.json; while it learned: table timeline.json.\n"
    )


def log_sample(run: Run, entry: TimelineEntry) -> None:
    """Keep what a model wrote at one evaluation of its training."""
    run.log_text(entry.markdown(), f"timeline/step_{entry.step:06d}.md")


def trained(run: Run, folder: ModelFolder) -> None:
    """Log the outputs of the stage train, less the curves and the weights."""
    training = folder.training
    speed = Speed.read(training / "speed.json")
    run.log_metrics(figures.training(speed))
    run.set_tags(figures.training_tags(speed))
    for file in sorted(path for path in training.iterdir() if path.is_file()):
        run.log_file(file, training.name)
    entries = Timeline.read(training / "timeline.json").entries
    for entry in entries:
        log_sample(run, entry)
    rows = [
        {"step": entry.step, "sample": entry.sample.prompt + entry.sample.text, "bits_per_char": entry.bits_per_char}
        for entry in entries
    ]
    run.log_table(rows, "timeline.json")


def evaluated(run: Run, folder: ModelFolder) -> None:
    """Log the outputs of the stage evaluate."""
    metrics = Metrics.read(folder.metrics)
    novelty = Novelty.read(folder.details / "novelty.json")
    run.log_metrics({**figures.scores(metrics), **figures.novelty(novelty)})
    run.log_params({"parameters": metrics.parameters})
    run.set_tags(figures.held_out_tags(novelty))
    run.log_folder(folder.evaluation, folder.evaluation.name)
    samples = Samples.read(folder.details / "samples.json").samples
    run.log_table([sample.model_dump() for sample in samples], "samples.json")


def exported(run: Run, folder: ModelFolder) -> None:
    """Log the outputs of the stage export."""
    run.set_tags(figures.parity_tags(BundleInfo.read(folder.bundle / "bundle.json").graphs))
    run.log_folder(folder.bundle, folder.bundle.name)


def benchmarked(run: Run, folder: ModelFolder) -> None:
    """Log the outputs of the stage benchmark."""
    measured = Benchmark.read(folder.benchmark / "benchmark.json")
    run.log_metrics(figures.speed(measured))
    run.set_tags({"benchmark": {"graph": measured.graph, **measured.machine.model_dump()}})
    run.log_folder(folder.benchmark, folder.benchmark.name)


LOG: dict[str, Callable[[Run, ModelFolder], None]] = {
    "train": trained,
    "evaluate": evaluated,
    "inspect": lambda run, folder: run.log_folder(folder.inspection, folder.inspection.name),
    "export": exported,
    "benchmark": benchmarked,
    "report": lambda run, _: run.log_folder(layout.REPORTS, "report"),  # of all models
}


def corpus_of(meta: Meta) -> CleanCorpus:
    """Return data/clean/corpus.json; `UserError` where it is missing, or of another text than the model's."""
    corpus = read_clean(layout.CLEAN)
    if corpus.splits != meta.text.splits:
        raise UserError(f"{layout.CLEAN} holds another text than {meta.name} was trained on: run `dvc repro`")
    return corpus


def _clean_corpus(meta: Meta) -> CleanCorpus | None:
    try:
        return corpus_of(meta)
    except UserError as error:
        say(f"off for this stage: {error}")
        return None


def _title_page(described: Meta | BundleInfo) -> Origin | None:
    if isinstance(described, BundleInfo):
        return described.corpus
    corpus = _clean_corpus(described)
    return title_page(corpus) if corpus else None


def _run(described: Meta | BundleInfo, page: Origin | None, stage: str) -> AbstractContextManager[Run]:
    """Open the run of a stage; without a title page, one that logs nothing."""
    if page is None:
        return nullcontext(Run())
    name = described.name if isinstance(described, Meta) else described.model
    return runs.run(Identity(described.fingerprint, name, described.level, page), stage)


def _log(run: Run, stage: str, folder: ModelFolder, meta: Meta | None, page: Origin | None) -> None:
    """Log the outputs of a stage; whatever goes wrong is one line, as not even a bug here may fail a finished stage."""
    if run.client is None:
        return
    try:
        LOG[stage](run, folder)
        if meta and page and stage in ("evaluate", "report"):
            describe(run, page, meta, folder, with_report=stage == "report")
    except Exception as error:
        run.stop(error)
