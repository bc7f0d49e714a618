"""Valid records of every kind, of three small models and one text, as the stages would write them.

Each function gives one record; `runs.py` puts those of a whole run together and lays them on disk. Figures are round
and follow from `bits`, the score on every split, so that a test can tell them apart. A renamed field fails here,
whatever uses it. To change a record, `model_copy(update={...})`.
"""

import base64
import re
from typing import Any

from gptmodel import params
from gptmodel.results import bundle, corpus, evaluation, samples, training

PASSAGE = "Un été 𝄞 à Paris. Il pleut, dit-on, sur les toits !\nPuis rien ; la nuit, et le vent. " * 3
NASTY = "</script><script>alert(1)</script><!-- {{ data }} & « fin »"
NATS = 0.69315  # of a bit
CHARACTERS = 100  # of validation, and of test
MODELS: dict[str, tuple[float, params.Level]] = {"pairs": (3.5, "char"), "gpt": (2.0, "char"), "word": (2.1, "word")}
PARAMETERS = {"pairs": 100, "gpt": 3000, "word": 2000}
TRAINING: dict[str, Any] = {
    **{"steps": 20, "batch_size": 4, "windows": "shuffled", "learning_rate": 0.01, "muon_learning_rate": 0.0},
    **{"warmup_steps": 2, "warmdown": 0.5, "schedule": "linear", "final_rate": 0.0, "weight_decay": 0.1},
    **{"beta2": 0.95, "gradient_clip": 1.0, "evaluate_every": 10},
}
GPT: dict[str, Any] = {
    **{"network": "gpt", "context": 12, "n_layer": 2, "n_head": 2, "n_embd": 32, "n_hidden": 48},
    **{"norm": "layernorm", "positions": "learned", "mlp": "gelu", "qk_norm": False, "bias": True},
    **{"tie_embeddings": True, "init": "gpt2", "dropout": 0.0},
}


def splits(has_test: bool = True) -> dict[corpus.SplitName, corpus.SplitText]:
    """Return the splits of the text; without a test text the test split is empty."""
    lengths: dict[corpus.SplitName, int] = {"train": 1000, "validation": CHARACTERS, "test": CHARACTERS * has_test}
    return {name: corpus.SplitText(characters=length, sha256="0" * 64) for name, length in lengths.items()}


def clean_corpus(has_test: bool = True) -> corpus.CleanCorpus:
    """Return the title page of a text whose author is not known."""
    return corpus.CleanCorpus(
        title="Le <b>Toit</b>",
        author=None,
        year=None,
        language="fr",
        licence="public domain",
        source="here",
        name="toit",
        files=[corpus.TextFile(name="toit.txt", bytes=1300, sha256="1" * 64)],
        typography="fr",
        characters=sum(split.characters for split in splits(has_test).values()),
        splits=splits(has_test),
    )


def meta(name: str = "gpt", has_test: bool = True) -> training.Meta:
    """Return what is known of the weights of one of `MODELS`: "pairs" is a bigram, the others are GPTs."""
    level = MODELS[name][1]
    model: params.Model
    if name == "pairs":
        model = params.BigramModel(network="bigram", context=12, tokenizer=level, **TRAINING)
    else:
        model = params.GPTModel(tokenizer=level, **GPT, **TRAINING)
    return training.Meta(
        name=name,
        model=model,
        engine=params.Engine(precision="float32", execution="eager", nonfinite="stop"),
        seed=1,
        vocab_size=23,
        tokenizer_sha256="2" * 64,
        text=corpus.TextFacts(name="toit", language="fr", typography="fr", splits=splits(has_test)),
        fingerprint="3" * 16,
        best_step=20,
        validation_loss_nats=MODELS[name][0] * NATS,
        weights_sha256="4" * 64,
    )


def speed() -> training.Speed:
    """Return how fast a training of 7 minutes went."""
    return training.Speed(
        seconds=425.4,
        tokens_per_second=12345,
        gflops_per_second=100.0,
        matrix_gflops_per_second=1000.0,
        share_of_matrix_rate=0.1,
        processes=1,
        device="cpu",
        precision="float32",
        execution="eager",
        threads=1,
    )


