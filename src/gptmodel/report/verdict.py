"""What a run shows and what to change next: a verdict on each training, and the lead of the whole report.

Decided on the validation text, which also chose the weights, and on the training loss; the test text decides nothing.
A training is

- overfitting, if the last two evaluations of its validation curve lie above its lowest one, by more than `SHOWN` on
  average, while the training loss fell; unstable, if that did not fall;
- falling, if a straight line through the evaluations of the last third of the steps (at least three) falls by more
  than `SHOWN`, and the training loss is not yet `BY_HEART` below the validation loss;
- done, otherwise.

`SHOWN` is more than what evaluations beside each other differ by without a trend. A learning rate that falls to 0
bends every curve down at its end, so the curve alone does not say that more steps help: with a training loss far below,
they did not (docs/how-it-works.md names the trainings that this was read from).
"""

from collections.abc import Sequence
from statistics import fmean, linear_regression
from typing import Literal, NamedTuple

from gptmodel.params import GPTModel, Model
from gptmodel.report.results import Everything, ModelResults
from gptmodel.results.training import Point

SHOWN = 0.01  # of the validation loss
READ_AT_LEAST = 5  # times the training text, as in the recipes of docs/your-own-corpus.md
BY_HEART = 0.10  # a training loss so far below the validation loss: the text is being learned by heart

Shape = Literal["overfitting", "unstable", "falling", "done"]


class Verdict(NamedTuple):
    """A conclusion, and the lines of params.yaml to change: one of them, the first one first, or all; none: nothing."""

    text: str
    changes: Sequence[str] = ()
    joined: Literal["or", "and"] = "or"

    def markdown(self) -> str:
        """Return the verdict for reading, on one line."""
        lines = f" {self.joined} ".join(f"`{change}`" for change in self.changes)
        return f"{self.text} In params.yaml: {lines}." if lines else self.text


class RunVerdict(NamedTuple):
    """Whether the best model of a run beats counting, and the verdict on each model, the best on validation first."""

    conclusion: str
    models: Sequence[Verdict]

    def lead(self) -> str:
        """Return the run in one line: the conclusion, and what to change in the best model."""
        return f"{self.conclusion} {self.models[0].markdown()}"

    def markdown(self) -> str:
        """Return verdict.md."""
        return "\n".join([f"**{self.conclusion}**\n", *(f"- {each.markdown()}" for each in self.models)]) + "\n"


def lowest(history: Sequence[Point]) -> Point:
    """Return the evaluation with the lowest validation loss, the first of equal ones: its weights were kept."""
    return min(history, key=lambda point: point.validation_bits_per_char)


def rise(history: Sequence[Point]) -> float:
    """Return how far the last two evaluations lie above the lowest one, on average, as a share of that.

    An evaluation before the lowest one does not count, so that a curve which ends at its lowest has no rise.
    """
    best = lowest(history)
    last = [point.validation_bits_per_char for point in history if point.step >= best.step][-2:]
    return fmean(last) / best.validation_bits_per_char - 1


def end(history: Sequence[Point]) -> Sequence[Point]:
    """Return the evaluations of the last third of the steps, or the last three where those are fewer."""
    third = [point for point in history if point.step >= history[-1].step * 2 / 3]
    return third if len(third) >= 3 else history[-3:]


def fall(history: Sequence[Point]) -> float:
    """Return by which share a straight line through the end of a curve falls."""
    steps = [point.step for point in end(history)]
    if len(steps) < 2:
        return 0.0
    slope, start = linear_regression(steps, [point.validation_bits_per_char for point in end(history)])
    first, last = (start + slope * step for step in (steps[0], steps[-1]))
    return 1 - last / first


def shape(history: Sequence[Point]) -> Shape:
    """Return what a validation curve is (see above)."""
    if rise(history) > SHOWN:
        return "overfitting" if _training_fell(history) else "unstable"
    return "falling" if fall(history) > SHOWN and _gap(history[-1]) < BY_HEART else "done"


def _gap(point: Point) -> float:
    """Return how far the training loss lies below the validation loss, as a share of that."""
    return 1 - _training(point) / point.validation_bits_per_char


def _training_fell(history: Sequence[Point]) -> bool:
    """Tell whether the training loss fell after the lowest validation loss."""
    return _training(history[-1]) < _training(lowest(history))


def _training(point: Point) -> float:
    """Return the training loss; at step 0, which has none, a network knows no text better than another."""
    return point.validation_bits_per_char if point.train_bits_per_char is None else point.train_bits_per_char


