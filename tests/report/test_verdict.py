import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptmodel import params, strict
from gptmodel.report import verdict
from gptmodel.report.results import Everything, ModelResults
from gptmodel.results.training import Point
from pipelines import report as stage
from tests.support import records, runs
from tests.support.closure import ROOT

STEPS = 1000
EVALUATIONS = 11


def history(validation: Sequence[float], training: Sequence[float] | None = None, steps: int = STEPS) -> list[Point]:
    """Return a training with these losses in bits at evenly spaced evaluations, the first at step 0."""
    learned = training if training is not None else [0.95 * bits for bits in validation]
    return [
        records.history()[0].model_copy(
            update={
                "step": (step := round(steps * place / (len(validation) - 1))),
                "characters": 12 * step,
                "train_bits_per_char": train if step else None,
                "validation_bits_per_char": bits,
            }
        )
        for place, (bits, train) in enumerate(zip(validation, learned, strict=True))
    ]


FALLING = [6.5, 3.4, 3.0, 2.8, 2.6, 2.5, 2.4, 2.3, 2.25, 2.2, 2.16]
DONE = [6.5, 3.4, 2.6, 2.3, 2.1, 2.02, 2.01, 2.0, 2.002, 2.001, 2.0]
RISING = [6.5, 3.4, 2.6, 2.3, 2.1, 2.0, 2.05, 2.12, 2.2, 2.3, 2.4]
LEARNED = [6.5, 3.4, 2.6, 2.2, 1.9, 1.7, 1.5, 1.3, 1.1, 0.9, 0.7]
CURVES: dict[verdict.Shape, list[Point]] = {
    "falling": history(FALLING),
    "done": history(DONE),
    "overfitting": history(RISING, LEARNED),
    "unstable": history(RISING),
}
Curve = tuple[verdict.Shape, list[float], list[float]]
MEASURED: dict[str, Curve] = {  # bits on validation and in training of the default run, and with other steps
    "bigram-char": (
        "done",
        [6.589, 3.438, 3.387, 3.375, 3.369, 3.368, 3.368, 3.368, 3.367, 3.366, 3.366],
        [6.589, 4.286, 3.428, 3.402, 3.393, 3.388, 3.385, 3.383, 3.381, 3.38, 3.381],
    ),
    "classic-char": (
        "falling",
        [6.637, 3.469, 3.361, 3.274, 3.12, 2.952, 2.785, 2.66, 2.575, 2.527, 2.484, 2.454, 2.438],
        [6.637, 4.096, 3.46, 3.382, 3.276, 3.14, 2.972, 2.837, 2.737, 2.662, 2.611, 2.571, 2.552],
    ),
    "gpt-char": (
        "done",
        [6.589, 2.804, 2.41, 2.281, 2.241, 2.174, 2.113, 2.068, 2.024, 1.998, 1.987],
        [6.589, 3.793, 2.658, 2.419, 2.309, 2.216, 2.13, 2.047, 1.958, 1.872, 1.779],
    ),
    "gpt-bpe": (
        "done",
        [3.78, 2.647, 2.404, 2.29, 2.224, 2.158, 2.117, 2.067, 2.052, 2.028, 2.013],
        [3.78, 3.12, 2.583, 2.367, 2.261, 2.178, 2.072, 1.959, 1.873, 1.787, 1.724],
    ),
    "gpt-word": (
        "done",
        [4.407, 2.454, 2.291, 2.209, 2.178, 2.149, 2.11, 2.093],
        [4.407, 2.777, 2.205, 2.061, 1.961, 1.878, 1.819, 1.747],
    ),
    "gpt-word, 60 steps": (
        "falling",
        [4.407, 3.957, 3.194, 2.857, 2.746, 2.652, 2.572, 2.514, 2.486, 2.46, 2.453],
        [4.407, 3.872, 3.344, 2.812, 2.598, 2.537, 2.469, 2.436, 2.339, 2.309, 2.284],
    ),
    "gpt-word, 700 steps": (
        "done",
        [4.407, 2.374, 2.23, 2.166, 2.135, 2.126, 2.132, 2.12, 2.111, 2.112, 2.105],
        [4.407, 2.622, 2.116, 1.979, 1.902, 1.813, 1.758, 1.686, 1.623, 1.542, 1.503],
    ),
    "gpt-word, 1,400 steps": (
        "overfitting",
        [4.407, 2.23, 2.135, 2.148, 2.135, 2.148, 2.157, 2.199, 2.215, 2.249, 2.257],
        [4.407, 2.369, 1.94, 1.803, 1.727, 1.636, 1.557, 1.452, 1.365, 1.262, 1.181],
    ),
    "gpt-bpe, 1,000 steps": (
        "overfitting",
        [3.78, 2.399, 2.223, 2.14, 2.099, 2.078, 2.052, 2.043, 2.035, 2.06, 2.06],
        [3.78, 2.852, 2.312, 2.145, 2.012, 1.921, 1.801, 1.667, 1.571, 1.427, 1.325],
    ),
    "gpt-char, 2,000 steps": (
        "done",
        [6.589, 2.409, 2.233, 2.156, 2.121, 2.083, 2.048, 2.021, 1.98, 2.01, 1.987],
        [6.589, 3.226, 2.365, 2.205, 2.132, 2.061, 1.98, 1.889, 1.79, 1.679, 1.569],
    ),
    "gpt-char, 120 steps": (
        "falling",
        [6.589, 5.508, 3.751, 3.509, 3.371, 3.222, 3.106, 2.993, 2.918, 2.857, 2.832],
        [6.589, 6.334, 4.478, 3.655, 3.512, 3.353, 3.227, 3.13, 3.049, 2.951, 2.952],
    ),
}


