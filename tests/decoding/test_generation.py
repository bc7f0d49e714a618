import tracemalloc
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gptmodel.arrays import Logits
from gptmodel.data import fitting
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding import generation
from gptmodel.decoding.engine import Decoder
from gptmodel.decoding.generation import complete, stream
from gptmodel.decoding.sampling import InvalidSetting, Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.model.bigram import Bigram
from gptmodel.model.torch_decoder import TorchDecoder
from gptmodel.runtime.bundle import Bundle
from gptmodel.runtime.fast_session import FastSession
from tests.support.bundles import TEXT, chain, char_tokenizer, random_network, write

GREEDY, FREE = Sampling(temperature=0), Sampling(temperature=1.0)
LETTERS = char_tokenizer()
RECITER = TorchDecoder(chain(LETTERS, "demant' ?l\n"))
WRITER = TorchDecoder(random_network("modern", LETTERS))


def recite(prompt: str, count: int, *stop: str) -> generation.Generation:
    (done,) = complete(RECITER, LETTERS, [prompt], Settings(count, GREEDY, 0, stop))
    return done


def test_text_continues_the_prompt() -> None:
    assert recite("de", 6).text == "mant' "
    assert recite("de", 6) == generation.Generation("de", 0, "mant' ", 6, "length")


def test_text_ends_before_the_stop_string_and_says_so() -> None:
    assert recite("d", 60, "' ?") == generation.Generation("d", 0, "emant", 8, "stop")
    assert recite("d", 60, "zzz", "t' ", "' ?").text == "eman"
    assert recite("d", 4, "ant").text == "eman"  # its beginning was held back, and belongs to the text


def test_a_stream_joined_is_the_finished_text_and_comes_in_pieces() -> None:
    for stop in ((), ("e",), ("l'", "\n")):
        how = Settings(40, FREE, seed=3, stop=stop)
        deltas = list(stream(WRITER, LETTERS, ["vieil", ""], how, [0, 0]))
        finished = list(complete(WRITER, LETTERS, ["vieil", ""], how))
        for number in (0, 1):
            own = [delta for of, delta in deltas if of == number]
            assert "".join(delta.text for delta in own) == finished[number].text
            assert sum(delta.tokens for delta in own) == finished[number].tokens
            assert [delta.finish_reason for delta in own if delta.finish_reason] == [finished[number].finish_reason]
            assert own[-1].finish_reason
    assert len([delta for _, delta in stream(WRITER, LETTERS, ["vieil"], Settings(40, FREE, 3)) if delta.text]) == 40


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    """The decoder of a bundle in which texts come and go."""
    folder = write(tmp_path_factory.mktemp("fast") / "b", random_network("modern", LETTERS), LETTERS)
    return Bundle.load(folder, "cpu", graph="fp32").decoder


@pytest.fixture(params=["torch", "fp32"])
def writer(request: pytest.FixtureRequest, fast: Decoder) -> Decoder:
    return WRITER if request.param == "torch" else fast