def history(bits: float = 2.0) -> list[training.Point]:
    """Return three points of a training that ends at a validation score of `bits`."""
    scores = {0: (None, 6.5), 10: (4.0, bits + 1), 20: (bits, bits)}
    return [
        training.Point(
            step=step,
            tokens=48 * step,
            characters=48 * step,
            train_loss_nats=train and train * NATS,
            validation_loss_nats=validation * NATS,
            train_bits_per_char=train,
            validation_bits_per_char=validation,
            learning_rate=0.01,
        )
        for step, (train, validation) in scores.items()
    ]


def sample(text: str = f"𝄞n toit {NASTY}") -> samples.Sample:
    """Return a sample that continues "Il "."""
    return samples.Sample(prompt="Il ", text=text, temperature=0.7, seed=1)


def timeline() -> training.Timeline:
    """Return the samples of the first and the last evaluation."""
    entries = [(0, 6.5, "zzz"), (20, 4.25, "toit\nfin")]
    return training.Timeline(
        entries=[training.TimelineEntry(step=n, bits_per_char=bits, sample=sample(text)) for n, bits, text in entries]
    )


def score(bits: float = 2.0) -> evaluation.SplitScore:
    """Return a score of `bits`, a tenth of a bit wide on either side."""
    return evaluation.SplitScore(
        loss_nats=bits * NATS,
        bits_per_char=bits,
        bits_per_byte=bits * 0.97,
        word_perplexity=9.0,
        tokens=CHARACTERS,
        characters=CHARACTERS,
        bits_per_char_low=bits - 0.1,
        bits_per_char_high=bits + 0.1,
        sliding_bits_per_char=bits - 0.01,
        dynamic_bits_per_char=bits - 0.02,
        unigram_bits_per_char=4.5,
        bigram_bits_per_char=3.4,
        lines_in_training=0.0,
    )


def metrics(
    bits: float = 2.0, has_test: bool = True, validation: float | None = None, parameters: int = 1000
) -> evaluation.Metrics:
    """Return the scores of a model: `bits` on test, and on validation unless that is given."""
    return evaluation.Metrics(
        best_step=20,
        parameters=parameters,
        validation=score(bits if validation is None else validation),
        test=score(bits) if has_test else None,
    )


def breakdown(bits: float = 2.0, split: evaluation.Scored = "test") -> evaluation.Breakdown:
    """Return where the bits go: three bins of positions, two classes of characters."""
    bins = [(1, 1, 1.0), (2, 2, 2.0), (3, 12, 6.0)]
    return evaluation.Breakdown(
        fingerprint="3" * 16,
        split=split,
        by_position=[
            evaluation.PositionBin(
                first=first,
                last=last,
                tokens_seen=middle,
                tokens=9,
                nats_per_token=bits * NATS,
                bits_per_char=bits + 1 / middle,
            )
            for first, last, middle in bins
        ],
        by_class=[
            evaluation.ClassShare(name=name, characters=9, share=share, bits_per_char=bits, share_of_bits=of_bits)
            for name, share, of_bits in [("letters", 0.8, 0.7), ("spaces", 0.2, 0.3)]
        ],
        worst=[evaluation.Passage(start=0, text="Hapax", bits_per_char=5.0)],
        best=[evaluation.Passage(start=9, text="de la", bits_per_char=0.5)],
    )


def novelty(written: samples.Samples, warnings: list[str] | None = None) -> evaluation.Novelty:
    """Return the novelty of samples that each copied characters 3 to 7; no lexicon of the language was there."""
    figures: dict[str, Any] = {
        **{"words": 9, "words_in_training": 0.25, "words_in_lexicon": None, "words_known": 0.25},
        **{"distinct_words": 0.25, "repetition": 0.25, "copied_8_word_sequences": 0.25},
        **{"longest_copy_characters": 4, "longest_copy_text": "toit"},
    }
    copies = [evaluation.Copy(start=3, end=7, train_start=0)]
    return evaluation.Novelty(
        samples=evaluation.NoveltyFigures(**figures),
        held_out=evaluation.NoveltyFigures(**figures),
        per_sample=[
            evaluation.SampleNovelty(prompt=s.prompt, temperature=s.temperature, seed=s.seed, copies=copies, **figures)
            for s in written.samples
        ],
        warnings=warnings or [],
    )


