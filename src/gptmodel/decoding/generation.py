"""Text in, text out: a tokenizer and a decoder continue prompts (see `prompts`), as whole texts or as deltas."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from gptmodel.data.tokenizer import Tokenizer
from gptmodel.decoding.engine import Batch, Decoder, DecoderSlots, Slots, open_slots
from gptmodel.decoding.sampling import InvalidSetting
from gptmodel.decoding.sequence import Delta, FinishReason, Settings, TextSequence

MAX_ROWS = 32  # decoded at once; beyond it throughput grows little on a CPU
MAX_LOGITS = 1 << 26  # 256 MiB of fp32 when a batch of full contexts is read


@dataclass(frozen=True)
class Generation:
    """One finished text; `text` does not hold the prompt, `tokens` counts the generated ones."""

    prompt: str
    sample: int
    text: str
    tokens: int
    finish_reason: FinishReason


def banned_ids(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens that are never generated: the unknown one."""
    return [] if tokenizer.unknown_id is None else [tokenizer.unknown_id]


def stream(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], settings: Settings, samples: Sequence[int] = ()
) -> Iterator[tuple[int, Delta]]:
    """Continue all prompts in one batch; yield the number of a prompt and what its text grew by, as it comes.

    `samples` numbers the prompts (default: 0). The last delta of a text has a `finish_reason`. A text that has ended
    keeps its slot until all have, so that the others are not read again.
    """
    batch = Batch[TextSequence](DecoderSlots(decoder, len(prompts)), banned_ids(tokenizer))
    sequences = [
        TextSequence(tokenizer, prompt, settings, sample)
        for prompt, sample in zip(prompts, samples or [0] * len(prompts), strict=True)
    ]
    for sequence in sequences:
        batch.join(sequence)
    for ids_B in batch.steps(settings.max_new_tokens):
        for number, (sequence, token) in enumerate(zip(sequences, ids_B.tolist(), strict=True)):
            if sequence.finish_reason is None:
                yield number, sequence.push(token)
        if all(sequence.finish_reason for sequence in sequences):
            return


def complete(
    decoder: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], settings: Settings, num_samples: int = 1
) -> Iterator[Generation]:
    """Yield `num_samples` finished texts of each prompt, in the order of the prompts.

    At most `MAX_ROWS` are decoded at once; a text does not depend on the others.
    """
    if num_samples < 1:
        raise InvalidSetting("num_samples", f"must be 1 or above, not {num_samples}")
    rows = min(MAX_ROWS, MAX_LOGITS // (decoder.context * decoder.vocab_size), len(prompts) * num_samples)
    slots = open_slots(decoder, rows) if rows > 1 else DecoderSlots(decoder, 1)
    asked = ((prompt, sample) for prompt in prompts for sample in range(num_samples))
    if isinstance(slots, DecoderSlots):
        return _by_batch(slots, tokenizer, asked, settings)
    return _by_slot(slots, tokenizer, asked, settings)


def _by_batch(
    slots: DecoderSlots, tokenizer: Tokenizer, asked: Iterator[tuple[str, int]], settings: Settings
) -> Iterator[Generation]:
    """Yield the texts batch after batch, as all are read again whenever one comes."""
    while batch := list(islice(asked, slots.size)):
        texts, samples = zip(*batch, strict=True)
        whole = [Delta("", 0)] * len(batch)
        for number, delta in stream(slots.decoder, tokenizer, texts, settings, samples):
            whole[number] += delta
        yield from (_generation(*pair, text) for pair, text in zip(batch, whole, strict=True))


def _by_slot(
    slots: Slots, tokenizer: Tokenizer, asked: Iterator[tuple[str, int]], settings: Settings
) -> Iterator[Generation]:
    """Yield the texts, each begun when one before it has ended; those that end before their turn are kept."""
    batch = Batch[TextSequence](slots, banned_ids(tokenizer))
    numbered = enumerate(asked)
    growing: dict[TextSequence, tuple[int, Delta]] = {}
    finished: dict[int, Generation] = {}
    turn = 0
    while True:
        for number, (prompt, sample) in islice(numbered, slots.size - len(growing)):
            sequence = TextSequence(tokenizer, prompt, settings, sample)
            batch.join(sequence)
            growing[sequence] = number, Delta("", 0)
        if not growing:
            return
        ids_B, _ = batch.turn()
        for sequence, token in zip(tuple(batch.running), ids_B.tolist(), strict=True):
            number, text = growing[sequence]
            growing[sequence] = number, text + sequence.push(token)
            if sequence.finish_reason:
                batch.leave(sequence)
                number, text = growing.pop(sequence)
                finished[number] = _generation(sequence.prompt, sequence.sample, text)
        while turn in finished:
            yield finished.pop(turn)
            turn += 1


def _generation(prompt: str, sample: int, text: Delta) -> Generation:
    assert text.finish_reason
    return Generation(prompt, sample, text.text, text.tokens, text.finish_reason)
