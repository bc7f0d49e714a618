"""What the stages baselines, evaluate and inspect say about a model and a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from gptmodel import files
from gptmodel.results.record import Record

Scored = Literal["validation", "test"]
SCORED: tuple[Scored, ...] = ("validation", "test")
Candidate = tuple[str, float]  # a token as people read it, and its probability


class SplitScore(Record):
    """How well a model predicts one split; every character counts."""

    loss_nats: float = Field(description="per token: comparable within one tokenizer only")
    bits_per_char: float = Field(description="of the original text: comparable across levels")
    bits_per_byte: float = Field(description="of the text in UTF-8")
    word_perplexity: float = Field(description="exp of the nats of a word between white space, at most e^700")
    tokens: int
    characters: int
    bits_per_char_low: float = Field(description="lower end of the 95 % interval")
    bits_per_char_high: float = Field(description="upper end of the 95 % interval")
    sliding_bits_per_char: float = Field(description="in windows that overlap by half a context")
    dynamic_bits_per_char: float = Field(description="when the model learns while it reads")
    unigram_bits_per_char: float = Field(description="of counts of its tokens")
    bigram_bits_per_char: float = Field(description="of counts of pairs of its tokens (Kneser-Ney)")
    lines_in_training: float = Field(description="share of the longer lines that stand in the training text")


class Metrics(Record):
    """metrics.json: the scores of one model."""

    best_step: int
    parameters: int
    validation: SplitScore
    test: SplitScore | None = Field(None, description="null where there is no test text")

    @property
    def main_split(self) -> Scored:
        """The split that the main figures are of: test, or validation where there is no test text."""
        return "test" if self.test else "validation"

    @property
    def main(self) -> SplitScore:
        """The scores of the main split."""
        return self.test or self.validation

    @property
    def splits(self) -> dict[Scored, SplitScore]:
        """The scores by split, those without text left out."""
        scores: dict[Scored, SplitScore] = {"validation": self.validation}
        if self.test:
            scores["test"] = self.test
        return scores

    def summary(self) -> str:
        """Return the main figures in a few words."""
        return ", ".join(
            f"{split} {score.bits_per_char:.3f} ({score.bits_per_char_low:.3f} to {score.bits_per_char_high:.3f})"
            for split, score in self.splits.items()
        )


class PositionBin(Record):
    """The mean loss of the predictions that saw `first` to `last` tokens."""

    first: int
    last: int
    tokens_seen: float = Field(description="the middle of the bin on a logarithmic axis: where a figure draws it")
    tokens: int = Field(description="predictions in the bin")
    nats_per_token: float
    bits_per_char: float


class ClassShare(Record):
    """What one class of characters costs."""

    name: str
    characters: int
    share: float = Field(description="of all characters")
    bits_per_char: float
    share_of_bits: float


class Passage(Record):
    """A stretch of text and its mean cost."""

    start: int
    text: str
    bits_per_char: float


class Breakdown(Record):
    """breakdown.json: where the bits of the main split go."""

    fingerprint: str = Field(description="of the training whose weights were scored")
    split: Scored
    by_position: list[PositionBin]
    by_class: list[ClassShare]
    worst: list[Passage]
    best: list[Passage]


class NoveltyFigures(Record):
    """Is it French, is it new: figures of one text, or of several together. Shares are of 1."""

    words: int
    words_in_training: float
    words_in_lexicon: float | None = Field(description="null without a lexicon of the language")
    words_known: float = Field(description="to the training text or the lexicon")
    distinct_words: float
    repetition: float = Field(description="4-word sequences that stood in the same text before")
    longest_copy_characters: int
    longest_copy_text: str
    copied_8_word_sequences: float = Field(description="that the training text has")


class Copy(Record):
    """A span of a sample that stands in the training text."""

    start: int
    end: int
    train_start: int


class SampleNovelty(NoveltyFigures):
    """The figures of one sample."""

    prompt: str
    temperature: float
    seed: int
    copies: list[Copy]


class Novelty(Record):
    """novelty.json: what the model wrote beside as much held-out text."""

    samples: NoveltyFigures
    held_out: NoveltyFigures
    per_sample: list[SampleNovelty]
    warnings: list[str] = Field(description="a sentence each; none: nothing stands out")


class BaselineScore(Record):
    """What one way of counting scores."""

    name: str
    kind: Literal["static", "adaptive"] = Field("static", description="adaptive: it learns from the text it scores")
    order: int = Field(description="characters of its longest n-grams; 0: it counts nothing")
    bits_per_char: float
    bits_per_byte: float
    loss_nats: float = Field(description="per character")


class Baselines(Record):
    """baselines.json: every baseline on every split that is not trained on and has text."""

    best: str = Field(description="the one with the best validation score")
    splits: Mapping[Scored, list[BaselineScore]]

    @property
    def main_split(self) -> Scored:
        """As `Metrics.main_split`."""
        return "test" if "test" in self.splits else "validation"

    def named(self, name: str, split: Scored) -> BaselineScore:
        """Return the score of one baseline on one split."""
        return next(score for score in self.splits[split] if score.name == name)

    def best_on(self, split: Scored) -> BaselineScore:
        """Return the score, on a split, of the baseline that is best on validation."""
        return self.named(self.best, split)


class InspectedPassage(Record):
    """The held-out passage that is looked at."""

    split: Scored
    start: int = Field(description="its first character in the text")
    text: str


class TokenSurprisal(Record):
    """One token of the passage: the characters it spans, what it costs, what was likeliest in its place."""

    start: int
    end: int
    nats: float
    top: list[Candidate]


class Attention(Record):
    """Each head's weights as base64 of bytes, 255 for 1.0, a row for each reading token."""

    tokens: list[str]
    layers: list[list[str]]


class Lens(Record):
    """What each layer would say comes next (the logit lens)."""

    tokens: list[str]
    targets: list[str]
    layers: list[str]
    top: list[list[list[Candidate]]] = Field(description="by layer and token")
    nats: list[float] = Field(description="mean cost of the targets, by layer")


class Embeddings(Record):
    """Tokens on the plane of their first two principal components."""

    points: list[tuple[str, float, float, str]] = Field(description="token, x, y, class of its first character")
    explained: list[float] = Field(description="share of the variance along each axis")


class Positions(Record):
    """Learned positions on their plane, in order."""

    points: list[list[float]]
    explained: list[float]


class BigramTable(Record):
    """p(next | previous), counted and learned; rows are the previous character."""

    characters: list[str]
    counted: list[list[float]]
    learned: list[list[float]]


class Inspection(Record):
    """inspection.json: what can be seen of a model while it reads a passage."""

    passage: InspectedPassage
    surprisal: list[TokenSurprisal]
    attention: Attention | None = Field(description="null for a bigram")
    lens: Lens | None = Field(description="null for a bigram")
    embeddings: Embeddings
    positions: Positions | None = Field(description="null without learned positions")
    bigram: BigramTable | None = Field(description="null for a GPT")

    def write(self, path: Path) -> None:
        """Write it on one line: it is for a page, and indented it is three times as long."""
        files.write_text(path, self.model_dump_json() + "\n")
