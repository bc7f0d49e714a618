"""The model card: README.md of a bundle and of hf/, with the metadata that the Hugging Face Hub reads at its head.

It says what the model is, on what text it was trained and how, how well it predicts text it never saw beside baselines
that count, how much of what it writes is copied, and what it is not for. Every figure comes from a stage's record; the
sentences are in templates/. Nothing is of a clock or a machine, so that the same weights give the same card.

Left out on purpose: a licence for the weights, which is for whoever publishes them to choose.
Sources: Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993);
https://huggingface.co/docs/hub/model-cards.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from gptmodel.params import Training
from gptmodel.results.corpus import OWN_TEXT, CleanCorpus
from gptmodel.results.evaluation import Baselines, Breakdown, Metrics, Novelty, SplitScore
from gptmodel.results.training import Meta
from gptmodel.strict import Strict

CARD = "README.md"
LEVELS = {"char": "characters", "word": "words", "bpe": "byte pairs"}
# The rows of two tables: a field of the record and what it means.
SCORES = {
    "sliding_bits_per_char": "with a sliding window",
    "dynamic_bits_per_char": "learning while it reads",
    "bits_per_byte": "bits per byte",
    "unigram_bits_per_char": "counts of its tokens, bits per character",
    "bigram_bits_per_char": "counts of pairs of its tokens (Kneser-Ney)",
}
NOVELTY = {
    "words_known": "words that the training text or the lexicon has",
    "distinct_words": "different words, of all",
    "repetition": "4-word sequences that stood in the same sample before",
    "copied_8_word_sequences": "8-word sequences that the training text has",
}

Row = Sequence[str]


@dataclass(frozen=True)
class Results:
    """What the stages found out about one model, and the title page of its text."""

    meta: Meta
    corpus: CleanCorpus
    metrics: Metrics
    breakdown: Breakdown
    novelty: Novelty
    baselines: Baselines

    @property
    def example_prompt(self) -> str:
        """The first prompt of the samples."""
        return self.novelty.per_sample[0].prompt

    @classmethod
    def read(cls, meta: Meta, corpus: CleanCorpus, evaluation: Path, baselines: Path) -> "Results":
        """Read models/NAME/evaluation and data/baselines; `UserError` names the file that is missing or damaged."""
        return cls(
            meta,
            corpus,
            Metrics.read(evaluation / "metrics.json"),
            Breakdown.read(evaluation / "details" / "breakdown.json"),
            Novelty.read(evaluation / "details" / "novelty.json"),
            Baselines.read(baselines / "baselines.json"),
        )


def bundle_card(results: Results) -> str:
    """Return README.md of a bundle."""
    return _card("bundle.md.jinja", results, library="onnx")


def hf_card(results: Results, architecture: str) -> str:
    """Return README.md of a folder that transformers loads as this `architecture`."""
    return _card("hf.md.jinja", results, library="transformers", architecture=architecture)


def no_architecture_card(results: Results, obstacles: Sequence[str]) -> str:
    """Return README.md of the folder of a network that transformers does not have; `obstacles` says why."""
    return _templates().get_template("no_architecture.md.jinja").render(meta=results.meta, obstacles=obstacles)


def _card(template: str, results: Results, library: str, architecture: str = "") -> str:
    meta, corpus, metrics = results.meta, results.corpus, results.metrics
    prompt = results.example_prompt
    values = {
        "front_matter": _front_matter(results, library),
        "architecture": architecture,
        "version": version("gptmodel"),
        "level": LEVELS[meta.level],
        "context": 1 if meta.model.network == "bigram" else meta.model.context,
        "split": metrics.main_split,
        "best": results.baselines.best_on(metrics.main_split),
        "prompt": prompt,
        "opening": prompt if meta.level == "char" else prompt.rstrip(" "),  # a space belongs to the next word
        "text_rows": list(_text_rows(corpus)),
        "setting_rows": [*_setting_rows(meta.model), *_setting_rows(meta.engine)],
        "score_rows": list(_score_rows(metrics, results.baselines)),
        "class_rows": list(_class_rows(results.breakdown)),
        "novelty_rows": list(_novelty_rows(results.novelty)),
    }
    return _templates().get_template(template).render(vars(results), **values)


def _front_matter(results: Results, library: str) -> str:
    meta, corpus, metrics = results.meta, results.corpus, results.metrics
    figures = [
        EvalResult(
            task_type="text-generation",
            dataset_type=corpus.name,
            dataset_name=corpus.title,
            dataset_split=metrics.main_split,
            metric_type=name,
            metric_name=title,
            metric_value=round(getattr(metrics.main, name), 4),
        )
        for name, title in (("bits_per_char", "bits per character"), ("bits_per_byte", "bits per byte"))
    ]
    data = ModelCardData(
        language=corpus.language,
        license="unknown" if corpus.licence == OWN_TEXT else "other",
        library_name=library,
        pipeline_tag="text-generation",
        tags=["gptmodel", meta.level, meta.model.network],
        model_name=meta.name,
        eval_results=figures,
    )
    return str(data.to_yaml())


def _text_rows(corpus: CleanCorpus) -> Iterator[Row]:
    for field in ("title", "author", "year", "language", "licence", "source"):
        if getattr(corpus, field) is not None:
            yield field, str(getattr(corpus, field))
    for name, split in corpus.splits.items():
        yield f"{name} text", f"{split.characters:,} characters"
    for file in corpus.files:
        yield f"`{file.name}`", f"sha256 `{file.sha256}`"


def _setting_rows(section: Strict) -> Iterator[Row]:
    fields = type(section).model_fields
    values = section.model_dump(mode="json")
    for name in sorted(fields, key=lambda name: name in Training.model_fields):  # the network first
        yield f"`{name}`", f"`{json.dumps(values[name])}`", fields[name].description or "kind"


def _score_rows(metrics: Metrics, baselines: Baselines) -> Iterator[Row]:
    scores = metrics.splits.values()
    yield "bits per character", *(f"{score.bits_per_char:.3f}" for score in scores)
    yield "its 95 % interval", *map(_interval, scores)
    for field, title in SCORES.items():
        yield title, *(f"{getattr(score, field):.3f}" for score in scores)
    for baseline in baselines.splits[metrics.main_split]:
        if baseline.name in ("uniform", baselines.best):
            on_splits = [baselines.named(baseline.name, split) for split in metrics.splits]
            yield f"baseline: {baseline.name}", *(f"{score.bits_per_char:.3f}" for score in on_splits)


def _class_rows(breakdown: Breakdown) -> Iterator[Row]:
    for share in breakdown.by_class:
        yield share.name, f"{share.share:.1%}", f"{share.bits_per_char:.2f}", f"{share.share_of_bits:.1%}"


def _novelty_rows(novelty: Novelty) -> Iterator[Row]:
    texts = (novelty.samples, novelty.held_out)
    for field, title in NOVELTY.items():
        yield title, *(f"{getattr(figures, field):.1%}" for figures in texts)
    longest = "longest copy from the training text, characters"
    yield longest, *(str(figures.longest_copy_characters) for figures in texts)


def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gptmodel.export"),
        autoescape=False,  # Markdown; the table cells are escaped by `cell`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "cell": _cell,
        "code": _code,
        "interval": _interval,
        "json": lambda text: json.dumps(text, ensure_ascii=False),
        "shell": shlex.quote,
    }
    return environment


def _interval(score: SplitScore) -> str:
    return f"{score.bits_per_char_low:.3f} to {score.bits_per_char_high:.3f}"


def _cell(text: str) -> str:
    """Return `text` as it may stand in a table.

    >>> _cell("a | b")
    'a \\\\| b'
    """
    return " ".join(text.replace("|", "\\|").split("\n"))


def _code(text: str) -> str:
    """Return `text` as code in one line.

    >>> _code("Ah !\\nLe roi")
    '`Ah ! ⏎ Le roi`'
    """
    return f"`{text.replace('`', ' ').replace(chr(10), ' ⏎ ')}`"
