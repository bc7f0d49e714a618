"""One MLflow run per trained model, shared by all stages that work on it (a process each).

The stages meet through a *fingerprint*: train computes it from everything that determines the weights and leaves it in
its checkpoint; the run carries it as a tag. Which run a stage writes to, within the experiment named like the corpus:

- train continues its own unfinished run (a resumed training: rows of steps that the run has are skipped, so no point is
  drawn twice). If that run's training had finished, it starts a new one and marks the old one `superseded=true`.
- any other stage takes the newest run with the fingerprint that is not superseded, one of its own DVC experiment first,
  then the workspace's. A DVC experiment that finds no run of its own writes to a child run, so that an experiment on
  evaluation parameters leaves the figures of others alone. If there is no run (the store was lost, or the model came
  by `dvc pull`), it starts one tagged `restored=true`. `restore` does the same for `sync` and `registry`.
- report, which compares all models, writes to the runs of its own DVC experiment only.

MLflow mirrors the DVC outputs and is never needed: `GPTMODEL_TRACKING=off`, a missing MLflow, a server that is down or
a full disk end in a run that logs nothing, after one line on standard error. Nothing imports MLflow before `run`.

Source: https://mlflow.org/docs/latest/ml/tracking
"""

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptmodel.errors import Stopped, UserError
from gptmodel.results.bundle import Origin
from gptmodel.tracking import store as stores
from gptmodel.tracking.run import NOTE, Run, say
from gptmodel.tracking.store import StoreUnavailable, brief

PARENT = "mlflow.parentRunId"
OFF = {"off", "0", "no", "false"}
INPUTS = ("src", "pipelines", "params.yaml", "dvc.yaml", "data/catalog.yaml", "data/own")


@dataclass(frozen=True)
class Identity:
    """Whose run it is: the training with this `fingerprint`, of a model, at a level, on a corpus (its title page)."""

    fingerprint: str
    model: str
    level: str
    corpus: Origin


@dataclass(frozen=True)
class Experiment:
    """The MLflow experiment of a corpus in an open store."""

    client: Any
    id: str

    def runs(self, identity: Identity, parent: str | None = None) -> list[Any]:
        """Return the live runs of an identity, newest first: those without a parent, or the children of `parent`."""
        query = f"tags.fingerprint = '{identity.fingerprint}' and tags.superseded = 'false'"
        found = self.client.search_runs([self.id], query, order_by=["attributes.start_time DESC"])
        return [run for run in found if run.data.tags.get(PARENT) == parent]

    def start(self, identity: Identity, tags: Mapping[str, str], began_ms: int | None = None) -> Run:
        """Create a run."""
        name = f"{identity.model} [{dvc_experiment()}]" if dvc_experiment() else identity.model
        tags = {**_model_tags(identity), **tags}
        return Run(self.client, self.client.create_run(self.id, start_time=began_ms, run_name=name, tags=tags))


@contextmanager
def run(identity: Identity, stage: str) -> Iterator[Run]:
    """Open the run of a model for one stage, RUNNING inside the block and FINISHED, FAILED or KILLED after it.

    What the block raises passes through; the store never raises.
    """
    opened = _open(identity, stage)
    started = time.monotonic()
    state = "failed"
    try:
        yield opened
        state = "finished"
    except (KeyboardInterrupt, SystemExit, Stopped):
        state = "killed"
        raise
    finally:
        opened.close(stage, state, time.monotonic() - started)


def restore(identity: Identity, began: float) -> tuple[Run, bool]:
    """Return the run of a model, to complete it, and whether it had to be started (tagged `restored=true`).

    `began`: when the training did, in seconds since 1970. Raises `UserError` where there is no store that works.
    """
    if is_off():
        raise UserError("GPTMODEL_TRACKING is off: unset it")
    with stores.needed():
        experiment = _experiment(stores.open_store(), identity.corpus)
        runs = experiment.runs(identity)
        if runs:
            return Run(experiment.client, (_own(runs) or runs)[0]), False
        return experiment.start(identity, {"restored": "true"}, round(began * 1000)), True


def is_off() -> bool:
    """Return whether `GPTMODEL_TRACKING` says that nothing is to be tracked."""
    return os.environ.get("GPTMODEL_TRACKING", "").lower() in OFF


def dvc_experiment() -> str:
    """Return the name of the DVC experiment that runs this stage, "" in the workspace."""
    return os.environ.get("DVC_EXP_NAME", "")


def _open(identity: Identity, stage: str) -> Run:
    if is_off():
        return Run()
    try:
        experiment = _experiment(stores.open_store(), identity.corpus)
        if stage == "train":
            return _run_of_training(experiment, identity)
        return _run_of_stage(experiment, identity, stage)
    except StoreUnavailable as error:
        say(f"off for this stage: {error}")
    except stores.failures() as error:
        where = stores.without_password(stores.address())
        say(f"off for this stage: the store at {where} does not work ({brief(error)})")
    return Run()


