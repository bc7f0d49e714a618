"""A campaign of faults: every stage of the pipeline, at each call that changes the disk: killed, stopped or refused.

    python -m tests.support.faults --work FOLDER --record FILE [--stages fetch,clean,...] [--share 0.1]

Everything is imported once. Each fault then hits a fork of this process, which runs the stage itself in a copy of a
small project; another fork runs it again, undisturbed. `--share 0.1` draws a tenth of the faults. The laws:

- the process was killed, or it ended with one line and code 2, which names the file, or 143 or 130 for a signal
  (or with 0, its work being done);
- each folder that the stage writes is the old one or the new one, whole;
- run again, the stage ends in the bytes of an undisturbed run, and nothing else is there;
- after a power cut too; a stage that had ended has its new folders; a training goes on from the last state saved.
"""

import argparse
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from gptmodel import files
from gptmodel.runtime import latency
from gptmodel.training import precision
from tests.support.closure import ROOT
from tests.support.disk import NEEDS_ROOM, Call, Fault
from tests.support.forks import Ended, run
from tests.support.places import edit_params, tiny
from tests.support.stage import MODEL

STAGES: dict[str, list[str]] = {  # in the order of the pipeline, with the folders that each writes
    "fetch": ["data/raw"],
    "clean": ["data/clean"],
    "encode": ["data/tokens/char"],
    "baselines": ["data/baselines"],
    "train": [f"models/{MODEL}/training"],
    "evaluate": [f"models/{MODEL}/evaluation"],
    "inspect": [f"models/{MODEL}/inspection"],
    "export": [f"models/{MODEL}/bundle", f"models/{MODEL}/hf"],
    "benchmark": [f"models/{MODEL}/benchmark"],
    "report": ["reports"],
}
CLOCKED = {"speed.json", "benchmark.json"}
PROGRESS = re.compile(r".*: [\d,]+/[\d,]+ ")
SHOWN_FAILURES = 50

Tree = dict[str, bytes]


def small(values: dict[str, Any]) -> None:
    """Let every stage take a fraction of a second."""
    tiny(values)
    values["models"][MODEL].update(steps=6, evaluate_every=3, warmup_steps=2)
    values["baselines"] = {"order": 3}
    values["samples"].update(prompts=["Le "], temperatures=[0.8], max_new_tokens=20)
    values["benchmark"] = {"prompt_tokens": 4, "new_tokens": 4, "batch_sizes": [1], "repeats": 1}


