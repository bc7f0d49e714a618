"""A training that is stopped or killed ends in the bytes of one that nobody disturbed.

Every training here is the stage itself, in a process of its own; kills are SIGKILL.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from gptmodel.training.saved_states import Store
from tests.support.closure import ROOT
from tests.support.places import (
    DISK,
    EVALUATION,
    SAMPLE,
    SAVE,
    STEP,
    STEPS,
    WRITE,
    Bytes,
    Place,
    clean_environment,
    outputs,
    run,
    trap,
    wait_for,
)
from tests.support.stage import MODEL
from tests.support.training import contents

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="kills processes")]


def test_killed_at_random_moments_until_it_is_done(place: Place, untouched: Bytes) -> None:
    moments, kills, code = random.Random(1), 0, -SIGKILL
    while code and kills < 15:
        training = place.start()
        time.sleep(moments.uniform(0.03, 0.15))
        os.kill(training.pid, SIGKILL)
        code, _ = training.end()
        kills += code == -SIGKILL
    if code:
        place.finish()
    assert kills >= 2
    assert place.outputs() == untouched


def test_killed_inside_the_save_again_and_again(place: Place, untouched: Bytes) -> None:
    calls, reached = random.Random(2), [0]
    while True:
        code, said = place.train(trap(DISK, calls.randint(10, 90)))
        reached += [int(line.split()[-1]) for line in said if "going on from step" in line]
        if code == 0:
            break
        assert code == -SIGKILL
        assert not any("damaged" in line for line in said)
    assert len(set(reached)) > 3  # as many kills, with progress between them
    assert reached == sorted(reached)
    assert place.outputs() == untouched


def test_killed_while_it_writes_the_model_and_clears_up(place: Place, untouched: Bytes) -> None:
    assert place.train(trap(WRITE, 1))[0] == -SIGKILL
    for call in range(6, 46, 4):
        code, said = place.train(trap(DISK, call))
        assert code in (0, -SIGKILL)
        assert not any("damaged" in line for line in said)
        if code == 0:
            break
    place.finish()
    assert place.outputs() == untouched


def test_the_last_state_of_a_killed_training_is_that_of_an_undisturbed_one(place: Place, interrupted: Place) -> None:
    """Weights, both optimizers and the best weights so far, bit for bit; facts but for times."""
    assert place.train(trap(WRITE, 1))[0] == -SIGKILL
    assert interrupted.train(trap(WRITE, 1))[0] == -SIGKILL
    one, other = (Store(each.newest().parent, 1, pytest.fail).load() for each in (place, interrupted))
    assert one is not None
    assert other is not None
    assert contents(one.tensors) == contents(other.tensors)
    for state in (one, other):
        facts = state.facts
        del facts["seconds"], facts["matrix_rate"], facts["trainer"]["seconds"], facts["history"]["speeds"]
    assert one.facts["trainer"]["step"] == one.step == STEPS
    assert repr(one.facts) == repr(other.facts)  # repr: a NaN is equal to itself


def test_the_best_weights_survive_when_none_better_follow(place: Place) -> None:
    place.edit(lambda values: values["models"][MODEL].update(learning_rate=2.0))
    place.finish()
    undisturbed = place.outputs()
    assert json.loads(undisturbed["checkpoint/meta.json"])["best_step"] < 10
    assert place.train(trap(STEP, 11))[0] == -SIGKILL
    assert place.finish() == [f"{MODEL}: going on from step 10"]
    assert place.outputs() == undisturbed


def test_another_number_of_threads_is_another_training(interrupted: Place) -> None:
    """It changes the last digits of sums; so what was begun with one is not finished with another."""
    interrupted.edit(lambda values: values.update(threads=3))
    code, [line] = interrupted.train()
    assert code == 0
    assert "threads auto -> 3" in line


def test_a_training_takes_the_threads_that_params_yaml_says(place: Place) -> None:
    place.edit(lambda values: values.update(threads=1))
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    del environment["OMP_NUM_THREADS"]
    command = [sys.executable, "-m", "pipelines.train", MODEL]
    subprocess.run(command, cwd=place.root, env=environment, capture_output=True, check=True)
    speed = json.loads((place.root / "models" / MODEL / "training" / "speed.json").read_text())
    assert speed["threads"] == 1


@pytest.mark.parametrize(("number", "code"), [(SIGTERM, 143), (SIGINT, 130)])
@pytest.mark.parametrize(
    ("at", "call", "stops_at"),
    [(STEP, 13, 13), (EVALUATION, 3, 16), (EVALUATION, 1, 0), (SAMPLE, 2, 9)],
    ids=["step", "evaluation", "first evaluation", "sample"],
)
def test_a_request_to_stop_is_obeyed_at_a_step_boundary(
    place: Place, untouched: Bytes, number: signal.Signals, code: int, at: str, call: int, stops_at: int
) -> None:
    """Here nothing else saves states: that is what the request is for."""
    place.save_every(1000.0)
    line = f"stopped at step {stops_at} by {number.name}: run the same command again to go on from there"
    assert place.train(trap(at, call, number)) == (code, [line])
    assert place.newest().name == f"step-{stops_at:08d}.safetensors"
    assert not (place.root / "models").exists()
    assert place.finish() == [f"{MODEL}: going on from step {stops_at}"]
    assert place.outputs() == untouched


def test_a_request_that_comes_during_a_save_or_too_late_does_no_harm(place: Place, untouched: Bytes) -> None:
    code, said = place.train(trap(SAVE, 7, SIGTERM))
    assert (code, said[0].split(" by ")[0]) == (143, "stopped at step 8")
    assert place.train(trap(WRITE, 1, SIGTERM)) == (0, [f"{MODEL}: going on from step 8"])
    assert place.outputs() == untouched


def test_under_dvc_a_stopped_training_counts_as_failed_and_goes_on(
    training_project: Path, place: Place, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("dvc")
    shutil.copytree(training_project, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("models", ".resume"))
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    for each, seconds in ((place, 1000.0), (Place(place.server, root), 0.1)):
        each.edit(lambda values: values["models"][MODEL].update(steps=300, evaluate_every=100))
        each.save_every(seconds)
    place.finish()
    command = ["dvc", "repro", "--single-item", f"train@{MODEL}"]
    with subprocess.Popen(command, cwd=root, env=clean_environment(), stderr=subprocess.PIPE, text=True) as repro:
        wait_for(root, "step-*.safetensors")
        (holder,) = (root / ".resume").glob("*.holder.json")
        os.kill(json.loads(holder.read_text())["pid"], SIGTERM)
        _, said = repro.communicate(timeout=100)
    assert repro.returncode
    assert "exited with 143" in said
    assert not (root / "dvc.lock").exists()
    assert not (root / "models" / MODEL / "training").exists()
    again = run(root, *command)
    assert again.returncode == 0, again.stderr
    assert f"{MODEL}: going on from step" in again.stderr
    assert f"train@{MODEL}" in (root / "dvc.lock").read_text()
    assert outputs(root) == place.outputs()