def of_model(name: str, results: ModelResults) -> Verdict:
    """Return the verdict on the training of one model."""
    history, model = results.history, results.meta.model
    best, last = lowest(history), history[-1]
    since = f"since step {best.step:,} of {last.step:,}"
    ending = f"in the last {last.step - end(history)[0].step:,} of its {last.step:,} steps"
    rises = f"rises ({best.validation_bits_per_char:.3f} to {last.validation_bits_per_char:.3f} bits per character)"
    match shape(history):
        case "overfitting":
            return Verdict(
                f"{name} has been overfitting {since}: its validation loss {rises} while its training loss falls. The "
                f"weights of step {best.step:,} are kept; fewer steps or more dropout may do better.",
                [*_fewer_steps(name, model, best.step), *_more_dropout(name, model)],
            )
        case "unstable":
            return Verdict(
                f"{name} has been unstable {since}: its validation loss {rises}, and its training loss does not fall. "
                "A lower learning rate helps.",
                [_line(name, rate, getattr(model, rate) / 2) for rate in _rates(model)],
            )
        case "falling":
            times = last.characters / results.meta.text.splits["train"].characters
            return Verdict(
                f"{name} was still learning when it stopped: its validation loss fell by {_percent(fall(history))} "
                f"{ending}. It read the training text {times:.1f} times; more steps should help.",
                [_line(name, "steps", _more_steps(last.step, times))],
            )
        case "done" if fall(history) > SHOWN:
            dropout = _more_dropout(name, model)
            return Verdict(
                f"{name} is about done: its validation loss still fell by {_percent(fall(history))} {ending}, but its "
                f"training loss is {_percent(_gap(last))} below it, so it learns the text by heart. More steps alone "
                f"would hardly help{'; with more dropout they may' if dropout else ''}.",
                [*dropout, _line(name, "steps", 2 * last.step)] if dropout else [],
                "and",
            )
        case "done":
            return Verdict(
                f"{name} is done: its validation loss fell by less than {_percent(SHOWN)} {ending}. More steps would "
                "hardly help."
            )


def of_run(everything: Everything) -> RunVerdict:
    """Return the verdicts of a run: its best model beside the best baseline, and how each training went."""
    ranked = sorted(everything.models.items(), key=lambda item: item[1].metrics.validation.bits_per_char)
    verdicts = [of_model(*each) for each in ranked]
    name, results = ranked[0]
    score, baseline = results.metrics.validation, everything.baselines.best_on("validation")
    if score.bits_per_char < baseline.bits_per_char:
        conclusion = (
            f"{name} beats plain counting: {score.bits_per_char:.3f} bits for each character of the validation text, "
            f"against {baseline.bits_per_char:.3f} ({baseline.name})."
        )
    else:
        conclusion = (
            f"Plain counting ({baseline.name}, {baseline.bits_per_char:.3f} bits for each character of the validation "
            f"text) beats the best model ({name}, {score.bits_per_char:.3f})."
        )
        if not verdicts[0].changes:
            verdicts[0] = _beaten(name, results)
    return RunVerdict(conclusion, verdicts)


def _beaten(name: str, results: ModelResults) -> Verdict:
    """Return the verdict on a model that is done and worse than counting: its text or its network holds it back."""
    done, model = of_model(name, results).text, results.meta.model
    if not isinstance(model, GPTModel):
        return Verdict(f"{done} A bigram sees one token only: train a GPT beside it.")
    if _gap(results.history[-1]) < BY_HEART:
        return Verdict(
            f"{done} It hardly predicts the training text any better, so the network is too small.",
            [_line(name, "n_layer", 2 * model.n_layer)],
        )
    return Verdict(
        f"{done} It predicts the training text much better, so that text is too short "
        f"({results.meta.text.splits['train'].characters:,} characters): put others like it beside it in a folder.",
        ["corpus: data/own"],
    )


def _line(name: str, key: str, value: float) -> str:
    return f"models.{name}.{key}: {value if isinstance(value, int) else f'{value:g}'}"


def _fewer_steps(name: str, model: Model, best: int) -> list[str]:
    """Return the line that stops at the best step, where that is after the warm-up."""
    return [_line(name, "steps", best)] if best > model.warmup_steps else []


def _more_dropout(name: str, model: Model) -> list[str]:
    """Return the line with more dropout, where there is some to add: a bigram has none."""
    if not isinstance(model, GPTModel) or model.dropout >= 0.5:
        return []
    return [_line(name, "dropout", round(model.dropout + 0.1, 2))]


def _rates(model: Model) -> list[str]:
    """Return the learning rates that a model is trained with, Muon's first."""
    return ["muon_learning_rate", "learning_rate"] if model.muon_learning_rate else ["learning_rate"]


def _more_steps(steps: int, times: float) -> int:
    """Return 2 to 10 times the steps, so that the training text is read `READ_AT_LEAST` times if it can be; two digits.

    >>> [_more_steps(steps, times) for steps, times in [(350, 6.3), (60, 1.07), (60, 0.01)]]
    [700, 280, 600]
    """
    factor = min(max(2.0, READ_AT_LEAST / times), 10.0)
    return int(float(f"{steps * factor:.1e}"))


def _percent(share: float) -> str:
    return f"{share * 100:.2g} %"
