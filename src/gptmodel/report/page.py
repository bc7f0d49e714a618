"""The page for readers: every result in one HTML file that opens from disk, offline, and explains itself.

`render` puts the records into page_assets/: a template, one style sheet, plain JavaScript that draws the pictures.
Every figure comes from a record. Source of the idea of one file: Jupyter's and pytest-html's self-contained reports.
"""

import json
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gptmodel.report import verdict
from gptmodel.report.results import Everything

# In the order in which the browser reads them: what is used comes before what uses it.
SCRIPTS = ("base", "chart", "results", "table", "passage", "inside", "maps", "losses", "writing", "main")
LANGUAGES = {"fr": "French", "en": "English"}  # those that corpora are said to be in; any other is "language"
DIGITS = 5  # significant ones: enough for every figure that is shown, and a third of the bytes


def render(everything: Everything) -> str:
    """Return the whole page as one HTML document."""
    templates = Environment(
        loader=PackageLoader("gptmodel.report", "page_assets"), autoescape=True, undefined=StrictUndefined
    )
    corpus = everything.corpus
    return templates.get_template("page.html").render(
        corpus=corpus,
        language=LANGUAGES.get(corpus.language or "", "language"),
        headline=headline(everything),
        verdict=verdict.of_run(everything),
        style=_asset("page.css"),
        script=Markup("\n").join(_asset(f"{name}.js") for name in SCRIPTS),
        data=embedded(page_data(everything)),
    )


def page_data(everything: Everything) -> dict[str, Any]:
    """Return what the scripts draw: the records as they are, the best model first, and what is decided in Python."""
    records = everything.model_dump(mode="json")
    models = [records["models"][name] for name in everything.best_first]
    return {**records, "models": models, "main_split": everything.main_split}


def headline(everything: Everything) -> str:
    """Return the result in one sentence: the best model, the best baseline, and whether chance explains their gap."""
    split = everything.main_split
    name, model = next(iter(everything.best_first.items()))
    score, baseline = model.metrics.main, everything.baselines.best_on(split)
    text = "text it has never seen" if split == "test" else "the validation text, which also chose when to stop"
    verdict = "beyond chance" if everything.pair(name, baseline.name).is_real else "that chance alone could explain"
    return (
        f"The best model, {name}, needs {score.bits_per_char:.2f} bits for each character of {text} "
        f"(95 % interval: {score.bits_per_char_low:.2f} to {score.bits_per_char_high:.2f}); "
        f"the best baseline, {baseline.name}, which only counts, needs {baseline.bits_per_char:.2f}, "
        f"a difference {verdict}."
    )


def embedded(data: Any) -> Markup:
    r"""Return `data` as JSON that can stand inside a <script>: in JSON, < occurs inside strings only.

    >>> print(embedded({"text": "</script><!-- 0.1234567", "nats": [0.1234567, float("nan")]}))
    {"text":"\u003c/script>\u003c!-- 0.1234567","nats":[0.12346,null]}
    """
    text = json.dumps(_rounded(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _rounded(value: Any) -> Any:
    """Return `value` with every float rounded, None for NaN and infinities."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _asset(name: str) -> Markup:
    """Return the text of one file of page_assets/, which is ours and needs no escaping."""
    return Markup((resources.files("gptmodel.report") / "page_assets" / name).read_text(encoding="utf-8"))
