"""Records of one model with figures that can be told apart, for its model card and its bundle."""

from typing import Any

from gptmodel.export.model_card import Results
from gptmodel.params import BigramModel, Engine, GPTModel, Model
from gptmodel.results.corpus import CleanCorpus, SplitName, SplitText, TextFacts, TextFile
from gptmodel.results.evaluation import (
    Baselines,
    BaselineScore,
    Breakdown,
    ClassShare,
    Metrics,
    Novelty,
    NoveltyFigures,
    SampleNovelty,
    SplitScore,
)
from gptmodel.results.training import Meta

NETWORK: dict[str, Any] = {"network": "gpt", "context": 77, "n_layer": 1, "n_head": 1, "n_embd": 16, "n_hidden": 64}
NETWORK |= {"norm": "layernorm", "positions": "learned", "mlp": "gelu", "qk_norm": False, "bias": True}
NETWORK |= {"tie_embeddings": True, "init": "gpt2", "dropout": 0.25}
TRAINING: dict[str, Any] = {"steps": 90, "batch_size": 3, "windows": "random", "learning_rate": 0.0125}
TRAINING |= {"muon_learning_rate": 0.0, "warmup_steps": 7, "warmdown": 0.625, "schedule": "cosine", "final_rate": 0.05}
TRAINING |= {"weight_decay": 0.1, "beta2": 0.99, "gradient_clip": 1.0, "evaluate_every": 30}
BIGRAM = BigramModel(network="bigram", context=64, tokenizer="char", **TRAINING)
ENGINE = Engine(precision="float32", execution="eager", nonfinite="stop")

SPLITS: dict[SplitName, SplitText] = {
    "train": SplitText(characters=12345, sha256="1" * 64),
    "validation": SplitText(characters=678, sha256="2" * 64),
    "test": SplitText(characters=901, sha256="3" * 64),
}
CORPUS = CleanCorpus(
    name="conte",
    title='Le Conte "bleu" : suite',
    author="Une Autrice",
    year=1871,
    language="fr",
    licence="public domain",
    source="a shelf",
    typography="fr",
    files=[TextFile(name="conte.txt", bytes=9, sha256="ab" * 32)],
    characters=13924,
    splits=SPLITS,
)
SCORE = SplitScore(
    loss_nats=1.5,
    bits_per_char=2.1234,
    bits_per_byte=2.0111,
    word_perplexity=99.0,
    tokens=9,
    characters=901,
    bits_per_char_low=2.0456,
    bits_per_char_high=2.2341,
    sliding_bits_per_char=2.1017,
    dynamic_bits_per_char=2.0999,
    unigram_bits_per_char=4.5018,
    bigram_bits_per_char=3.3019,
    lines_in_training=0.0,
)
COUNTED = {"uniform": 6.5021, "unigram": 4.7, "kneser-ney-3": 2.3022}
FIGURES: dict[str, Any] = {"words": 50, "words_in_training": 0.9, "words_in_lexicon": 0.95, "words_known": 0.971}
FIGURES |= {"distinct_words": 0.705, "repetition": 0.012, "copied_8_word_sequences": 0.034}
FIGURES |= {"longest_copy_characters": 41, "longest_copy_text": "un | deux\n`trois`"}


def meta(model: Model | None = None, **changes: Any) -> Meta:
    """Return what is known of the weights of a model."""
    values: dict[str, Any] = {
        "name": "petit",
        "model": model or GPTModel(tokenizer="word", **NETWORK, **TRAINING),
        "engine": ENGINE,
        "seed": 5,
        "vocab_size": 321,
        "tokenizer_sha256": "c" * 64,
        "text": TextFacts(name="conte", language="fr", typography="fr", splits=SPLITS),
        "fingerprint": "f00d",
        "best_step": 60,
        "weights_sha256": "d" * 64,
    }
    return Meta(**(values | changes))


def results(
    described: Meta | None = None,
    corpus: CleanCorpus = CORPUS,
    has_test: bool = True,
    warnings: tuple[str, ...] = (),
    prompt: str = "Il ",
) -> Results:
    """Return what the stages found out about a model."""
    counted = [
        BaselineScore(name=name, kind="static", order=0, bits_per_char=bits, bits_per_byte=bits, loss_nats=bits)
        for name, bits in COUNTED.items()
    ]
    sample = SampleNovelty(prompt=prompt, temperature=0.8, seed=1, copies=[], **FIGURES)
    return Results(
        meta=described or meta(),
        corpus=corpus,
        metrics=Metrics(best_step=60, parameters=4096, validation=SCORE, test=SCORE if has_test else None),
        breakdown=Breakdown(
            fingerprint="f00d",
            split="test" if has_test else "validation",
            by_position=[],
            by_class=[ClassShare(name="letters", characters=650, share=0.721, bits_per_char=2.08, share_of_bits=0.756)],
            worst=[],
            best=[],
        ),
        novelty=Novelty(
            samples=NoveltyFigures(**FIGURES),
            held_out=NoveltyFigures(**FIGURES),
            per_sample=[sample],
            warnings=list(warnings),
        ),
        baselines=Baselines(
            best="kneser-ney-3",
            splits={"validation": counted, "test": counted} if has_test else {"validation": counted},
        ),
    )
