"""The model card: README.md of a bundle and of hf/, with the metadata that the Hugging Face Hub reads at its head.

It says what the model is, on what text it was trained and how, what it costs on text it never saw beside plain counts,
how much of what it writes is copied, and what it is not for. Every figure comes from a file of the pipeline.

Left out on purpose: how close each ONNX graph is to torch (bundle.json has it), and a licence for the weights, which
is for whoever publishes them to choose.
Sources: Mitchell et al. 2019, "Model Cards for Model Reporting" (arXiv:1810.03993);
https://huggingface.co/docs/hub/model-cards and `huggingface_hub.ModelCardData` for the metadata.
"""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from gptmodel import files
from gptmodel.model.checkpoint import Meta
from gptmodel.outputs import read_json
from gptmodel.params import Training, Model

CARD = "README.md"
LEVELS = {"char": "characters", "word": "words", "bpe": "byte pairs"}
OWN_TEXT = "your own text"  # the licence that `catalog` gives a text of the user
# The rows of the novelty table: what stands in novelty.json and what it means.
NOVELTY = {
    "words_known": "words that the training text or the lexicon has",
    "distinct_words": "different words, of all",
    "repetition": "4-word sequences that stood in the same sample before",
    "copied_8_word_sequences": "8-word sequences that the training text has",
}


@dataclass(frozen=True)
class Results:
    """What the stages found out about one model, as their JSON files hold it."""

    metrics: Mapping[str, Any]
    training: Mapping[str, Any]
    novelty: Mapping[str, Any]
    breakdown: Mapping[str, Any]
    ladder: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, ladder: Path) -> "Results":
        """Read those of models/NAME and of data/ladder; `UserError` names the file that is missing or damaged."""
        paths = [folder / f"{name}.json" for name in ("metrics", "training", "novelty", "breakdown")]
        return cls(*(read_json(path) for path in [*paths, ladder / "ladder.json"]))

    @property
    def split(self) -> str:
        """The split that the main figures are of: test, or validation where there is no test text."""
        return "test" if "test" in self.metrics else "validation"

    @property
    def best_count(self) -> Mapping[str, Any]:
        """The best of the counts, on that split."""
        best: Mapping[str, Any] = next(row for row in self.ladder["splits"][self.split] if row["name"] == self.best)
        return best

    @property
    def best(self) -> str:
        """The name of the best of the counts."""
        return str(self.ladder["best"])


def write(folder: Path, ladder: Path, meta: Meta, settings: Variant, architecture: str | None) -> None:
    """Write README.md into bundle/ of models/NAME and, where transformers has the `architecture`, into hf/.

    It is not among the files that bundle.json holds hashes of: whoever publishes a model may change it.
    """
    results = Results.read(folder, ladder)
    files.write_text(folder / "bundle" / CARD, card(meta, settings, results, "bundle", ""))
    if architecture:
        files.write_text(folder / "hf" / CARD, card(meta, settings, results, "hf", architecture))


def card(meta: Meta, settings: Variant, results: Results, folder: Literal["bundle", "hf"], architecture: str) -> str:
    """Return README.md for the `folder`; `settings` is how it was trained, `architecture` is that of `hf.home`."""
    parts = [
        _front_matter(meta, results, folder),
        f"# {meta.variant}: {meta.corpus['title']}\n",
        _summary(meta, results),
        _running(results.novelty["per_sample"][0]["prompt"], folder, architecture),
        _text(meta),
        _training(meta, settings, results),
        _cost(results),
        _novelty(results.novelty),
        _limits(meta, results, folder),
        _origin(meta),
    ]
    return "\n".join(parts)


def _front_matter(meta: Meta, results: Results, folder: str) -> str:
    """Return the YAML head; every value is written as JSON, which YAML contains."""
    scored = results.metrics[results.split]
    metrics = [
        {"type": name, "value": round(scored[name], 4), "name": title}
        for name, title in (("bits_per_char", "bits per character"), ("bits_per_byte", "bits per byte"))
    ]
    dataset = {"name": meta.corpus["title"], "type": meta.corpus["name"], "split": results.split}
    result = {"task": {"type": "text-generation"}, "dataset": dataset, "metrics": metrics}
    head: dict[str, Any] = {"language": meta.language} if meta.language else {}
    head |= {
        "license": "unknown" if meta.corpus["licence"] == OWN_TEXT else "other",
        "library_name": {"bundle": "onnx", "hf": "transformers"}[folder],
        "pipeline_tag": "text-generation",
        "tags": ["gptmodel", meta.level, meta.network.network],
        "model-index": [{"name": meta.variant, "results": [result]}],
    }
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items())
    return "\n".join(["---", *lines, "---", ""])


