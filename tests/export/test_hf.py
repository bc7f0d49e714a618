import errno
import json
import logging
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Never

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptmodel import files
from gptmodel.arrays import Ints
from gptmodel.data import fitting
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.engine import generate
from gptmodel.decoding.prompts import known_text
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.export import hf, model_card
from gptmodel.model import gpt, networks
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.params import GPTModel, GPTNetwork
from tests.data.test_tokenizer import BOOK, TOKENIZERS, laws, texts
from tests.support.bundles import char_tokenizer, random_network
from tests.support.cards import TRAINING, meta, results
from tests.support.networks import CONFIGS, CONTEXT, GPT_KINDS

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")

WORDS = char_tokenizer()
ARCHITECTURES = {
    "bigram": None,
    "classic": "GPT2LMHeadModel",
    "classic-relu-untied": "GPT2LMHeadModel",
    "modern": "Qwen3ForCausalLM",
    "modern-plain-tied": "LlamaForCausalLM",
}
TRICKY = [
    "« L'été,  dit-il ; qu'as-tu donc ? »\n\n— Rien ! J’ai dit : « n’y va pas »…\n",
    "Aujourd'hui , jusqu'à  l'aube .\r\n\tElle do n't , il 's là ; a-t-il  ri ?   \n\n\n",
    "\u00a0» cœur, Noël, e\u0301te\u0301, ﬁn, 14 h 30, 漢字 👩\u200d👧 <unk> <s> </s> [PAD] <|endoftext|> ##a ⁀a Ġ ",
    " ",
    "",
]


