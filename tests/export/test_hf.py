import errno
import json
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Never

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptmodel.arrays import Ints
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.engine import generate
from gptmodel.decoding.sampling import Sampling, sample_rng
from gptmodel.export import hf, model_card
from gptmodel.model import gpt, networks
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.params import GPTNetwork
from tests.data.test_tokenizer import BOOK, TOKENIZERS, laws, texts
from tests.support.bundles import char_tokenizer, random_network
from tests.support.cards import results
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
        assert {config.bos_token_id, config.eos_token_id, config.pad_token_id} == {None}
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

    theirs = load(tmp_path / "hf").generate(torch.tensor(prompts), max_new_tokens=CONTEXT - 1, do_sample=False)
    assert WORDS.unknown_id is not None
    np.testing.assert_array_equal(theirs[:, 1:].numpy(), ours([WORDS.unknown_id]))
    assert (ours([]) == WORDS.unknown_id).any()


@pytest.mark.parametrize("kind", GPT_KINDS)
@pytest.mark.parametrize("level", TOKENIZERS)
def test_the_tokenizer_gives_our_ids_and_our_text(level: str, kind: str, tmp_path: Path) -> None:
    ours = TOKENIZERS[level]
    write(tmp_path / "hf", random_network(kind, ours), ours)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert (len(theirs), theirs.model_max_length) == (ours.vocab_size, CONTEXT)
    assert not theirs.all_special_tokens

    def same(text: str, ids: list[int]) -> None:
        assert theirs.encode(text) == ours.encode(text).tolist()
        for some in (ids, ours.encode(text).tolist()):
            assert theirs.decode(some) == theirs.decode(some, skip_special_tokens=True) == ours.decode(some)

    for text in (BOOK, *TRICKY):
        same(text, [])
    if kind == GPT_KINDS[0]:
        any_ids = st.lists(st.integers(0, ours.vocab_size - 1), max_size=20)
        laws(given(text=texts, ids=any_ids)(same))()


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
        patch.setattr(Tokenizer, "save", full)
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
