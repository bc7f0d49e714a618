import json
from pathlib import Path

import pytest
import torch

from gptmodel import files
from gptmodel.data.fitting import fit_char
from gptmodel.errors import UserError
from gptmodel.model import checkpoint, networks
from gptmodel.results.training import Meta
from tests.support import training as support
from tests.support.networks import CONFIGS, build


def saved(folder: Path, kind: str = "modern", seed: int = 0) -> Meta:
    meta = support.meta(kind)
    checkpoint.save(folder, networks.weights(build(kind, seed)), meta)
    return meta


@pytest.mark.parametrize("kind", list(CONFIGS))
def test_load_of_save_is_the_same_network(tmp_path: Path, kind: str) -> None:
    meta = saved(tmp_path / "checkpoint", kind)
    network, loaded = checkpoint.load(tmp_path / "checkpoint")
    assert loaded.model_copy(update={"weights_sha256": ""}) == meta
    assert not network.training
    ids = torch.arange(10).unsqueeze(0)
    assert torch.equal(network(ids)[0], build(kind)(ids)[0])


def test_the_same_network_gives_the_same_bytes_and_nothing_is_left_over(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    saved(tmp_path / "b", seed=1)
    saved(tmp_path / "b")
    for name in (checkpoint.WEIGHTS, checkpoint.META):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "checkpoint")
    before = (tmp_path / "checkpoint" / checkpoint.WEIGHTS).read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "serialize", full_disk)
    with pytest.raises(OSError, match="No space"):
        saved(tmp_path / "checkpoint", seed=1)
    assert (tmp_path / "checkpoint" / checkpoint.WEIGHTS).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"meta\.json does not exist"):
        checkpoint.load(tmp_path / "nothing")
    folder = tmp_path / "checkpoint"
    saved(folder)
    weights = folder / checkpoint.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"altered.*train@modern"):
        checkpoint.load(folder)
    weights.write_bytes(whole)
    meta = json.loads((folder / checkpoint.META).read_text())
    for key, value, words in [("format_version", 1, "format_version"), ("vocab_size", 24, "does not fit")]:
        (folder / checkpoint.META).write_text(json.dumps({**meta, key: value}))
        with pytest.raises(UserError, match=words):
            checkpoint.load(folder)


def test_a_network_comes_with_the_tokenizer_it_was_trained_with_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "tokens" / "char" / "tokenizer.json"
    fit_char("Où vas-tu ?", min_count=1).save(path)
    meta = saved(tmp_path / "checkpoint").model_copy(update={"tokenizer_sha256": files.sha256(path)})
    checkpoint.save(tmp_path / "checkpoint", networks.weights(build("modern")), meta)
    network, tokenizer, loaded = checkpoint.load_with_tokenizer(tmp_path / "checkpoint", tmp_path / "tokens")
    ids = torch.arange(10).unsqueeze(0)
    assert torch.equal(network(ids)[0], build("modern")(ids)[0])
    assert tokenizer.decode(tokenizer.encode("vas")) == "vas"
    assert loaded.tokenizer_sha256 == meta.tokenizer_sha256
    fit_char("Où vas-tu, Ω ?", min_count=1).save(path)
    with pytest.raises(UserError, match=r"char/tokenizer.json is not the one modern was trained with"):
        checkpoint.load_with_tokenizer(tmp_path / "checkpoint", tmp_path / "tokens")
    path.unlink()
    with pytest.raises(UserError, match=r"tokenizer.json does not exist"):
        checkpoint.load_with_tokenizer(tmp_path / "checkpoint", tmp_path / "tokens")
