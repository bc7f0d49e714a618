"""One MLflow run per trained model, shared by the stages train, evaluate, export and benchmark (a process each).

The stages meet through a *fingerprint*: train computes it from everything that determines the weights and leaves it in
its checkpoint; the run carries it as a tag. Which run a stage writes to, within the experiment named like the corpus:

- train continues its own unfinished run (a resumed training: rows of steps that the run has are skipped, so no point is
  drawn twice). If that run's training had finished, it starts a new one and marks the old one `superseded=true`.
- any other stage takes the newest run with the fingerprint that is not superseded, one of its own DVC experiment first,
  then the workspace's. A DVC experiment that finds no run of its own writes to a child run, so that an experiment on
  evaluation parameters leaves the figures of others alone. If there is no run (the store was lost, or the model came
  by `dvc pull`), it starts one tagged `restored=true`. `restore` does the same for `gptmodel.tracking.sync`.
- report, which compares all models, writes to the runs of its own DVC experiment only.

MLflow mirrors the DVC outputs and is never needed: `GPTMODEL_TRACKING=off`, a missing MLflow, a server that is down or
a full disk end in a run that logs nothing, after one line on standard error. Nothing imports MLflow before `run`.

Left out on purpose: autologging; the model registry (see `registry`).
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
from gptmodel.tracking import store as stores
from gptmodel.tracking.run import NOTE, Run, brief, say
from gptmodel.tracking.store import Store, StoreUnavailable

PARENT = "mlflow.parentRunId"
COLOR = "mlflow.runColor"  # of the run's curves in the UI, which else gives two runs the same one now and then
COLORS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#edc948", "#ff9da7", "#79706e"]
OFF = {"off", "0", "no", "false"}


@dataclass(frozen=True)
class Identity:
    """Who logs: a stage of the model `variant` with this `fingerprint`, at a `level`, on a corpus."""

    fingerprint: str
    variant: str
    corpus: Mapping[str, object]
    level: str
    stage: str

    @property
    def experiment(self) -> str:
        """The DVC experiment, "" in the workspace."""
        return os.environ.get("DVC_EXP_NAME", "")

    @property
    def run_name(self) -> str:
        """The run's name in the UI."""
        return f"{self.variant} [{self.experiment}]" if self.experiment else self.variant


@contextmanager
def run(*, fingerprint: str, variant: str, corpus: Mapping[str, object], level: str, stage: str) -> Iterator[Run]:
    """Open the run of a model for one stage, RUNNING inside the block and FINISHED, FAILED or KILLED after it.

    `corpus` needs `name` (of the MLflow experiment); the rest of it becomes tags. What the block raises passes through;
    the store never raises.
    """
    opened = _open(Identity(fingerprint, variant, corpus, level, stage))
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


def restore(
    *, fingerprint: str, variant: str, corpus: Mapping[str, object], level: str, began: float
) -> tuple[Run, bool]:
    """Return the run of a model, to complete it, and whether it had to be started (tagged `restored=true`).

    `began`: when the training did, in seconds since 1970. Raises `UserError` where there is no store that works.
    """
    if is_off():
        raise UserError("GPTMODEL_TRACKING is off: unset it")
    who = Identity(fingerprint, variant, corpus, level, "sync")
    try:
        store = stores.open_store()
        experiment_id = _experiment(store, corpus)
        runs = _runs(store.client, experiment_id, who)
        if runs:
            return Run(store.client, (_own(runs, who) or runs)[0]), False
        return _start(store.client, experiment_id, who, {"restored": "true"}, round(began * 1000)), True
    except StoreUnavailable as error:
        raise UserError(str(error)) from None
    except stores.failures() as error:
        where = stores.without_password(stores.address())
        raise UserError(f"the store at {where} does not work ({brief(error)}): mend it or name another") from None


def is_off() -> bool:
    """Return whether `GPTMODEL_TRACKING` says that nothing is to be tracked."""
    return os.environ.get("GPTMODEL_TRACKING", "").lower() in OFF


def _open(who: Identity) -> Run:
    if is_off():
        return Run()
    try:
        return _resume_or_start(stores.open_store(), who)
    except StoreUnavailable as error:
        say(f"off for this stage: {error}")
    except stores.failures() as error:
        where = stores.without_password(stores.address())
        say(f"off for this stage: the store at {where} does not work ({brief(error)})")
    return Run()