def _summary(meta: Meta, results: Results) -> str:
    author = f" by {meta.corpus['author']}" if meta.corpus["author"] else ""
    scored = results.metrics[results.split]
    return (
        f"A small language model ({results.metrics['parameters']:,} parameters) over {LEVELS[meta.level]}, trained "
        f"from scratch on one text: *{meta.corpus['title']}*{author}. It continues text in the manner of that text and "
        f"knows nothing else.\n\nIt pays **{scored['bits_per_char']:.3f} bits per character** for the "
        f"{results.split} text, which it never saw (95 % interval {_interval(scored)}). Counting alone "
        f"({results.best}) pays {results.best_count['bits_per_char']:.3f}.\n"
    )


def _running(prompt: str, folder: str, architecture: str) -> str:
    if folder == "hf":
        return f"""## Run it

With [transformers](https://huggingface.co/docs/transformers), where it is a `{architecture}`; no code of its own:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")  # this folder
tokenizer = AutoTokenizer.from_pretrained(".")
inputs = tokenizer({json.dumps(prompt, ensure_ascii=False)}, return_tensors="pt")
outputs = model.generate(**inputs, max_new_tokens=100, do_sample=True, temperature=0.8)
print(tokenizer.decode(outputs[0]))
```
"""
    return f"""## Run it

With ONNX Runtime, without PyTorch (`pip install 'gptmodel[cpu]'`), from the folder above this one:

    gptmodel generate bundle {shlex.quote(prompt)} --temperature 0.8 --seed 1
    gptmodel info bundle

`bundle.json` describes the ONNX files and how close each is to the trained network. `model.onnx` has standard operators
only, so that any ONNX runtime takes it: onnxruntime-web for one, as `examples/web/generate.mjs` of gptmodel shows.
"""


def _text(meta: Meta) -> str:
    corpus = meta.corpus
    shown = {key: corpus[key] for key in ("title", "author", "year", "language", "licence", "source")}
    rows = [(key, value) for key, value in shown.items() if value is not None]
    rows += [(f"{name} text", f"{of['characters']:,} characters") for name, of in corpus["splits"].items()]
    rows += [(f"`{file['name']}`", f"sha256 `{file['sha256']}`") for file in corpus["files"]]
    return f"## The text\n\n{_table(('', ''), rows)}\nThe splits are cut by position, in this order.\n"


def _training(meta: Meta, settings: Variant, results: Results) -> str:
    network = meta.network.model_dump(mode="json")
    described = type(meta.network).model_fields
    chosen = network | {key: getattr(settings, key) for key in Training.model_fields}
    meanings = {key: of.description or "kind" for key, of in (described | Training.model_fields).items()}
    rows = [(f"`{key}`", f"`{json.dumps(value)}`", meanings[key]) for key, value in chosen.items()]
    ran = results.training
    return (
        f"## Network and training\n\n{_table(('', 'value', 'meaning'), rows)}\n"
        f"Vocabulary: {meta.vocab_size:,} tokens. Seed {meta.seed}. The weights are those of step {meta.best_step:,}, "
        f"the best on the validation text. Training took {ran['seconds']:,.0f} s on {ran['device']} "
        f"({ran['precision']}, {ran['execution']}), {ran['tokens_per_second']:,} tokens per second.\n"
    )