def baselines(has_test: bool = True) -> evaluation.Baselines:
    """Return four baselines, of which kneser-ney-3 is best with 2.1 bits on every split."""
    scores = [
        evaluation.BaselineScore(
            name=name,
            kind="static",
            order=order,
            bits_per_char=bits,
            bits_per_byte=bits * 0.97,
            loss_nats=bits * NATS,
        )
        for order, (name, bits) in enumerate(
            [("uniform", 6.5), ("unigram", 4.5), ("bigram", 3.4), ("kneser-ney-3", 2.1)]
        )
    ]
    scored: list[evaluation.Scored] = ["validation", "test"] if has_test else ["validation"]
    return evaluation.Baselines(best="kneser-ney-3", splits=dict.fromkeys(scored, scores))


def spans(level: params.Level) -> list[tuple[int, int]]:
    """Cut the passage into characters or words; the first é of the words is two tokens of one byte each."""
    if level == "char":
        return [(i, i + 1) for i in range(len(PASSAGE))]
    words = [match.span() for match in re.finditer(r" ?[^\s]+|\s", PASSAGE)]
    cut = PASSAGE.index("é")
    return [
        span for word in words for span in ([(word[0], cut + 1), (cut, word[1])] if word[0] < cut < word[1] else [word])
    ]


def inspection(name: str = "gpt", split: evaluation.Scored = "test") -> evaluation.Inspection:
    """Return the inspection of one of `MODELS`; "gpt" learned positions, "word" turned its tokens (rotary)."""
    is_bigram = name == "pairs"
    cut = spans(MODELS[name][1])
    tokens = [PASSAGE[start:end] for start, end in cut][:12]
    top = [("x", 0.5), ("\n", 0.2), (NASTY, 0.1), (" le", 0.05), ("e", 0.01)]
    weights = bytes(255 // (query + 1) if key <= query else 0 for query in range(12) for key in range(12))
    heads = [base64.b64encode(weights).decode()] * 2
    lens = evaluation.Lens(
        tokens=tokens,
        targets=[*tokens[1:], "."],
        layers=["embedding", "block 1", "block 2"],
        top=[[top[:3]] * 12] * 3,
        nats=[5.0, 3.0, 1.5],
    )
    points = [("e", 0.0, 0.0, "letters"), ("E", 1.0, 0.5, "capitals"), (" ", -1.0, 2.0, "spaces")]
    positions = evaluation.Positions(points=[[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]], explained=[0.6, 0.2])
    table = evaluation.BigramTable(
        characters=["q", "u"], counted=[[0.0, 1.0], [0.25, 0.75]], learned=[[0.01, 0.99], [0.2, 0.8]]
    )
    return evaluation.Inspection(
        passage=evaluation.InspectedPassage(split=split, start=0, text=PASSAGE),
        surprisal=[
            evaluation.TokenSurprisal(start=start, end=end, nats=NATS * (1 + start % 5), top=top) for start, end in cut
        ],
        attention=None if is_bigram else evaluation.Attention(tokens=tokens, layers=[heads, heads]),
        lens=None if is_bigram else lens,
        embeddings=evaluation.Embeddings(points=points, explained=[0.2, 0.1]),
        positions=positions if name == "gpt" else None,
        bigram=table if is_bigram else None,
    )


def benchmark() -> bundle.Benchmark:
    """Return the speed of a bundle with one graph, at one and at eight sequences."""
    figures: dict[str, Any] = {
        **{"load_ms": 9.0, "first_token_latency_ms": 1.0, "peak_memory_mb": 90.0, "model_mb": 2.5},
        "tokens_per_second": {"batch_1": 900.5, "batch_8": 3000.0},
    }
    return bundle.Benchmark(
        graph="fp32",
        host_share={"batch_1": 0.25, "batch_8": 0.125},
        parameters=1000,
        workload=bundle.Workload(
            prompt_tokens=4,
            new_tokens=8,
            batch_sizes=[1, 8],
            repeats=3,
            sampling=bundle.Sampled(temperature=0.8, top_k=0, top_p=0.95, repetition_penalty=1.0),
        ),
        machine=bundle.Machine(
            processor="a processor",
            cores=2,
            system="Linux x86_64",
            python="3.12.0",
            onnxruntime="1.30.0",
            numpy="2.4.0",
            device="cpu",
            threads=1,
        ),
        graphs={"fp32": bundle.GraphSpeed(**figures)},
        **figures,
    )