def _resume_or_start(store: Store, who: Identity) -> Run:
    """Choose the run as the module's docstring says."""
    client = store.client
    experiment_id = _experiment(store, who.corpus)
    runs = _runs(client, experiment_id, who)
    own = _own(runs, who)
    if who.stage == "train":
        finished = [run for run in own if run.data.tags.get("stage.train") == "finished"]
        if own and own[0] not in finished:
            return _resume(client, own[0], who)
        new = _start(client, experiment_id, who)
        for old in finished:
            client.set_tag(old.info.run_id, "superseded", "true")
            client.set_tag(old.info.run_id, "superseded.by", new.id)
            client.update_run(old.info.run_id, name=f"{old.info.run_name} (superseded)")
        return new
    if not runs:
        return _start(client, experiment_id, who, {"restored": "true"})
    if who.stage == "report" and not own:
        return Run()
    workspace = [run for run in runs if not run.data.tags.get("dvc.exp_name")]
    found = (own or workspace or runs)[0]
    tags = found.data.tags
    done = tags.get(f"stage.{who.stage}") in ("running", "finished")
    may_write = own or not who.experiment  # an experiment leaves the runs of others alone
    if may_write and (not done or tags.get(f"stage.{who.stage}.exp_name", "") == who.experiment):
        return _resume(client, found, who)
    children = _own(_runs(client, experiment_id, who, parent=found.info.run_id), who)
    if children:
        return _resume(client, children[0], who)
    return _start(client, experiment_id, who, {PARENT: found.info.run_id})


def _experiment(store: Store, corpus: Mapping[str, object]) -> str:
    """Return the id of the MLflow experiment named like the corpus, creating it if it is not there."""
    from mlflow.exceptions import MlflowException

    name = str(corpus["name"])
    found = store.client.get_experiment_by_name(name)
    if found is None:
        facts = " · ".join(str(corpus[key]) for key in ("title", "author", "year", "licence") if key in corpus)
        tags = {"mlflow.experimentKind": "custom_model_development", NOTE: facts or name}
        try:
            return str(store.client.create_experiment(name, artifact_location=store.artifacts, tags=tags))
        except MlflowException:  # another process was first
            found = store.client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise StoreUnavailable(
            f"the MLflow experiment {name!r} is in the trash: bring it back with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    return str(found.experiment_id)


def _runs(client: Any, experiment_id: str, who: Identity, parent: str | None = None) -> list[Any]:
    """Return the live runs with the fingerprint, newest first: those without a parent, or the children of `parent`."""
    query = f"tags.fingerprint = '{who.fingerprint}' and tags.superseded = 'false'"
    runs = client.search_runs([experiment_id], query, order_by=["attributes.start_time DESC"])
    return [run for run in runs if run.data.tags.get(PARENT) == parent]


def _own(runs: list[Any], who: Identity) -> list[Any]:
    return [run for run in runs if run.data.tags.get("dvc.exp_name", "") == who.experiment]


def _start(
    client: Any, experiment_id: str, who: Identity, tags: Mapping[str, str] | None = None, began_ms: int | None = None
) -> Run:
    others = client.search_runs([experiment_id], max_results=len(COLORS) - 1)  # the newest, so that one colour is free
    free = [color for color in COLORS if color not in {run.data.tags.get(COLOR) for run in others}]
    tags = {**_model_tags(who), **_stage_tags(who, {}), COLOR: free[0], **(tags or {})}
    return Run(client, client.create_run(experiment_id, start_time=began_ms, run_name=who.run_name, tags=tags))


def _resume(client: Any, found: Any, who: Identity) -> Run:
    opened = Run(client, found)
    client.update_run(found.info.run_id, status="RUNNING")
    opened.set_tags({**_stage_tags(who, found.data.tags), **(_model_tags(who) if who.stage == "train" else {})})
    return opened


def _stage_tags(who: Identity, old: Mapping[str, str]) -> dict[str, str]:
    """Return what every stage leaves on its run: its state, and the DVC stage and experiment it ran in."""
    if who.stage == "sync":  # it completes the stages' tags
        return {}
    name = f"stage.{who.stage}"
    tags = {name: "running", "dvc.stage": os.environ.get("DVC_STAGE", who.stage)}
    if who.experiment or f"{name}.exp_name" in old:
        tags[f"{name}.exp_name"] = who.experiment
    return tags


def _model_tags(who: Identity) -> dict[str, str]:
    """Return what says which model a run is about, from which code, and by whom it was started."""
    tags = {f"corpus.{key}": str(value) for key, value in who.corpus.items() if key != "name"}
    tags |= {"corpus": str(who.corpus["name"]), "level": who.level, "variant": who.variant}
    tags |= {"fingerprint": who.fingerprint, "superseded": "false", "restored": "false"}
    tags |= {"mlflow.source.name": os.environ.get("DVC_STAGE") or Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}
    if who.experiment:
        tags |= {"dvc.exp_name": who.experiment, "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV", "")}
    with suppress(OSError, KeyError, ImportError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["git.dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no", ":!dvc.lock"))).lower()
    return tags


def _git(*arguments: str) -> str:
    """Return what git says, "" where there is no git, repository or commit; takes no lock that DVC may hold."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