@pytest.mark.parametrize("shape", CURVES)
def test_each_curve_has_its_verdict_whatever_its_scale(shape: verdict.Shape) -> None:
    assert verdict.shape(CURVES[shape]) == shape
    halved = [
        point.model_copy(update={"validation_bits_per_char": point.validation_bits_per_char / 2})
        for point in CURVES[shape]
    ]
    assert verdict.shape(halved) == shape


@pytest.mark.parametrize("shape", CURVES)
def test_noise_changes_no_verdict(shape: verdict.Shape) -> None:
    for seed in range(100):
        draw = Random(seed)
        noisy = [
            point.model_copy(
                update={"validation_bits_per_char": point.validation_bits_per_char * (1 + draw.gauss(0, 0.002))}
            )
            for point in CURVES[shape]
        ]
        assert verdict.shape(noisy) == shape, seed


@pytest.mark.parametrize("name", MEASURED)
def test_trainings_on_the_default_text_have_the_verdict_that_longer_ones_confirm(name: str) -> None:
    shape, validation, training = MEASURED[name]
    assert verdict.shape(history(validation, training)) == shape


def test_one_bad_evaluation_is_no_overfitting() -> None:
    assert verdict.shape(history([*DONE[:-1], 2.03])) == "done"
    assert verdict.shape(history([*DONE[:-2], 2.03, 2.0])) == "done"


@pytest.mark.parametrize("bits", [[6.5], [6.5, 4.0], [6.5, 6.5], [6.5, 7.0], [6.5, 3.0, 2.0]])
def test_the_shortest_trainings_have_a_verdict(bits: list[float]) -> None:
    points = history(bits, steps=20) if len(bits) > 1 else history([*bits, 1.0])[:1]
    expected = {4.0: "falling", 2.0: "falling", 7.0: "unstable", 6.5: "done"}[bits[-1]]
    assert verdict.shape(points) == expected


bits = st.floats(0.1, 10)


def trained(points: list[Point], name: str = "gpt", validation: float = 2.0, **section: object) -> ModelResults:
    """Return a model's records with this history, this score on validation, and a changed section of params.yaml."""
    meta = records.meta(name)
    model = type(meta.model).model_validate({**meta.model.model_dump(), "steps": STEPS, **section})
    return runs.model(
        name,
        meta=meta.model_copy(update={"model": model}),
        history=points,
        metrics=records.metrics(9.0, validation=validation),
    )


def section_with(model: params.Model, change: str) -> params.Model:
    """Return a section of params.yaml with the line `models.NAME.KEY: VALUE` of a verdict in it."""
    found = re.fullmatch(r"models\.gpt\.(\w+): (\S+)", change)
    assert found, change
    value = int(found[2]) if found[2].isdigit() else float(found[2])
    return type(model).model_validate({**model.model_dump(), found[1]: value})


@given(
    st.lists(st.tuples(bits, bits), min_size=2, max_size=12),
    st.integers(12, 5000),
    st.sampled_from([0.0, 0.1, 0.45, 0.6]),
    st.sampled_from([0.0, 0.02]),
)
def test_any_curve_has_a_verdict_whose_lines_params_yaml_can_take(
    losses: list[tuple[float, float]], steps: int, dropout: float, muon: float
) -> None:
    points = history([one for one, _ in losses], [other for _, other in losses], steps)
    warmup = min(20, steps - 1)
    results = trained(points, steps=steps, warmup_steps=warmup, dropout=dropout, muon_learning_rate=muon)
    said = verdict.of_model("gpt", results)
    shape = verdict.shape(points)
    assert said.changes or shape in ("done", "overfitting")
    for change in said.changes:
        assert section_with(results.meta.model, change) != results.meta.model