@pytest.fixture(autouse=True)
def no_internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    asked = []

    def refuse(*address: object, **_: object) -> Never:
        asked.append(address)
        raise OSError(errno.ENETUNREACH, "no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not asked


def write(folder: Path, network: networks.LanguageModel, tokenizer: Tokenizer) -> None:
    hf.write_folder(folder, network, tokenizer, results())


def load(folder: Path) -> Any:
    """Return the model as anyone would load it, after checking that the file holds just what the model has."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return model


def assert_same_logits(network: networks.LanguageModel, model: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    for rows, length in ((3, 1), (2, CONTEXT - 1), (2, CONTEXT)):
        ids = torch.randint(network.vocab_size, (rows, length), generator=generator)
        with torch.no_grad():
            ours, theirs = network(ids)[0], model(ids).logits
        assert ours.std() > 0.5
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_transformers_computes_our_logits_in_training_mode_too(kind: str, tmp_path: Path) -> None:
    network = random_network(kind, WORDS)
    write(tmp_path / "hf", network, WORDS)
    model = load(tmp_path / "hf")
    assert type(model).__name__ == hf.architecture(network) == ARCHITECTURES[kind]
    assert (model.dtype, model.config.max_position_embeddings) == (torch.float32, CONTEXT)
    for config in (model.config, model.generation_config):
        assert {config.bos_token_id, config.eos_token_id} == {None}
    assert_same_logits(network, model)
    assert_same_logits(network, model.train())  # no dropout


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_tying_follows_the_network(kind: str, tmp_path: Path) -> None:
    config = CONFIGS[kind]
    assert isinstance(config, GPTNetwork)
    config = config.model_copy(update={"tie_embeddings": not config.tie_embeddings})
    torch.manual_seed(3)
    network = networks.build(config, WORDS.vocab_size).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    write(tmp_path / "hf", network, WORDS)
    model = load(tmp_path / "hf")
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == config.tie_embeddings
    assert_same_logits(network, model)


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_constants_of_our_layers_are_written_not_assumed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (gpt, hf):
        for name, value in {"ROPE_BASE": 50.0, "RMS_NORM_EPS": 0.2, "LAYER_NORM_EPS": 0.2}.items():
            monkeypatch.setattr(module, name, value)
    network = random_network(kind, WORDS)
    write(tmp_path / "hf", network, WORDS)
    assert_same_logits(network, load(tmp_path / "hf"))


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_greedy_generation_is_ours_and_never_the_unknown_token(kind: str, tmp_path: Path) -> None:
    network = random_network(kind, WORDS)
    write(tmp_path / "hf", network, WORDS)
    prompts = [[i] for i in range(WORDS.vocab_size)]

    def ours(banned: Sequence[int]) -> Ints:
        rngs = [sample_rng(0, row) for row in range(len(prompts))]
        tokens = generate(TorchDecoder(network), prompts, CONTEXT - 1, Sampling(0.0), rngs, banned)
        return np.stack(list(tokens), axis=1)

    ids = torch.tensor(prompts)
    model, whole = load(tmp_path / "hf"), torch.ones_like(ids)
    theirs = model.generate(ids, attention_mask=whole, max_new_tokens=CONTEXT - 1, do_sample=False)
    assert WORDS.unknown_id is not None
    np.testing.assert_array_equal(theirs[:, 1:].numpy(), ours([WORDS.unknown_id]))
    assert (ours([]) == WORDS.unknown_id).any()


def loaded(folder: Path, ours: Tokenizer) -> Any:
    """Return the tokenizer of a network with `ours` as anyone would load it."""
    write(folder, random_network("modern", ours), ours)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert (len(theirs), theirs.model_max_length) == (ours.vocab_size, CONTEXT)
    assert theirs.all_special_tokens == [theirs.pad_token]
    return theirs


@pytest.mark.parametrize("level", TOKENIZERS)
def test_the_tokenizer_gives_our_ids_and_our_text(level: str, tmp_path: Path) -> None:
    ours = TOKENIZERS[level]
    theirs = loaded(tmp_path / "hf", ours)

    def same(text: str, ids: list[int]) -> None:
        if level != "char":
            assert theirs.encode(text) == ours.encode(text).tolist()
        for some in (ids, theirs.encode(text)):
            assert theirs.decode(some) == ours.decode(some)
            shown = [token for token in some if token != theirs.pad_token_id]
            assert theirs.decode(some, skip_special_tokens=True) == ours.decode(shown)

    for text in (BOOK, *TRICKY):
        same(text, [])
    laws(given(text=texts, ids=st.lists(st.integers(0, ours.vocab_size - 1), max_size=20))(same))()


@pytest.mark.parametrize("book", [BOOK, BOOK + "“x” “”", BOOK.replace("«", '"').replace("»", '"'), BOOK.upper()])
def test_a_prompt_has_the_ids_that_generate_gives_it(book: str, tmp_path: Path) -> None:
    """At char level, as far as characters are replaced; what has no plain form is unknown there and left out here."""
    ours = fitting.fit_char(book, 1)
    theirs = loaded(tmp_path / "hf", ours)
    assert theirs.encode(book) == ours.encode(book).tolist()

    def same(text: str) -> None:
        ids = [token for token in theirs.encode(text) if token != ours.unknown_id]
        assert ids == ours.encode(known_text(ours, text)).tolist()

    for text in ("l'œuvre", "Ñandú, Œdipe", 'il dit : "Hé !" ("là")', "“Ça”, ‘là’ – e\u0301te\u0301 ☃…"):
        same(text)
    alphabet = st.sampled_from([chr(code) for code in hf.REPLACED] + ["☃", "漢"])
    laws(given(text=st.text(alphabet, max_size=12))(same))()


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_what_the_tokenizer_returns_goes_into_the_model_as_it_is(kind: str, tmp_path: Path) -> None:
    network = random_network(kind, WORDS)
    write(tmp_path / "hf", network, WORDS)
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf"), load(tmp_path / "hf")
    inputs = tokenizer("Où vas-tu", return_tensors="pt")
    with torch.no_grad():
        ours = network(torch.from_numpy(WORDS.encode("Où vas-tu"))[None])[0]
        torch.testing.assert_close(model(**inputs).logits, ours, atol=1e-4, rtol=0)
    stated = json.loads((tmp_path / "hf" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert stated["model_input_names"] == list(inputs) == ["input_ids", "attention_mask"]  # transformers 4 must be told
    assert model.generate(**inputs, max_new_tokens=3).shape == (1, len("Où vas-tu") + 3)


@pytest.mark.parametrize("level", TOKENIZERS)
@pytest.mark.parametrize("kind", ["classic", "modern"])
def test_a_batch_padded_on_the_left_gives_what_each_prompt_gives_alone(kind: str, level: str, tmp_path: Path) -> None:
    ours = TOKENIZERS[level]
    write(tmp_path / "hf", random_network(kind, ours), ours)
    writer = transformers.pipeline("text-generation", str(tmp_path / "hf"))
    prompts = ["e", "vieux"]
    assert len({len(ours.encode(prompt)) for prompt in prompts}) == 2
    settings = {"max_new_tokens": 5, "do_sample": False, "return_tensors": True}
    [alone], [other] = (writer(prompt, **settings) for prompt in prompts)
    padded = [row["generated_token_ids"] for [row] in writer(prompts, batch_size=2, **settings)]
    rows = [[token for token in row if token != writer.tokenizer.pad_token_id] for row in padded]
    assert rows == [alone["generated_token_ids"], other["generated_token_ids"]]
    assert len(rows[0]) == len(ours.encode(prompts[0])) + 5


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_context_ends_a_text_and_past_it_transformers_refuses_or_warns(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "hf", random_network(kind, WORDS), WORDS)
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf"), load(tmp_path / "hf")
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert model.generate(**tokenizer("Où", return_tensors="pt")).shape == (1, CONTEXT)
    assert not caplog.messages
    long = "demanda l'enfant, là-bas"
    with pytest.raises(ValueError, match=f"is {len(long)}, but `max_length` is set to {CONTEXT}"):
        model.generate(**tokenizer(long, return_tensors="pt"))
    end = tokenizer(long, return_tensors="pt", truncation=True, max_length=5)
    assert tokenizer.decode(end["input_ids"][0]) == long[-5:]
    caplog.clear()
    with pytest.raises(IndexError) if kind.startswith("classic") else nullcontext():
        model.generate(**end, max_new_tokens=CONTEXT)
    assert any("`max_length`" in message for message in caplog.messages)


@pytest.mark.parametrize("prompt", ["Où ", "l'enfant " * 20])
@pytest.mark.parametrize("kind", ["classic", "modern"])
def test_the_card_s_example_runs(kind: str, prompt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = CONFIGS[kind].model_dump() | TRAINING | {"tokenizer": "char"}
    given = results(meta(GPTModel(**network)), prompt=prompt)
    hf.write_folder(tmp_path / "hf", random_network(kind, WORDS), WORDS, given)
    monkeypatch.chdir(tmp_path / "hf")
    values: dict[str, Any] = {}
    exec(Path(model_card.CARD).read_text(encoding="utf-8").split("```")[1].removeprefix("python"), values)
    assert values["outputs"].shape == (1, CONTEXT)
    assert values["tokenizer"].decode(values["inputs"]["input_ids"][0]) == prompt[-CONTEXT // 2 :]


@pytest.mark.parametrize(
    ("kind", "changes", "named"),
    [
        ("bigram", {}, "network: bigram"),
        ("modern", {"positions": "learned"}, r"positions: learned \(not rotary\)"),
        ("modern", {"norm": "layernorm"}, r"norm: layernorm \(not rmsnorm\)"),
        ("modern", {"mlp": "gelu"}, r"mlp: gelu \(not swiglu\)"),
        ("modern", {"bias": True}, r"bias: true \(not false\)"),
        ("classic", {"mlp": "swiglu"}, r"mlp: swiglu \(not gelu or relu\)"),
        ("classic", {"qk_norm": True}, r"qk_norm: true \(not false\)"),
        ("classic", {"norm": "rmsnorm", "qk_norm": True}, r"norm: rmsnorm .*, qk_norm: true"),
    ],
)
def test_a_network_without_an_architecture_is_told_by_the_names_of_its_fields(
    kind: str, changes: dict[str, Any], named: str, tmp_path: Path
) -> None:
    network = networks.build(CONFIGS[kind].model_copy(update=changes), WORDS.vocab_size)
    assert hf.architecture(network) is None
    write(tmp_path / "hf", network, WORDS)
    assert [path.name for path in (tmp_path / "hf").iterdir()] == ["README.md"]
    said = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"transformers has no such architecture \({named}", said)


def test_the_card_is_written_with_the_folder(tmp_path: Path) -> None:
    write(tmp_path / "hf", random_network("modern", WORDS), WORDS)
    said = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert said == model_card.hf_card(results(), "Qwen3ForCausalLM")
    assert "`Qwen3ForCausalLM`" in said


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failed_write_leaves_the_older_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "hf", random_network("modern", WORDS), WORDS)
    before = content(tmp_path)

    def full(*_: object) -> Never:
        raise OSError(errno.ENOSPC, "no space left")

    other = random_network("classic", WORDS)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_text", full)
        with pytest.raises(OSError, match="no space"):
            write(tmp_path / "hf", other, WORDS)
    assert content(tmp_path) == before
    write(tmp_path / "hf", other, WORDS)
    assert set(content(tmp_path)) == set(before)
    assert content(tmp_path) != before


@pytest.mark.parametrize("kind", GPT_KINDS)
def test_the_folder_says_nothing_of_where_it_was_written(kind: str, tmp_path: Path) -> None:
    for place in ("here", "there/beyond"):
        write(tmp_path / place, random_network(kind, WORDS), WORDS)
    assert content(tmp_path / "here") == content(tmp_path / "there/beyond")
    config = json.loads((tmp_path / "here" / "config.json").read_text(encoding="utf-8"))
    assert "/" not in json.dumps(config)
    assert not any(value for key, value in config.items() if "drop" in key)
