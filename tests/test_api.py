"""The Python API: what `gptmodel.load` gives is what the rest of the library computes."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gptmodel
from gptmodel.api import Model
from gptmodel.data import fitting
from gptmodel.data.tokenizer import naming_nats
from gptmodel.decoding.generation import complete
from gptmodel.decoding.sampling import InvalidSetting, Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.model.loss import token_nats
from gptmodel.runtime.bundle import INFO
from tests.support.bundles import TEXT, chain, char_tokenizer, random_network, write
from tests.support.closure import ROOT

LEVELS = {"char": char_tokenizer(), "word": fitting.fit_word(TEXT * 3, 700, 1), "bpe": fitting.fit_bpe(TEXT * 3, 400)}
FOREIGN = TEXT + "☃ Ça va ? ☃\n" + TEXT[:30]  # characters that no level has seen; longer than many contexts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for level, words in LEVELS.items():
        write(root / level / "bundle", random_network("modern", words), words, level=level)
    write(root / "bigram" / "bundle", random_network("bigram", LEVELS["char"]), LEVELS["char"])
    return root


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    return gptmodel.load(root / "char", "cpu", graph="fp32")


def test_importing_the_library_imports_nothing_heavy() -> None:
    code = "import sys, gptmodel; print(sorted({'numpy', 'pydantic', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_running_a_bundle_imports_no_torch(root: Path) -> None:
    code = (
        "import sys; from gptmodel import load, Model, UserError\n"
        "model = load(sys.argv[1], 'cpu'); model.generate('l', max_new_tokens=3); model.score('l'); model.next('l')\n"
        "print(sorted({'torch', 'onnx', 'pandas', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root / "char")], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        gptmodel.lod  # noqa: B018


def test_a_bundle_or_the_folder_of_its_model_can_be_named(root: Path, model: Model) -> None:
    assert gptmodel.load(str(root / "char" / "bundle"), "cpu").info == model.info
    assert model.info.model == "essai"
    assert repr(model) == "<Model essai: fp32 on cpu>"


def test_a_damaged_folder_is_a_user_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(gptmodel.UserError, match="is not a folder"):
        gptmodel.load(tmp_path / "nothing")
    with pytest.raises(gptmodel.UserError, match="is no bundle"):
        gptmodel.load(tmp_path)
    (tmp_path / INFO).write_text("{")
    with pytest.raises(gptmodel.UserError, match=r"bundle\.json is damaged"):
        gptmodel.load(tmp_path)


def test_generate_gives_one_text_or_a_list_of_as_many_as_are_asked_for(model: Model) -> None:
    settings = Settings(30, Sampling(0.9, 9, 0.8, 1.2), 5, ("e",))
    options: dict[str, Any] = {
        "max_new_tokens": 30,
        "temperature": 0.9,
        "top_k": 9,
        "top_p": 0.8,
        "repetition_penalty": 1.2,
    }
    expected = [done.text for done in complete(model.bundle.decoder, model.bundle.tokenizer, ["l'"], settings, 3)]
    assert model.generate("l'", **options, seed=5, stop="e", num_samples=3) == expected
    assert model.generate("l'", **options, seed=5, stop=["e"], num_samples=1) == expected[:1]
    assert model.generate("l'", **options, seed=5, stop=["e"]) == expected[0]
    assert "".join(model.stream("l'", **options, seed=5, stop="e")) == expected[0]
    assert len(model.generate("l'")) == 200  # one character per token
    assert len({model.generate("l'", max_new_tokens=40) for _ in range(3)}) == 3  # another seed each time


@pytest.mark.parametrize(
    ("options", "field"),
    [({"top_k": -1}, "top_k"), ({"max_new_tokens": 0}, "max_new_tokens"), ({"num_samples": 0}, "num_samples")],
)
def test_settings_that_make_no_sense_are_named(model: Model, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        model.generate("l'", **options)
    assert error.value.field == field
    assert isinstance(error.value, gptmodel.UserError)


@pytest.mark.parametrize("graph", ["fp32", "portable"])
@pytest.mark.parametrize("name", ["char", "word", "bpe", "bigram"])
def test_a_score_is_that_of_the_evaluation(root: Path, name: str, graph: str) -> None:
    model = gptmodel.load(root / name, "cpu", graph="portable" if name == "bigram" else graph)
    words = model.bundle.tokenizer
    network = random_network("bigram" if name == "bigram" else "modern", words)
    for text in (FOREIGN, TEXT[:1], TEXT[:13], TEXT[:14]):
        ids = words.encode(text)
        nats = token_nats(network, ids, torch.device("cpu")) + naming_nats(ids, words.unknown_id)
        score = model.score(text)
        assert score.bits_per_char == pytest.approx(nats.sum() / math.log(2) / len(text), abs=1e-4)
        assert np.allclose([token.nats for token in score.tokens], nats, atol=1e-4)
        assert score.nats == pytest.approx(sum(token.nats for token in score.tokens))
        assert score.characters == len(text)


@pytest.mark.parametrize("name", ["char", "word", "bpe"])
def test_the_tokens_of_a_score_lie_over_the_whole_text(root: Path, name: str) -> None:
    tokens = gptmodel.load(root / name, "cpu").score(FOREIGN).tokens
    assert all(token.text == FOREIGN[token.start : token.end] != "" for token in tokens)
    covered = np.zeros(len(FOREIGN), dtype=int)
    for token in tokens:
        covered[token.start : token.end] += 1
    assert covered.min() == 1
    assert all(covered[place] == 1 or FOREIGN[place] in "☃Ç" for place in range(len(FOREIGN)))


def test_nothing_cannot_be_scored(model: Model) -> None:
    with pytest.raises(gptmodel.UserError, match="the text to score is empty"):
        model.score("")


def test_the_next_tokens_come_as_often_as_they_are_probable(model: Model) -> None:
    likeliest = model.next("l'", 4)
    assert [candidate.probability for candidate in likeliest] == sorted(
        (c.probability for c in likeliest), reverse=True
    )
    drawn = model.generate("l'", max_new_tokens=1, temperature=1, top_p=1, seed=1, num_samples=2000)
    for candidate in likeliest:
        assert drawn.count(candidate.text) / 2000 == pytest.approx(candidate.probability, abs=0.05)
    everything = model.next("l'", 10**6)
    assert sum(candidate.probability for candidate in everything) == pytest.approx(1)
    assert len(everything) == model.info.vocab_size - 1  # the unknown token never comes
    with pytest.raises(InvalidSetting, match="k must be 1 or above, not 0"):
        model.next("l'", 0)


def test_the_space_that_a_prompt_ends_with_belongs_to_the_next_token(tmp_path: Path) -> None:
    words = LEVELS["bpe"]
    model = gptmodel.load(write(tmp_path / "bundle", chain(words, "Le vieil homme"), words, level="bpe"), "cpu")
    assert model.next("Le", 1)[0].text == " vieil"
    assert model.next("Le ", 1)[0].text == "vieil"
    assert model.next("Le ", 1)[0].probability == pytest.approx(1)


def test_notes_name_what_is_left_out(model: Model) -> None:
    assert model.notes(["l'☃"]) == ["left out of the prompts, as the model has never seen them: '☃'"]


def test_the_example_of_the_document_runs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    example = document.split("```python\n")[1].split("```")[0]
    values: dict[str, Any] = {}
    exec(example.replace("models/gpt-char/bundle", str(root / "char")), values)
    assert (len(values["three"]), len(values["text"])) == (3, 60)
    streamed = values["model"].generate("Il était ", max_new_tokens=60, seed=1)
    assert capsys.readouterr().out.startswith(streamed)
    assert values["score"].nats == pytest.approx(sum(token.nats for token in values["score"].tokens))