@pytest.mark.parametrize(
    ("shape", "changes"),
    [
        ("falling", ["models.gpt.steps: 2000"]),
        ("done", []),
        ("overfitting", ["models.gpt.steps: 500", "models.gpt.dropout: 0.1"]),
        ("unstable", ["models.gpt.learning_rate: 0.005"]),
    ],
)
def test_each_verdict_names_the_line_to_change(shape: verdict.Shape, changes: list[str]) -> None:
    assert list(verdict.of_model("gpt", trained(CURVES[shape])).changes) == changes


def test_what_overfits_is_told_since_when() -> None:
    said = verdict.of_model("gpt", trained(CURVES["overfitting"])).markdown()
    assert said.startswith(
        "gpt has been overfitting since step 500 of 1,000: its validation loss rises (2.000 to 2.400 bits per "
        "character) while its training loss falls."
    )
    assert said.endswith("In params.yaml: `models.gpt.steps: 500` or `models.gpt.dropout: 0.1`.")


def test_a_text_that_was_hardly_read_is_to_be_read_more() -> None:
    points = [point.model_copy(update={"characters": point.step}) for point in CURVES["falling"]]
    assert verdict.of_model("gpt", trained(points)).changes == ["models.gpt.steps: 5000"]


def one_model(results: ModelResults) -> Everything:
    """Return a run of one model; its best baseline has 2.1 bits."""
    return runs.run().model_copy(update={"models": {results.meta.name: results}})


def test_the_lead_says_whether_counting_won_and_why() -> None:
    won = verdict.of_run(one_model(trained(CURVES["falling"], validation=2.05)))
    assert won.conclusion == (
        "gpt beats plain counting: 2.050 bits for each character of the validation text, against 2.100 (kneser-ney-3)."
    )
    lost = {
        shape: verdict.of_run(one_model(trained(points, validation=2.37))).lead() for shape, points in CURVES.items()
    }
    for lead in lost.values():
        assert lead.startswith(
            "Plain counting (kneser-ney-3, 2.100 bits for each character of the validation text) beats the best model "
            "(gpt, 2.370). gpt "
        )
    assert "gpt was still learning when it stopped" in lost["falling"]
    assert lost["falling"].endswith("In params.yaml: `models.gpt.steps: 2000`.")
    assert "gpt has been overfitting since step 500 of 1,000" in lost["overfitting"]


def test_a_curve_that_falls_while_the_text_is_learned_by_heart_asks_for_no_steps_alone() -> None:
    said = verdict.of_model("gpt", trained(history(FALLING, [0.8 * bits for bits in FALLING])))
    assert "fell by 6.1 % in the last 300 of its 1,000 steps, but its training loss is 20 % below" in said.text
    assert said.markdown().endswith("In params.yaml: `models.gpt.dropout: 0.1` and `models.gpt.steps: 2000`.")


def test_a_model_that_is_done_and_lost_is_too_small_or_its_text_is() -> None:
    fits, fits_not = [0.5 * bits for bits in DONE], [1.05 * bits for bits in DONE]
    short = verdict.of_run(one_model(trained(history(DONE, fits), validation=2.37))).lead()
    small = verdict.of_run(one_model(trained(history(DONE, fits_not), validation=2.37))).lead()
    bigram = verdict.of_run(one_model(trained(history(DONE), name="pairs", validation=2.37))).lead()
    assert "that text is too short (1,000 characters)" in short
    assert short.endswith("In params.yaml: `corpus: data/own`.")
    assert small.endswith("the network is too small. In params.yaml: `models.gpt.n_layer: 4`.")
    assert bigram.endswith("A bigram sees one token only: train a GPT beside it.")


def test_the_test_text_decides_nothing() -> None:
    run = runs.run()
    easy = {
        name: model.model_copy(
            update={"metrics": model.metrics.model_copy(update={"test": records.score(0.1 * place)})}
        )
        for place, (name, model) in enumerate(run.models.items(), start=1)
    }
    other = run.model_copy(update={"models": easy})
    assert list(other.best_first) != list(run.best_first)
    assert verdict.of_run(other) == verdict.of_run(run)


def test_every_model_has_a_line_the_best_on_validation_first() -> None:
    said = verdict.of_run(runs.run())
    lead, blank, *lines = said.markdown().splitlines()
    assert (lead, blank) == (f"**{said.conclusion}**", "")
    assert [line.split()[1] for line in lines] == ["gpt", "word", "pairs"]
    assert said.lead() == f"{said.conclusion} {lines[0].removeprefix('- ')}"


def test_the_stage_ends_with_the_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.run()
    runs.write(run, tmp_path)
    sections = {name: model.meta.model.model_dump(mode="json") for name, model in run.models.items()}
    values = {**strict.read_yaml(ROOT / "params.yaml"), "models": sections}
    (tmp_path / "params.yaml").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTMODEL_TRACKING", "off")
    monkeypatch.setattr("sys.argv", ["report"])
    stage.main()
    assert capsys.readouterr().out.splitlines()[-1] == verdict.of_run(run).lead()
