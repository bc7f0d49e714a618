import re
import shlex
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from gptmodel.export.model_card import Results, bundle_card, hf_card
from gptmodel.params import Engine, GPTModel
from gptmodel.results.corpus import OWN_TEXT
from gptmodel.text import catalog
from tests.support.cards import BIGRAM, CORPUS, meta, results


def metadata(card: str) -> ModelCardData:
    """Return what the hub reads at the head of a card."""
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return data


def test_the_hub_reads_the_metadata() -> None:
    read = metadata(hf_card(results(), "GPT2LMHeadModel"))
    assert (read.language, read.license, read.library_name) == ("fr", "other", "transformers")
    assert read.model_name == "petit"
    assert read.eval_results
    (chars, per_byte) = read.eval_results
    assert (chars.dataset_name, chars.dataset_split) == (CORPUS.title, "test")
    assert (chars.metric_type, chars.metric_value) == ("bits_per_char", 2.1234)
    assert (per_byte.metric_type, per_byte.metric_value) == ("bits_per_byte", 2.0111)
    assert metadata(bundle_card(results())).library_name == "onnx"


def test_every_figure_of_the_results_is_there() -> None:
    text = bundle_card(results())
    for figure in ("2.123", "2.046 to 2.234", "2.011", "2.102", "2.100", "4.502", "3.302", "6.502", "2.302"):
        assert re.search(rf"\| {figure} \| {figure} \|", text), figure
    for shown in ("4,096 parameters", "over words", "12,345", "678", "901", "321 tokens", "Seed 5", "step 60"):
        assert shown in text, shown
    for share in ("97.1%", "70.5%", "1.2%", "3.4%", "72.1%", "75.6%", "| 41 | 41 |"):
        assert share in text, share
    assert "last 77 tokens" in text
    for key in {*GPTModel.model_fields, *Engine.model_fields}:
        assert f"| `{key}` |" in text, key
    assert '| `schedule` | `"cosine"` |' in text
    assert "| `bias` | `true` |" in text


def test_tables_are_whole_whatever_the_text_holds() -> None:
    text = bundle_card(results(corpus=CORPUS.model_copy(update={"author": "A | B"})))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(rows) > 40
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    assert "`un | deux ⏎  trois `" in text


def test_your_own_text_without_a_test_split() -> None:
    unknown = {"licence": OWN_TEXT, "author": None, "year": None, "language": None, "typography": "other"}
    text = bundle_card(results(corpus=CORPUS.model_copy(update=unknown), has_test=False))
    read = metadata(text)
    assert (read.license, read.language) == ("unknown", None)
    assert read.eval_results
    assert read.eval_results[0].dataset_split == "validation"
    assert "for the validation text" in text
    assert not re.search(r"\bNone\b|\bnull\b", text)


def test_own_text_has_the_licence_that_the_catalog_gives_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Une phrase.\n" * 400, encoding="utf-8")
    fetched = catalog.fetch(catalog.resolve(str(tmp_path / "mine.txt"), {}), tmp_path / "raw")
    assert fetched.licence == OWN_TEXT


@pytest.mark.parametrize("prompt", ['Il "dit" : $HOME `ls` \\ ', "l'île\n— Où ?"])
def test_the_commands_take_any_prompt(prompt: str) -> None:
    bundled = bundle_card(results(prompt=prompt))
    command = bundled[bundled.index("    gptmodel generate") : bundled.index("    gptmodel info")]
    assert shlex.split(command)[3] == prompt
    code = hf_card(results(prompt=prompt), "GPT2LMHeadModel").split("```")[1]
    asked: list[str] = []
    line = next(line for line in code.splitlines() if line.startswith("inputs = "))
    exec(line, {"tokenizer": lambda texts, **_: asked.extend(texts)})
    assert asked == [prompt.rstrip(" ")]  # at word level a space belongs to the word after it
    assert "`GPT2LMHeadModel`" in hf_card(results(), "GPT2LMHeadModel")


def test_warnings_stand_word_for_word() -> None:
    said = "A sample copies 99 characters verbatim."
    assert f"- {said}\n" in hf_card(results(warnings=(said,)), "X")
    assert "- No warning: " in hf_card(results(), "X")


def test_a_bigram_sees_one_token() -> None:
    assert "last 1 token only" in bundle_card(results(meta(BIGRAM)))


def test_the_results_are_read_from_the_folders_of_the_stages(tmp_path: Path) -> None:
    given = results()
    given.metrics.write(tmp_path / "evaluation" / "metrics.json")
    for name in ("breakdown", "novelty"):
        getattr(given, name).write(tmp_path / "evaluation" / "details" / f"{name}.json")
    given.baselines.write(tmp_path / "baselines" / "baselines.json")
    assert Results.read(given.meta, given.corpus, tmp_path / "evaluation", tmp_path / "baselines") == given