def _cost(results: Results) -> str:
    scored = {split: results.metrics[split] for split in ("validation", "test") if split in results.metrics}
    names = {
        "bits_per_char": "bits per character",
        "sliding_bits_per_char": "with a sliding window",
        "dynamic_bits_per_char": "learning while it reads",
        "bits_per_byte": "bits per byte",
        "unigram_bits_per_char": "counts of its tokens, bits per character",
        "bigram_bits_per_char": "counts of pairs of its tokens (Kneser-Ney)",
    }
    rows: list[Sequence[object]] = [
        (title, *(f"{of[name]:.3f}" for of in scored.values())) for name, title in names.items()
    ]
    rows.insert(1, ("its 95 % interval", *map(_interval, scored.values())))
    for step in (step["name"] for step in results.ladder["splits"][results.split]):
        if step in ("uniform", results.best):
            costs = [{row["name"]: row for row in results.ladder["splits"][split]}[step] for split in scored]
            rows.append((f"counts of characters: {step}", *(f"{cost['bits_per_char']:.3f}" for cost in costs)))
    classes = [
        (one["class"], f"{one['share']:.1%}", f"{one['bits_per_char']:.2f}", f"{one['share_of_bits']:.1%}")
        for one in results.breakdown["by_class"]
    ]
    return (
        f"## What unseen text costs\n\n{_table(('', *scored), rows)}\n"
        "Every character is charged, unknown ones and words too, so that the figures compare across vocabularies. The "
        "interval is for other text of this kind; another seed of the training moves the model as well.\n\n"
        f"{_table((results.breakdown['split'], 'characters', 'bits per character', 'of all bits'), classes)}"
    )


def _interval(scored: Mapping[str, Any]) -> str:
    return f"{scored['bits_per_char_low']:.3f} to {scored['bits_per_char_high']:.3f}"


def _novelty(novelty: Mapping[str, Any]) -> str:
    own, beside = novelty["samples"], novelty["held_out"]
    rows = [(title, f"{own[name]:.1%}", f"{beside[name]:.1%}") for name, title in NOVELTY.items()]
    longest = "longest copy from the training text, characters"
    rows.append((longest, f"{own['longest_copy_characters']}", f"{beside['longest_copy_characters']}"))
    warnings = novelty["warnings"] or ["No warning: neither copies nor repetition are far above held-out text's."]
    return (
        f"## How new is what it writes?\n\nIn {len(novelty['per_sample'])} samples, beside as much text of the author "
        f"that it never saw:\n\n{_table(('', 'samples', 'held-out text'), rows)}\n"
        f"The longest copy: {_code(own['longest_copy_text'])}\n\n" + "".join(f"- {line}\n" for line in warnings)
    )


def _limits(meta: Meta, results: Results, folder: str) -> str:
    context = 1 if meta.network.network == "bigram" else meta.network.context
    train = meta.corpus["splits"]["train"]["characters"]
    lines = [
        f"It read {train:,} characters of one text. What it writes looks like that text and means nothing: there are "
        "no facts, instructions or opinions in it.",
        "It repeats what the text says about people, as the text's time said it.",
        f"It sees the last {context:,} token{'s' * (context > 1)} only.",
        "It can give back passages of its training text word for word; the table above says how much it did. Mind "
        "the text's licence.",
    ]
    if folder == "hf":
        lines.append(
            "There are no special tokens: generation stops at a length, batches need a padding token of your choice. "
            "`gptmodel generate` replaces characters that the model does not know; here they are unknown tokens."
        )
    return "## Limits\n\n" + "".join(f"- {line}\n" for line in lines)


def _origin(meta: Meta) -> str:
    return (
        f"## Origin\n\ngptmodel {version('gptmodel')}, training `{meta.fingerprint}`, weights sha256 "
        f"`{meta.weights_sha256}`. The same parameters, text, code and machine give the same weights.\n"
    )


def _code(text: str) -> str:
    """Return `text` as code in one line.

    >>> _code("Ah !\\nLe roi")
    '`Ah ! ⏎ Le roi`'
    """
    return f"`{text.replace('`', ' ').replace(chr(10), ' ⏎ ')}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table.

    >>> print(_table(("", "test"), [("a | b", 1.5)]), end="")
    |  | test |
    |---|---|
    | a \\| b | 1.5 |
    """
    cells = [head, ["---"] * len(head), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    lines = ["|" + "|".join(row) + "|" if row[0] == "---" else f"| {' | '.join(row)} |" for row in cells]
    return "".join(f"{line}\n" for line in lines)