def _run_of_training(experiment: Experiment, identity: Identity) -> Run:
    """Return the training's own unfinished run, or a new one that supersedes the finished ones."""
    own = _own(experiment.runs(identity))
    finished = [run for run in own if run.data.tags.get("stage.train") == "finished"]
    if own and own[0] not in finished:
        return _resume(experiment, own[0], "train", _model_tags(identity))
    new = experiment.start(identity, _stage_tags("train", {}))
    for old in finished:
        experiment.client.set_tag(old.info.run_id, "superseded", "true")
        experiment.client.set_tag(old.info.run_id, "superseded.by", new.id)
        experiment.client.update_run(old.info.run_id, name=f"{old.info.run_name} (superseded)")
    return new


def _run_of_stage(experiment: Experiment, identity: Identity, stage: str) -> Run:
    """Return the run that a stage after the training writes to; see the module's docstring."""
    runs = experiment.runs(identity)
    if not runs:
        return experiment.start(identity, {**_stage_tags(stage, {}), "restored": "true"})
    own = _own(runs)
    if stage == "report" and not own:
        return Run()
    workspace = [run for run in runs if not run.data.tags.get("dvc.exp_name")]
    found = (own or workspace or runs)[0]
    if _may_write(found, stage):
        return _resume(experiment, found, stage, {})
    children = _own(experiment.runs(identity, parent=found.info.run_id))
    if children:
        return _resume(experiment, children[0], stage, {})
    return experiment.start(identity, {**_stage_tags(stage, {}), PARENT: found.info.run_id})


def _may_write(found: Any, stage: str) -> bool:
    """Tell whether this stage may write to a run: it leaves the runs, and the figures, of other experiments alone."""
    if dvc_experiment() and not _own([found]):
        return False
    is_done = found.data.tags.get(f"stage.{stage}") in ("running", "finished")
    return not is_done or found.data.tags.get(f"stage.{stage}.exp_name", "") == dvc_experiment()


def _own(runs: list[Any]) -> list[Any]:
    """Return those of the runs that belong to this DVC experiment, or to the workspace outside of one."""
    return [run for run in runs if run.data.tags.get("dvc.exp_name", "") == dvc_experiment()]


def _experiment(store: stores.Store, corpus: Origin) -> Experiment:
    """Return the MLflow experiment named like the corpus, creating it if it is not there."""
    from mlflow.exceptions import MlflowException

    client = store.client
    found = client.get_experiment_by_name(corpus.name)
    if found is None:
        facts = (corpus.title, corpus.author, corpus.year, corpus.licence)
        note = " · ".join(str(fact) for fact in facts if fact is not None)
        tags = {"mlflow.experimentKind": "custom_model_development", NOTE: note}
        try:
            return Experiment(client, str(client.create_experiment(corpus.name, store.artifacts, tags)))
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(corpus.name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise StoreUnavailable(
            f"the MLflow experiment {corpus.name!r} is in the trash: bring it back with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    return Experiment(client, str(found.experiment_id))


def _resume(experiment: Experiment, found: Any, stage: str, tags: Mapping[str, str]) -> Run:
    """Return a run that was there, RUNNING again."""
    opened = Run(experiment.client, found)
    experiment.client.update_run(found.info.run_id, status="RUNNING")
    opened.set_tags({**_stage_tags(stage, found.data.tags), **tags})
    return opened


def _stage_tags(stage: str, old: Mapping[str, str]) -> dict[str, str]:
    """Return what every stage leaves on its run: its state, and the DVC stage and experiment it ran in."""
    name = f"stage.{stage}"
    tags = {name: "running", "dvc.stage": os.environ.get("DVC_STAGE", stage)}
    if dvc_experiment() or f"{name}.exp_name" in old:
        tags[f"{name}.exp_name"] = dvc_experiment()
    return tags


def _model_tags(identity: Identity) -> dict[str, str]:
    """Return what says which model a run is about, from which code, and by whom it was started."""
    page = identity.corpus.model_dump(exclude={"name"}, exclude_none=True)
    tags = {f"corpus.{key}": str(value) for key, value in page.items()}
    tags |= {"corpus": identity.corpus.name, "level": identity.level, "model": identity.model}
    tags |= {"fingerprint": identity.fingerprint, "superseded": "false", "restored": "false"}
    tags |= {"mlflow.source.name": os.environ.get("DVC_STAGE") or Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}
    if dvc_experiment():
        tags |= {"dvc.exp_name": dvc_experiment(), "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", "")}
    with suppress(OSError, KeyError, ImportError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = str(is_dirty()).lower()
    return tags


def is_dirty() -> bool:
    """Return whether code or parameters are others than the commit's; what stages write does not count."""
    return bool(_git("status", "--porcelain", "--", *INPUTS))


def _git(*arguments: str) -> str:
    """Return what git says, "" where there is no git, repository or commit; takes no lock that DVC may hold."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.check_output(
            ["git", *arguments], stderr=subprocess.DEVNULL, text=True, timeout=10, env=environment
        ).strip()
    except (OSError, subprocess.SubprocessError):
        return ""