@pytest.mark.parametrize("stop", [(), ("e",), ("l'", "\n")])
def test_every_sample_of_every_prompt_in_order_whatever_the_batch(
    writer: Decoder, stop: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    how, asked = Settings(20, FREE, 11, stop), ["île", "l'", "Le vieil homme, là", "île"]
    together = list(complete(writer, LETTERS, asked, how, num_samples=3))
    assert [(one.prompt, one.sample) for one in together] == [(prompt, s) for prompt in asked for s in range(3)]
    assert together[:3] == together[9:]  # the seed and the sample number decide, not the place in the list
    assert len({one.text for one in together[:3]}) == 3
    for rows in (1, 2, 5):
        monkeypatch.setattr(generation, "MAX_ROWS", rows)
        assert list(complete(writer, LETTERS, asked, how, num_samples=3)) == together


def test_texts_of_many_lengths_together_read_no_more_than_each_alone(
    fast: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    plain = FastSession.read

    def counted(self: FastSession, rows: Sequence[Sequence[int]], *rest: Any, **more: Any) -> Logits:
        read.extend(map(len, rows))
        return plain(self, rows, *rest, **more)

    monkeypatch.setattr(FastSession, "read", counted)
    asked, how = [TEXT[:length] for length in range(1, 60)], Settings(2 * fast.context, FREE, 1)
    alone = [one for prompt in asked for one in complete(fast, LETTERS, [prompt], how)]
    expected = sum(read)
    read.clear()
    assert list(complete(fast, LETTERS, asked, how)) == alone
    assert 0 < sum(read) <= expected


def test_memory_does_not_grow_with_the_number_of_samples(writer: Decoder) -> None:
    written = complete(writer, LETTERS, ["l"], Settings(1, FREE, 0), num_samples=300_000)
    next(written)
    tracemalloc.start()
    try:
        written = complete(writer, LETTERS, ["l"], Settings(1, FREE, 0), num_samples=300_000)
        assert [one.sample for one in islice(written, 3)] == [0, 1, 2]
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("prompt", ["", "☃"])
def test_an_empty_prompt_starts_from_a_line_break(prompt: str) -> None:
    assert recite(prompt, 3).text == recite("\n", 3).text == "dem"


def test_an_empty_prompt_without_a_line_break_in_the_vocabulary() -> None:
    words = fitting.fit_char("cab", min_count=1)
    (done,) = complete(TorchDecoder(chain(words, "abc")), words, [""], Settings(2, GREEDY, 0))
    assert done.text == "bc"


def test_the_unknown_token_is_never_generated() -> None:
    network = random_network("bigram", LETTERS)
    assert isinstance(network, Bigram)
    network.table.weight.data[:, LETTERS.unknown_id] = 100.0
    texts = [one.text for one in complete(TorchDecoder(network), LETTERS, ["l"], Settings(50, FREE, 1), num_samples=4)]
    assert not any("\N{REPLACEMENT CHARACTER}" in text for text in texts)
    assert all(len(text) == 50 for text in texts)


@pytest.mark.parametrize(
    "words", [fitting.fit_word(TEXT * 3, 700, min_count=1), fitting.fit_bpe(TEXT * 3, 400)], ids=["word", "bpe"]
)
def test_the_last_space_of_a_prompt_goes_to_the_first_token(words: Tokenizer) -> None:
    decoder = TorchDecoder(chain(words, "Le vieil homme"))
    for prompt in ("Le", "Le "):
        (done,) = complete(decoder, words, [prompt], Settings(2, GREEDY, 0))
        assert prompt + done.text == "Le vieil homme"
    (done,) = complete(decoder, words, ["Le vieil homme "], Settings(3, GREEDY, 0))  # "Le" would come, without a space
    assert not done.text.startswith((" ", "Le"))


def test_a_character_of_several_bytes_comes_whole() -> None:
    words = fitting.fit_bpe(TEXT, 256)  # bytes only
    decoder, how = TorchDecoder(chain(words, "aîœ")), Settings(6, GREEDY, 0)
    texts = [delta.text for _, delta in stream(decoder, words, ["a"], how)]
    assert texts == ["", "î", "", "œ", "a", "\N{REPLACEMENT CHARACTER}"]


def test_a_very_long_prompt_is_seen_through_its_window() -> None:
    long = (TEXT * 2000)[:100_000]
    how = Settings(30, FREE, seed=4)
    (done,) = complete(WRITER, LETTERS, [long], how)
    (other,) = complete(WRITER, LETTERS, ["☃" + "?" * 50_000 + long[50_000:]], how)
    assert done.text == other.text
    assert done.tokens == 30


def test_a_number_of_samples_below_one_is_named() -> None:
    with pytest.raises(InvalidSetting, match="num_samples must be 1 or above, not 0"):
        list(complete(WRITER, LETTERS, ["l"], Settings(1, FREE, 0), num_samples=0))


@pytest.mark.parametrize("graph", ["portable", "fp32"])
def test_onnx_and_torch_write_the_same_text(tmp_path: Path, graph: str) -> None:
    folder = write(tmp_path / "b", random_network("modern", LETTERS), LETTERS)
    bundle = Bundle.load(folder, "cpu", graph=graph)
    how = Settings(60, Sampling(0.9, 10, 0.95), seed=1)
    texts = [
        [one.text for one in complete(decoder, words, ["l'île", "?", ""], how, num_samples=2)]
        for decoder, words in ((WRITER, LETTERS), (bundle.decoder, bundle.tokenizer))
    ]
    assert texts[0] == texts[1]
    assert np.unique(texts[0]).size == 6
