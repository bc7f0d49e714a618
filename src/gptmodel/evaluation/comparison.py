"""Which model is better, by how much and how certainly: what each scores on the same characters, laid side by side.

Models are compared on one text only, by its SHA-256. The intervals know nothing of training (another seed moves a
model), and they are not corrected for many comparisons.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from gptmodel.errors import UserError
from gptmodel.evaluation import surprisal
from gptmodel.evaluation.bootstrap import interval, paired
from gptmodel.evaluation.surprisal import CharacterCosts
from gptmodel.results.comparison import Comparison, ModelScore, Pair
from gptmodel.results.evaluation import Scored

FILE = surprisal.FILE  # in each model's evaluation folder, and in that of the baselines
CERTAIN = 0.999  # from here on, one word instead of a figure


def read(folder: Path) -> CharacterCosts:
    """Return what a model's characters cost, from its evaluation folder or that of the baselines.

    `UserError` if the file is missing or damaged.
    """
    return CharacterCosts.read(folder / FILE)


def compare(costs: Mapping[str, CharacterCosts], split: Scored) -> Comparison:
    """Compare every two of the models on a split; `costs` are theirs, by name.

    `UserError` if a model was not scored on the split, or on another text than the others.
    """
    scores = models(costs, split)
    best = costs[scores[0].name]
    return Comparison(
        split=split,
        characters=len(best.nats[split]),
        sha256=best.sha256[split],
        models=scores,
        pairs=pairs(costs, split),
    )


def models(costs: Mapping[str, CharacterCosts], split: Scored) -> list[ModelScore]:
    """Return the score of each model with its 95 % interval, the best first; errors as in `compare`."""
    _check_text(costs, split)
    scores = [ModelScore(name=name, **interval(scored.nats[split])._asdict()) for name, scored in costs.items()]
    return sorted(scores, key=lambda score: score.bits_per_char)


def pairs(costs: Mapping[str, CharacterCosts], split: Scored) -> list[Pair]:
    """Return the paired difference of every two models, the better one as `a`; errors as in `compare`."""
    _check_text(costs, split)
    best_first = sorted(costs, key=lambda name: float(costs[name].nats[split].mean(dtype=float)))
    return [_pair(a, b, costs, split) for a, b in combinations(best_first, 2)]


def _pair(a: str, b: str, costs: Mapping[str, CharacterCosts], split: Scored) -> Pair:
    difference = paired(costs[a].nats[split], costs[b].nats[split])
    return Pair(a=a, b=b, is_real=difference.is_real, **difference._asdict())


def sentence(pair: Pair) -> str:
    """Say what a pair means.

    >>> pair = Pair(a="gpt", b="bigram", bits_per_char=-0.053, low=-0.105, high=-0.001, certainty=0.977, is_real=True)
    >>> sentence(pair)
    'gpt is better than bigram by 0.053 bits/char (0.001 to 0.105), certainty 97.7 %'
    >>> sentence(pair.model_copy(update={"low": -0.066, "high": -0.041, "certainty": 1.0}))
    'gpt is better than bigram by 0.053 bits/char (0.041 to 0.066), certain'
    >>> sentence(pair.model_copy(update={"low": -0.113, "high": 0.006, "certainty": 0.961, "is_real": False}))
    'no real difference between gpt and bigram: 0.053 (-0.006 to 0.113), certainty 96.1 %'
    """
    gap, low, high = (f"{0.0 - bits:.3f}" for bits in (pair.bits_per_char, pair.high, pair.low))
    certainty = "certain" if pair.certainty >= CERTAIN else f"certainty {pair.certainty:.1%}".replace("%", " %")
    if pair.is_real:
        return f"{pair.a} is better than {pair.b} by {gap} bits/char ({low} to {high}), {certainty}"
    return f"no real difference between {pair.a} and {pair.b}: {gap} ({low} to {high}), {certainty}"


def _check_text(costs: Mapping[str, CharacterCosts], split: Scored) -> None:
    texts: dict[str, tuple[str, int]] = {}
    for name, scored in costs.items():
        if split not in scored.nats:
            raise UserError(f"{name} was scored on {' and '.join(scored.nats)}, not on {split}: choose another --split")
        texts[name] = (scored.sha256[split], len(scored.nats[split]))
    first = next(iter(texts))
    for name, text in texts.items():
        if text != texts[first]:
            raise UserError(
                f"the {split} texts differ, {_named(first, texts)} and {_named(name, texts)}: some texts are easier "
                "than others, so bits per character of different ones say nothing about the models; evaluate both on "
                "the same text"
            )


def _named(name: str, texts: Mapping[str, tuple[str, int]]) -> str:
    sha256, characters = texts[name]
    return f"{name} on {sha256[:12]} ({characters:,} characters)"