def tree(root: Path, *folders: str) -> Tree:
    """Return the files below some folders of a project (all, without one named)."""
    starts = [root / folder for folder in folders] or [root]
    paths = (path for start in starts for path in start.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def same(found: Tree, expected: Tree) -> bool:
    """Return whether two trees are equal; of files that hold times, whether they are whole."""
    if found.keys() != expected.keys():
        return False
    return all(
        found[name] == content or (Path(name).name in CLOCKED and _keys(found[name]) == _keys(content))
        for name, content in expected.items()
    )


def _keys(content: bytes) -> set[str] | None:
    try:
        return set(json.loads(content))
    except ValueError:
        return None


@dataclass
class Trial:
    """One fault: where it hits, and which laws were broken."""

    stage: str
    start: str
    at: int
    call: Call
    fault: Fault
    broken: list[str] = field(default_factory=list)

    def check(self, law: str, holds: bool) -> None:
        if not holds:
            self.broken.append(law)

    def __str__(self) -> str:
        place = f"{self.stage} ({self.start}), call {self.at} ({self.call.kind} {files.final(Path(self.call.path))})"
        return f"{place}, {self.fault}: {'; '.join(self.broken)}"


class Campaign:
    """The small project after every stage, and the faults tried on copies of it."""

    def __init__(self, work: Path, stages: list[str], share: float) -> None:
        self.work = work
        self.share = share
        self.whole = work / "whole"
        self.trials: list[Trial] = []
        self.calls = dict[str, int]()
        self.flushes = dict[str, int]()
        (self.whole / "data" / "own").mkdir(parents=True)
        shutil.copy(ROOT / "params.yaml", self.whole)
        shutil.copy(ROOT / "data" / "catalog.yaml", self.whole / "data")
        shutil.copy(ROOT / "tests" / "fixtures" / "roman.txt", self.whole / "data" / "own")
        edit_params(self.whole, small)
        names = list(STAGES)
        for stage in names[: max(names.index(each) for each in stages) + 1]:
            ended = run(stage, self.whole)
            assert ended.code == 0, (stage, ended.said)

    def try_stage(self, stage: str) -> None:
        """Try the faults of a stage: on a project without its outputs, and on one with old ones."""
        new = tree(self.whole, *STAGES[stage])
        for start in ("afresh", "again"):
            base = self._base(stage, start)
            old, expected = tree(base, *STAGES[stage]), {**tree(base), **new}
            place = self._copy(base)
            ended = run(stage, place)
            assert ended.code == 0, (stage, ended.said)
            assert same(tree(place), expected), set(tree(place)) ^ set(expected)
            self.calls[f"{stage} {start}"] = len(ended.calls)
            self.flushes[f"{stage} {start}"] = sum(call.kind == "fsync" for call in ended.calls)
            drawn = random.Random(f"{stage} {start}")
            for trial in _trials(stage, start, ended.calls):
                if drawn.random() < self.share:
                    self._try(trial, base, old, new, expected)
                    self.trials.append(trial)

    def _base(self, stage: str, start: str) -> Path:
        base = self.work / f"{stage}-{start}"
        shutil.copytree(self.whole, base)
        for folder in STAGES[stage]:
            if start == "afresh":
                shutil.rmtree(base / folder)
            else:
                for path in (path for path in (base / folder).rglob("*") if path.is_file()):
                    path.write_bytes(b"old")
        if stage == "train" and start == "afresh":
            shutil.rmtree(base / "models")
            shutil.rmtree(base / ".resume")
            shutil.rmtree(base / "reports", ignore_errors=True)
        return base

    def _copy(self, base: Path) -> Path:
        place = self.work / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        return place

    def _try(self, trial: Trial, base: Path, old: Tree, new: Tree, expected: Tree) -> None:
        place = self._copy(base)
        ended = run(trial.stage, place, trial.at, trial.fault)
        if trial.fault.startswith("cut"):
            shutil.rmtree(place)
            (self.work / "place-notes" / "aftermath").rename(place)
        trial.check(f"exit code {ended.code}, said {ended.said}", _is_orderly(trial, ended))
        found = tree(place, *STAGES[trial.stage])
        is_new = same(found, new)
        for folder in STAGES[trial.stage]:
            part, was, will = (_below(folder, content) for content in (found, old, new))
            trial.check(f"{folder} is neither the old one nor the new one", part == was or same(part, will))
        trial.check(
            "the new ones are not there after its end", is_new or (trial.call.kind != "end" and ended.code != 0)
        )
        again = run(trial.stage, place)
        trial.check(f"run again: exit code {again.code}, said {again.said}", again.code == 0)
        after = tree(place)
        trial.check("run again: other bytes", same({name: after.get(name, b"") for name in expected}, expected))
        trial.check(f"left over: {sorted(after.keys() - expected.keys())}", after.keys() <= expected.keys())
        if ended.saved:
            steps = [int(line.split()[-1]) for line in again.said if "going on from step" in line]
            trial.check(f"had saved step {ended.saved}, went on from {steps}", steps != [] and steps[0] >= ended.saved)

    def record(self) -> dict[str, Any]:
        """Return how many faults were tried and survived."""
        table: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
        for trial in self.trials:
            cell = table[trial.stage][trial.fault]
            cell[0] += 1
            cell[1] += not trial.broken
        return {
            "share": dict.fromkeys(table, self.share),
            "calls": self.calls,
            "flushes": self.flushes,
            "tried": {stage: {fault: cell[0] for fault, cell in row.items()} for stage, row in table.items()},
            "survived": {stage: {fault: cell[1] for fault, cell in row.items()} for stage, row in table.items()},
            "failures": [str(trial) for trial in self.trials if trial.broken][:SHOWN_FAILURES],
        }


def _below(folder: str, content: Tree) -> Tree:
    return {name: data for name, data in content.items() if name.startswith(f"{folder}/")}


def _trials(stage: str, start: str, calls: list[Call]) -> Iterator[Trial]:
    for at, call in enumerate([*calls, Call("end", ".")], start=1):
        for fault in get_args(Fault):
            if fault.startswith("cut") or (call.kind != "end" and (fault != "ENOSPC" or call.kind in NEEDS_ROOM)):
                yield Trial(stage, start, at, call, fault)


def _is_orderly(trial: Trial, ended: Ended) -> bool:
    if trial.fault == "SIGKILL" or trial.fault.startswith("cut"):
        return ended.code == -signal.SIGKILL
    lines = [line for line in ended.said if not PROGRESS.match(line)]
    if ended.code == 0:  # cleaning up may fail, and a training that has ended is not stopped
        return not lines and (trial.fault in ("ENOSPC", "EIO") or trial.stage == "train")
    if trial.fault == "SIGTERM":
        return ended.code == 143 and len(lines) == 1 and "by SIGTERM: " in lines[0]
    if trial.fault == "SIGINT":
        return ended.code == 130 and len(lines) == 1
    target = files.final(Path(trial.call.path))
    names = [str(each) for each in (target, *target.parents)[: max(len(target.parts), 1)]]
    return ended.code == 2 and len(lines) == 1 and any(name in lines[0] for name in names)


def main(tell: Callable[[str], None]) -> int:
    """Run the campaign that the arguments describe."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--record", type=Path, required=True)
    arguments.add_argument("--stages", default=",".join(STAGES))
    arguments.add_argument("--share", type=float, default=1.0)
    asked = arguments.parse_args()
    stages = asked.stages.split(",")
    os.environ |= {"GPTMODEL_TRACKING": "off", "TOKENIZERS_PARALLELISM": "false"}
    precision.RATE_SIZE["cpu"] = 32  # a figure for speed.json, which takes a second to measure
    latency._measure_apart = latency.measure_here  # not in a fresh process, which takes seconds to start
    for stage in STAGES:
        importlib.import_module(f"pipelines.{stage}")
    torch.optim.AdamW([torch.zeros(1)])  # imports the rest of torch
    campaign = Campaign(asked.work.resolve(), stages, asked.share)
    for stage in stages:
        campaign.try_stage(stage)
        record = campaign.record()
        tell(f"{stage}: tried {record['tried'][stage]}, survived {record['survived'][stage]}")
        files.write_json(asked.record, record)
    return len(campaign.record()["failures"])


if __name__ == "__main__":
    sys.exit(1 if main(lambda line: print(line, flush=True)) else 0)  # noqa: T201
