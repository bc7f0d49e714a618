"""The laws of continuous batching: a text is the same alone and in a crowd, and nobody's end is another's."""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from gptmodel.arrays import Logits
from gptmodel.data import fitting
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.engine import DecoderSlots, open_slots
from gptmodel.decoding.generation import complete
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Delta, Settings, TextSequence
from gptmodel.export import fast_graph
from gptmodel.export.calibration import cache_ranges
from gptmodel.model import networks
from gptmodel.model.gpt import GPT
from gptmodel.runtime import session
from gptmodel.runtime.bundle import Bundle
from gptmodel.runtime.fast_session import FastSession
from gptmodel.runtime.fast_slots import FastSlots
from gptmodel.runtime.graphs import GRAPHS
from gptmodel.serving.scheduler import Answer, Busy, Scheduler, TextBatch
from tests.support.bundles import TEXT, chain, char_tokenizer, random_network, write
from tests.support.networks import CONFIGS

WORDS = {
    "char": char_tokenizer(),
    "bpe": fitting.fit_bpe(TEXT, 300),
    "word": fitting.fit_word(TEXT, 600, 1),
}
SAMPLINGS = [Sampling(0.0), Sampling(1.0), Sampling(0.9, 5, 0.8), Sampling(0.7, repetition_penalty=1.4)]
PROMPTS = ["Où ", "Le vieil homme rêvait d'une île, là", "", "— ", "d'", "l'enfant.\n"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    for kind, level in itertools.product(["modern", "classic", "bigram"], WORDS):
        if level == "char" or kind == "modern":
            write(root / f"{kind}-{level}", random_network(kind, WORDS[level]), WORDS[level], level=level)
    return root


def crowd(words: Tokenizer, most: int) -> list[tuple[str, Settings, int]]:
    """Return requests that differ in all that may differ, longer than the context of 12."""
    stops = ((), ("e",), ("là", "ille"))
    return [
        (PROMPTS[i % len(PROMPTS)], Settings(1 + 7 * i % 41, SAMPLINGS[i % 4], i, stops[i % 3]), i % 2)
        for i in range(most)
    ]


def serve(batch: TextBatch, texts: Sequence[TextSequence], arrivals: dict[int, int]) -> dict[TextSequence, Delta]:
    """Let the texts arrive, so many at a turn, as slots allow; return what came of each."""
    came: dict[TextSequence, Delta] = {}
    waiting = list(texts)
    for turn in itertools.count():
        count = min(arrivals.get(turn, 2), batch.free, len(waiting))
        joining, waiting = waiting[:count], waiting[count:]
        for text, part in batch.turn(joining).items():
            came[text] = came[text] + part if text in came else part
        if not batch.running and not waiting:
            return came
    raise AssertionError


@pytest.mark.parametrize(
    ("name", "graph"),
    [
        ("modern-char", "fp32"),
        ("classic-char", "fp32"),
        ("modern-char", "portable"),
        ("bigram-char", "portable"),
        ("modern-bpe", "fp32"),
        ("modern-word", "fp32"),
    ],
)
def test_a_text_is_the_one_that_generate_gives_whoever_else_is_there(folder: Path, name: str, graph: str) -> None:
    bundle = Bundle.load(folder / name, "cpu", graph=graph)
    slots = open_slots(bundle.decoder, 5)
    assert isinstance(slots, FastSlots if graph == "fp32" else DecoderSlots)
    asked = crowd(bundle.tokenizer, 24)
    texts = [TextSequence(bundle.tokenizer, *one) for one in asked]
    came = serve(TextBatch(slots, bundle.tokenizer), texts, {0: 1, 3: 4, 4: 0, 5: 0, 6: 5})
    for text, (prompt, settings, sample) in zip(texts, asked, strict=True):
        alone = list(complete(bundle.decoder, bundle.tokenizer, [prompt], settings, sample + 1))[sample]
        part = came[text]
        assert (part.text, part.tokens, part.finish_reason) == (alone.text, alone.tokens, alone.finish_reason)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_logits_are_the_same_to_the_bit_alone_and_in_company(precision: Literal["fp32", "int8"]) -> None:
    torch.manual_seed(3)
    config = CONFIGS["modern"].model_copy(update={"n_embd": 128, "n_hidden": 320, "init": "gpt2"})
    network = networks.build(config, 96).eval()
    assert isinstance(network, GPT)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    ranges = cache_ranges(network, np.arange(96))
    slots = FastSlots(FastSession(fast_graph.build(network, precision, ranges).SerializeToString()), 7)
    prompts = np.random.default_rng(0).integers(0, 96, size=(7, 4)).tolist()
    for company in (1, 2, 7):
        read = slots.feed(prompts[:company], range(company))[0]
        stepped = slots.feed([[*prompt, 5] for prompt in prompts[:company]], [])[0]
        if company == 1:
            alone = read, stepped
        assert np.array_equal((read, stepped), alone)


@pytest.mark.parametrize("graph", ["fp32", "int8", "portable"])
def test_slots_run_in_the_session_that_the_bundle_has_open(
    folder: Path, graph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    open_session = session.open_session

    def watched(model: Path | bytes, *rest: Any, **more: Any) -> Any:
        opened.append(model)
        return open_session(model, *rest, **more)

    monkeypatch.setattr(session, "open_session", watched)
    bundle = Bundle.load(folder / "modern-char", "cpu", graph=graph)
    batch = TextBatch(open_slots(bundle.decoder, 3), bundle.tokenizer)
    serve(batch, [TextSequence(bundle.tokenizer, *one) for one in crowd(bundle.tokenizer, 4)], {})
    assert opened == [bundle.path / GRAPHS[graph].file]


def test_8_bit_texts_do_not_depend_on_their_neighbours(folder: Path) -> None:
    bundle = Bundle.load(folder / "modern-char", "cpu", graph="int8")
    asked = crowd(bundle.tokenizer, 12)
    together = [TextSequence(bundle.tokenizer, *one) for one in asked]
    came = serve(TextBatch(open_slots(bundle.decoder, 6), bundle.tokenizer), together, {})
    for text, one in zip(together, asked, strict=True):
        alone = TextSequence(bundle.tokenizer, *one)
        assert (
            serve(TextBatch(open_slots(bundle.decoder, 1), bundle.tokenizer), [alone], {})[alone].text
            == came[text].text
        )


def test_who_gives_up_leaves_at_the_next_turn_and_the_others_go_on(folder: Path) -> None:
    bundle = Bundle.load(folder / "modern-char", "cpu", graph="fp32")
    asked = [(prompt, Settings(60, Sampling(1.0), 4), 0) for prompt in PROMPTS]
    texts = [TextSequence(bundle.tokenizer, *one) for one in asked]
    batch = TextBatch(open_slots(bundle.decoder, 6), bundle.tokenizer)
    came = batch.turn(texts)
    for gone in (texts[0], texts[3], texts[5]):  # the first, one inside, the last
        gone.cancelled = True
    assert batch.free == 3
    while batch.running:
        for text, part in batch.turn().items():
            assert not text.cancelled
            came[text] += part
    for text, (prompt, settings, _) in zip(texts, asked, strict=True):
        if not text.cancelled:
            [alone] = complete(bundle.decoder, bundle.tokenizer, [prompt], settings)
            assert came[text].text == alone.text


def test_log_probabilities_are_the_models_own(folder: Path) -> None:
    bundle = Bundle.load(folder / "modern-char", "cpu", graph="fp32")
    text = TextSequence(bundle.tokenizer, "Où ", Settings(8, SAMPLINGS[3], 3), top=3)
    part = serve(TextBatch(open_slots(bundle.decoder, 2), bundle.tokenizer), [text], {})[text]
    ids = text.ids
    assert [one.token for one in part.choices] == ids[3:]
    for place, one in enumerate(part.choices, 3):
        logits_1V, _ = bundle.decoder.prefill([ids[:place]])
        scores_V = logits_1V[0].astype(np.float64)
        expected_V = scores_V - np.log(np.exp(scores_V).sum())
        assert one.log_probability == pytest.approx(expected_V[one.token], abs=1e-5)
        assert list(one.top) == np.argsort(-expected_V)[:3].tolist()


@pytest.mark.parametrize("level", ["char", "bpe", "word"])
def test_offsets_say_where_in_the_text_each_token_begins(folder: Path, level: str) -> None:
    bundle = Bundle.load(folder / f"modern-{level}", "cpu", graph="fp32")
    batch = TextBatch(open_slots(bundle.decoder, 4), bundle.tokenizer)
    for seed, prompt in itertools.product(range(4), ["d'", "vieil "]):
        text = TextSequence(bundle.tokenizer, prompt, Settings(40, Sampling(1.0), seed, ("lme",)), top=0)
        part = serve(batch, [text], {})[text]
        ends = [*(one.offset for one in part.choices[1:]), len(part.text)]
        whole = 0
        for one, end in zip(part.choices, ends, strict=True):
            spelled = bundle.tokenizer.decode([one.token])
            if "\ufffd" not in spelled and end < len(part.text):
                own = spelled.removeprefix(" ") if one is part.choices[0] and prompt[-1] == " " else spelled
                assert part.text[one.offset : end].lstrip("\ufffd") == own  # bytes before that were no character
                whole += 1
        assert whole or len(part.choices) < 3


def test_tokens_behind_a_stop_string_are_not_told(tmp_path: Path) -> None:
    words = fitting.fit_char("abcdefg", 1)
    bundle = Bundle.load(write(tmp_path / "b", chain(words, "abcdefg"), words), "cpu")
    text = TextSequence(words, "a", Settings(9, Sampling(0.0), 0, ("ef",)), top=1)
    parts: list[Delta] = []
    batch = TextBatch(open_slots(bundle.decoder, 1), words)
    joining = [text]
    while joining or batch.running:
        parts += batch.turn(joining).values()
        joining = []
    assert [part.text for part in parts] == ["b", "c", "d", "", ""]  # e is held back: f may follow
    assert [len(part.choices) for part in parts] == [1, 1, 1, 0, 0]
    assert parts[-1].finish_reason == "stop"


class Faulty(DecoderSlots):
    """Slots that fail when told to."""

    fails = False

    def feed(self, windows: Sequence[Sequence[int]], fresh: Sequence[int]) -> Logits:
        if self.fails:
            raise RuntimeError("out of memory")
        return super().feed(windows, fresh)


async def read(answer: Answer) -> str:
    """Return the text of an answer of one sequence."""
    text = ""
    while True:
        came = await asyncio.wait_for(answer.deltas.get(), 10)
        if isinstance(came, Exception):
            raise came
        text += came[1].text
        if came[1].finish_reason:
            return text


def test_the_scheduler_refuses_frees_and_survives(folder: Path) -> None:
    bundle = Bundle.load(folder / "bigram-char", "cpu")
    slots = Faulty(bundle.decoder, 2)
    scheduler = Scheduler(TextBatch(slots, bundle.tokenizer), max_waiting=1)
    endless, short = Settings(10**9, Sampling(1.0), 1), Settings(5, Sampling(1.0), 1)

    def texts(settings: Settings, count: int = 1) -> list[TextSequence]:
        return [TextSequence(bundle.tokenizer, "Où", settings, i) for i in range(count)]

    async def story() -> None:
        running = asyncio.create_task(scheduler.run())
        first = scheduler.submit(texts(endless, 2))
        await first.deltas.get()
        last = scheduler.submit(texts(short))
        assert (scheduler.running, scheduler.waiting) == (2, 1)
        with pytest.raises(Busy, match=r"2 texts are running and 1 waiting, at most 3"):
            scheduler.submit(texts(short))
        scheduler.cancel(first)  # its slots go to the one who waits
        assert len(await read(last)) == 5
        assert (scheduler.running, scheduler.waiting) == (0, 0)

        slots.fails = True
        with pytest.raises(RuntimeError, match="out of memory"):
            await read(scheduler.submit(texts(short)))
        slots.fails = False
        assert len(await read(scheduler.submit(texts(short)))) == 5

        blocked = scheduler.submit(texts(endless, 2))
        waiting = scheduler.submit(texts(endless))
        scheduler.cancel(waiting)
        assert scheduler.waiting == 0 or scheduler.running == 0
        scheduler.cancel(blocked)
        scheduler.submit(texts(short, 3))
        assert not running.done()
        running.cancel()

    asyncio.run(story())
