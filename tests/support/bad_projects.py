"""Bad names, parameters, texts and outputs of stages; the commands run in the root of a small project."""

import os
from pathlib import Path

from tests.support.bad_input import (
    BUNDLE,
    LONG,
    OWN,
    PARAMS,
    RIGHTS,
    Fault,
    become_a_file,
    both,
    corpus,
    cut,
    forbid,
    remove,
    replace,
    write,
)

MODELS = [
    Fault(
        "gptmodel compare pairs",
        "one model only",
        "name two models or more, for example: gptmodel compare gpt-char baselines",
    ),
    Fault(
        "gptmodel compare trios pairs",
        "no such model",
        "trios is no model: give a name under models/ (none is evaluated here), baselines, a folder "
        "with surprisal.safetensors, REVISION:NAME or run:RUN_ID",
    ),
    Fault(
        "gptmodel sync trios",
        "no such model",
        "models/trios/training/checkpoint/meta.json does not exist: train the model first (dvc repro), or `dvc pull`",
    ),
    Fault(
        "gptmodel register trios",
        "no such model",
        "models/trios/bundle is not a folder: name that of a bundle (models/NAME/bundle), or run `dvc pull`",
    ),
    Fault("python recipes/apply.py hugoo", "no such recipe", "unknown recipe 'hugoo' in recipes/: did you mean hugo?"),
    Fault(
        "python recipes/apply.py --loud",
        "no such option",
        "unrecognized arguments: --loud (see `python recipes/apply.py --help`)",
    ),
    Fault(
        "python recipes/apply.py hugo",
        "own changes would be lost",
        "params.yaml has changes that would be lost: keep them with `cp params.yaml recipes/mine.yaml`, "
        "or drop them with --force",
    ),
    Fault("python -m gptmodel.params a b", "two files", "python -m gptmodel.params takes one file, not 'a b'"),
    Fault(
        "python -m gptmodel.params",
        "a misspelled key",
        "params.yaml: sed: unknown key: did you mean seed?",
        lambda: replace(PARAMS, "seed:", "sed:"),
    ),
    Fault(
        "python -m gptmodel.params",
        "no YAML",
        "params.yaml, line 1: not valid YAML: expected the node content, but found '<stream end>'",
        write(PARAMS, "a: ["),
    ),
    Fault(
        "python -m gptmodel.params",
        "no such file",
        "params.yaml does not exist: run from the repository's root",
        remove(PARAMS),
    ),
]
FETCH = [
    Fault(
        "python -m pipelines.fetch now",
        "an argument too many",
        "python -m pipelines.fetch takes no argument, not 'now': change params.yaml instead",
    ),
    Fault(
        "python -m pipelines.fetch",
        "a misspelled name",
        "corpus: 'miserable' is neither in data/catalog.yaml nor an existing .txt file or folder: did "
        "you mean miserables? the catalog has dernier-jour, miserables, capitaine-de-quinze-ans, "
        "wilhelm-storitz, tinyshakespeare",
        corpus("miserable"),
    ),
    Fault(
        "python -m pipelines.fetch",
        "not plain text",
        "corpus: a.pdf is not a .txt file: save your text as plain text (.txt)",
        both(corpus("a.pdf"), write("a.pdf")),
    ),
    Fault(
        "python -m pipelines.fetch",
        "an empty folder",
        "corpus: empty holds no .txt file: put your text there as plain text (.txt)",
        both(corpus("empty"), lambda: Path("empty").mkdir()),
    ),
    Fault(
        "python -m pipelines.fetch",
        "nobody's home",
        "corpus: ~nosuchuser/x.txt names the home of nobody known here: give the whole path",
        corpus("~nosuchuser/x.txt"),
    ),
    Fault(
        "python -m pipelines.fetch",
        "a name beyond what disks take",
        f"{LONG}.txt cannot be used (File name too long): choose a shorter name",
        corpus(f"{LONG}.txt"),
    ),
    Fault(
        "python -m pipelines.fetch",
        "no right to read the file",
        f"data/own/roman.txt {RIGHTS}",
        forbid(OWN / "roman.txt"),
    ),
    Fault(
        "python -m pipelines.fetch",
        "no right to read the folder",
        f"data/own {RIGHTS}",
        both(corpus("data/own"), forbid(OWN)),
    ),
    Fault(
        "python -m pipelines.fetch",
        "a link that leads nowhere",
        "data/own/b.txt is no plain file (a link that leads nowhere, a pipe or a device): remove it",
        both(corpus("data/own"), lambda: (OWN / "b.txt").symlink_to("b.txt")),
    ),
    Fault(
        "python -m pipelines.fetch",
        "a pipe",
        "data/own/b.txt is no plain file (a link that leads nowhere, a pipe or a device): remove it",
        both(corpus("data/own"), lambda: os.mkfifo(OWN / "b.txt")),
    ),
    Fault(
        "python -m pipelines.fetch",
        "a name that is not UTF-8",
        "the name of data/own/\\udce9.txt is not UTF-8: rename it",
        both(corpus("data/own"), lambda: write(os.fsdecode(b"data/own/\xe9.txt"))()),
    ),
    Fault(
        "python -m pipelines.fetch",
        "a folder that has the name of a file of fetch",
        "data/own/corpus.json is a folder, but fetch writes a file of this name: rename it",
        both(corpus("data/own"), write(OWN / "corpus.json" / "a.txt")),
    ),
]
STAGES = [
    Fault(
        "python -m pipelines.clean",
        "fetch has not run",
        "data/raw/corpus.json does not exist: run the fetch stage (python -m pipelines.fetch)",
        remove("data/raw"),
    ),
    Fault(
        "python -m pipelines.clean",
        "a text too short",
        "roman.txt (after cleaning) has only 292 characters: at least 2,000 are needed, so that the "
        "validation and test splits hold one window each; add more text",
        cut("data/raw/roman.txt", 300),
    ),
    Fault(
        "python -m pipelines.clean",
        "zeros in it",
        "roman.txt is a binary file (byte 0 is zero): save it as plain text (.txt)",
        write("data/raw/roman.txt", b"\0" * 3000),
    ),
    Fault(
        "python -m pipelines.clean",
        "a damaged text",
        "roman.txt is not UTF-8 (byte 4,000 is bad; the rest of the file is UTF-8): save it as UTF-8",
        write("data/raw/roman.txt", "é".encode() * 2000 + b"\xc3"),
    ),
    Fault(
        "python -m pipelines.encode syllable", "no such level", "unknown level 'syllable': give one of char, word, bpe"
    ),
    Fault(
        "python -m pipelines.encode char",
        "clean has not run",
        "data/clean/text/text.json does not exist: run `dvc repro` from clean on",
        remove("data/clean"),
    ),
    Fault(
        "python -m pipelines.encode char",
        "a text changed by hand",
        "data/clean/text/train.txt was altered (its SHA-256 differs from text.json): run the clean stage again",
        cut("data/clean/text/train.txt", 99),
    ),
    Fault(
        "python -m pipelines.encode char",
        "facts cut off",
        "data/clean/text/text.json is damaged (EOF while parsing a string at line 2 column 4): run `dvc "
        "repro` from clean on",
        cut("data/clean/text/text.json", 6),
    ),
    Fault(
        "python -m pipelines.train",
        "which model?",
        "python -m pipelines.train takes one argument: a name under models: in params.yaml",
    ),
    Fault(
        "python -m pipelines.train trios", "no such model", "unknown model 'trios': params.yaml has pairs under models:"
    ),
    Fault(
        "python -m pipelines.train pairs",
        "encode has not run",
        "data/tokens/char/tokenizer.json does not exist: run the encode stage, or copy the whole bundle",
        remove("data/tokens"),
    ),
    Fault(
        "python -m pipelines.train pairs",
        "ids cut off",
        "data/tokens/char/train.npy cannot be read (mmap length is greater than file size): run `dvc "
        "repro` from encode on",
        cut("data/tokens/char/train.npy", 200),
    ),
    Fault(
        "python -m pipelines.train pairs",
        "no right to read",
        f"data/tokens/char/tokenizer.json {RIGHTS}",
        forbid("data/tokens/char/tokenizer.json"),
    ),
    Fault(
        "python -m pipelines.train pairs",
        "a file where a folder should be",
        ".resume cannot be used (File exists): a folder is needed there, so move that file away",
        become_a_file(".resume"),
    ),
    Fault(
        "python -m pipelines.train pairs",
        "a file where a folder should be",
        "models/pairs cannot be used (File exists): a folder is needed there, so move that file away",
        become_a_file("models/pairs"),
    ),
    Fault(
        "python -m pipelines.baselines",
        "encode has not run",
        "data/tokens/char/tokenizer.json does not exist: run the encode stage, or copy the whole bundle",
        remove("data/tokens"),
    ),
    Fault(
        "python -m pipelines.evaluate pairs",
        "train has not run",
        "models/pairs/training/checkpoint/meta.json does not exist: train the model first (dvc repro)",
        remove("models/pairs/training"),
    ),
    Fault(
        "python -m pipelines.inspect pairs",
        "train has not run",
        "models/pairs/training/checkpoint/meta.json does not exist: train the model first (dvc repro)",
        remove("models/pairs/training"),
    ),
    Fault(
        "python -m pipelines.export pairs",
        "train has not run",
        "models/pairs/training/checkpoint/meta.json does not exist: train the model first (dvc repro)",
        remove("models/pairs/training"),
    ),
    Fault(
        "python -m pipelines.benchmark pairs",
        "export has not run",
        "models/pairs/bundle is not a folder: name that of a bundle (models/NAME/bundle), or run `dvc pull`",
        remove(BUNDLE),
    ),
    Fault(
        "python -m pipelines.report",
        "a model's stages have not run",
        "data/baselines/baselines.json does not exist: run `dvc repro`, or `dvc pull`",
        remove("models/pairs"),
    ),
]
