"""The page for readers: every result in one HTML file that opens from disk, offline, and explains itself.

`collect` gathers what the stages wrote; `render` puts it into page_assets/ (HTML, one style sheet, plain JavaScript).
Left out on purpose: computing. Every figure comes from a stage's file; the page only sorts, draws and words it.
Source of the idea of one file without requests: Jupyter's and pytest-html's self-contained reports.
"""

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from gptmodel.outputs import read_json
from gptmodel.report.tables import Result, comparison

# In the order in which the browser reads them: what is used comes before what uses it.
SCRIPTS = ("base", "chart", "results", "table", "passage", "inside", "maps", "losses", "writing", "main")
OPTIONAL = ("novelty", "sight")  # models/NAME/*.json that a model may lack
LANGUAGES = {"fr": "French", "en": "English"}  # those that corpora are said to be in; any other is "language"
DIGITS = 5  # significant ones: enough for every figure that is shown, and a third of the bytes
_ENTRY = re.compile(r"^## step (\d+): ([\d.]+) bits per character\n", re.MULTILINE)
_MADE = re.compile(r"\s*temperature ([\d.]+), seed (\d+)\n\n(?:> )?(?:\*\*(.*?)\*\*)?(.*)", re.DOTALL)


def collect(
    results: Mapping[str, Result],
    models: Path,
    corpus: Path,
    ladder: Path,
    pairs: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return all that the page shows, ready for `render`; the best model comes first.

    `models` is the folder of models/NAME, `corpus` is corpus.json, `ladder` is ladder.json, `pairs` are the paired
    comparisons {"a", "b", "bits_per_char" (a minus b), "low", "high", "certainty"}. novelty.json, sight.json,
    timeline.md and `ladder` may be missing: their place on the page then says so. `UserError` names a damaged file.
    """
    return {
        "corpus": read_json(corpus),
        "ladder": read_json(ladder) if ladder.exists() else None,
        "pairs": [dict(pair) for pair in pairs],
        "models": [_model(name, results[name], models / name) for name in comparison(results)["model"]],
    }


def _model(name: str, result: Result, folder: Path) -> dict[str, Any]:
    """Return one model's part of the page's data."""
    columns = ("step", "characters", "train_bits_per_char", "validation_bits_per_char")
    timeline = folder / "timeline.md"
    return {
        "name": name,
        "metrics": result.metrics,
        "training": result.training,
        "benchmark": result.benchmark,
        "breakdown": result.breakdown,
        "history": {column: result.history[column].tolist() for column in columns},
        "samples": [sample.as_dict() for sample in result.samples],
        "timeline": entries(timeline.read_text(encoding="utf-8")) if timeline.exists() else [],
        **{part: read_json(path) if (path := folder / f"{part}.json").exists() else None for part in OPTIONAL},
    }


def entries(markdown: str) -> list[dict[str, Any]]:
    r"""Return the entries of a timeline.md, as journal.py and samples.py write it: one per evaluation.

    >>> entries("## step 50: 2.454 bits per character\n\ntemperature 0.7, seed 1\n\n> **Il était** un\\\n> roi\n")
    [{'step': 50, 'bits_per_char': 2.454, 'temperature': 0.7, 'seed': 1, 'prompt': 'Il était', 'text': ' un\nroi'}]
    """
    parts = _ENTRY.split(markdown)[1:]
    found = []
    for step, bits, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if made := _MADE.match(body):
            temperature, seed, prompt, text = made.groups()
            found.append(
                {
                    "step": int(step),
                    "bits_per_char": float(bits),
                    "temperature": float(temperature),
                    "seed": int(seed),
                    "prompt": prompt or "",
                    "text": text.replace("\\\n> ", "\n").rstrip("\n"),
                }
            )
    return found


def headline(data: Mapping[str, Any]) -> str:
    """Return the result in one sentence: the best model beside the best counts, and whether chance explains it."""
    best = data["models"][0]
    split = "test" if "test" in best["metrics"] else "validation"
    score = best["metrics"][split]
    what = "text it has never seen" if split == "test" else "the validation text, which also chose when to stop"
    text = f"The best model, {best['name']}, needs {score['bits_per_char']:.2f} bits for each character of {what}"
    text += f" (95 % interval: {score['bits_per_char_low']:.2f} to {score['bits_per_char_high']:.2f})"
    rung = _best_rung(data["ladder"], split)
    if rung is None:
        return text + "."
    text += f"; the best counting method, {rung['name']}, needs {rung['bits_per_char']:.2f}"
    pair = next((p for p in data["pairs"] if {p["a"], p["b"]} == {best["name"], rung["name"]}), None)
    if pair is None:
        return text + "."
    settled = pair["low"] > 0 or pair["high"] < 0
    return text + (", a difference beyond chance." if settled else ", a difference that chance alone could explain.")


def _best_rung(ladder: Mapping[str, Any] | None, split: str) -> Mapping[str, Any] | None:
    """Return the rung that is best on validation, as scored on `split`."""
    rungs = ladder["splits"].get(split, []) if ladder else []
    return next((rung for rung in rungs if ladder and rung["name"] == ladder["best"]), None)


def render(data: Mapping[str, Any]) -> str:
    """Return the whole page as one HTML document; `data` is what `collect` returns."""
    corpus = data["corpus"]
    code = corpus["language"] or ""
    fields = {
        "title": html.escape(corpus["title"]),
        "author": html.escape(corpus["author"] or "an unnamed author"),
        "language": LANGUAGES.get(code, "language"),
        "code": html.escape(code),
        "headline": html.escape(headline(data)),
        "style": _asset("page.css"),
        "script": "\n".join(_asset(f"{name}.js") for name in SCRIPTS),
        "data": embedded(data),
    }
    # One pass, so that a text that holds {{data}} stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fields[match[1]], _asset("page.html"))


def embedded(data: Any) -> str:
    r"""Return `data` as JSON that can stand inside a <script>: in JSON, < occurs inside strings only.

    >>> print(embedded({"text": "</script><!-- 0.1234567", "nats": [0.1234567, float("nan")]}))
    {"text":"\u003c/script>\u003c!-- 0.1234567","nats":[0.12346,null]}
    """
    text = json.dumps(_rounded(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _rounded(value: Any) -> Any:
    """Return `value` with every float rounded, and null for what is not a number."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _asset(name: str) -> str:
    """Return the text of one file of page_assets/."""
    return (resources.files("gptmodel") / "page_assets" / name).read_text(encoding="utf-8")
