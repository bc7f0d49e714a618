"""Bad options and bundles; the commands run in the root of a small project with the model `pairs`."""

import json

from tests.support.bad_input import BUNDLE, COPY, LONG, RIGHTS, Fault, cut, end_with, forbid, remove, write


def newer() -> None:
    values = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    (BUNDLE / "bundle.json").write_text(json.dumps(values | {"format_version": 99}), encoding="utf-8")


OPTIONS = [
    Fault("gptmodel sing", "no such command", "no such command 'sing' (see `gptmodel --help`)"),
    Fault("gptmodel generate", "an argument is missing", "missing argument 'BUNDLE' (see `gptmodel generate --help`)"),
    Fault(
        "gptmodel generate models/pairs x --seed abc",
        "no number",
        "invalid value for '--seed': Input should be a valid integer, unable to parse string as an "
        "integer (see `gptmodel generate --help`)",
    ),
    Fault("gptmodel info models/pairs --loud", "no such option", "no such option: --loud (see `gptmodel info --help`)"),
    Fault("gptmodel generate models/pairs x --num-samples 0", "too few", "--num-samples must be 1 or above, not 0"),
    Fault(
        "gptmodel generate models/pairs x --max-new-tokens 0", "too few", "--max-new-tokens must be 1 or above, not 0"
    ),
    Fault(
        "gptmodel generate models/pairs x --temperature -1",
        "below the least",
        "--temperature must be 0 (the likeliest token) or above, not -1.0",
    ),
    Fault(
        "gptmodel generate models/pairs x --top-p 0",
        "below the least",
        "--top-p must be above 0 and at most 1 (all tokens), not 0.0",
    ),
    Fault(
        "gptmodel generate models/pairs x --repetition-penalty 1e308",
        "beyond sense",
        "--repetition-penalty must be between 1e-09 and 1e+09 (1: none), not 1e+308",
    ),
    Fault(
        "gptmodel generate models/pairs x --threads 100000",
        "beyond sense",
        "threads must be between 1 and 1,024, not 100000: one for each core is the most",
    ),
    Fault(
        "gptmodel generate models/pairs x --stop ''",
        "nothing to stop at",
        "--stop must not be empty: a stop string is at least one character",
    ),
    Fault("gptmodel generate models/pairs x --graph int3", "no such graph", "graph int3: this bundle has portable"),
    Fault(
        "gptmodel generate models/pairs x --prompts-file p.txt",
        "prompts twice",
        "give prompts as arguments or with --prompts-file, not both",
    ),
    Fault(
        "gptmodel generate models/pairs --prompts-file p.txt",
        "no such file",
        "p.txt cannot be read (No such file or directory): name a text file with one prompt per line",
    ),
    Fault(
        "gptmodel generate models/pairs --prompts-file data",
        "a folder",
        "data cannot be read (Is a directory): name a text file with one prompt per line",
    ),
    Fault(
        "gptmodel generate models/pairs --prompts-file p.txt",
        "no prompt in it",
        "p.txt holds no prompt: write one per line",
        write("p.txt", "\n \n"),
    ),
    Fault(
        "gptmodel generate models/pairs --prompts-file p.txt",
        "not UTF-8",
        "p.txt is not UTF-8 (byte 2): save it as UTF-8",
        write("p.txt", b"ab\xe9"),
    ),
]
BUNDLES = [
    Fault(
        "gptmodel generate nowhere x",
        "no such folder",
        "nowhere is not a folder: name that of a bundle (models/NAME/bundle), or run `dvc pull`",
    ),
    Fault(
        "gptmodel serve nowhere",
        "no such folder",
        "nowhere is not a folder: name that of a bundle (models/NAME/bundle), or run `dvc pull`",
    ),
    Fault(
        f"gptmodel info {LONG}",
        "a name beyond what disks take",
        f"{LONG}/bundle/bundle.json cannot be used (File name too long): choose a shorter name",
    ),
    Fault(
        "gptmodel info data",
        "a folder without bundle",
        "data/bundle.json does not exist, so data is no bundle: name models/NAME or its bundle/, or "
        "make one (`dvc repro`)",
    ),
    Fault(
        "gptmodel generate models/pairs x",
        "a model that was not exported",
        "models/pairs/bundle.json does not exist, so models/pairs is no bundle: name models/NAME or its "
        "bundle/, or make one (`dvc repro`)",
        remove(BUNDLE),
    ),
    Fault(
        "gptmodel info models/pairs",
        "bundle.json cut off",
        f"{BUNDLE}/bundle.json is damaged (Unterminated string starting at: line 5 column 12 (char 87)): {COPY}",
        cut(BUNDLE / "bundle.json", 90),
    ),
    Fault(
        "gptmodel info models/pairs",
        "another program's JSON",
        "models/pairs/bundle/bundle.json does not describe a gptmodel bundle: name a folder written by "
        "the export stage",
        write(BUNDLE / "bundle.json", "{}"),
    ),
    Fault(
        "gptmodel info models/pairs",
        "a later gptmodel's",
        "models/pairs/bundle/bundle.json has format_version 99, this gptmodel reads 4: install the "
        "version of gptmodel that wrote it, or export the model again",
        newer,
    ),
    Fault(
        "gptmodel info models/pairs",
        "a file is missing",
        f"{BUNDLE}/model.onnx does not exist: {COPY}",
        remove(BUNDLE / "model.onnx"),
    ),
    Fault(
        "gptmodel info models/pairs",
        "a file cut off",
        f"{BUNDLE}/model.onnx has 99 bytes instead of 4,024 (a broken copy?): {COPY}",
        cut(BUNDLE / "model.onnx", 99),
    ),
    Fault(
        "gptmodel generate models/pairs x",
        "a byte changed",
        f"{BUNDLE}/model.onnx was altered (its SHA-256 differs from bundle.json): {COPY}",
        end_with(BUNDLE / "model.onnx", b"?"),
    ),
    Fault(
        "gptmodel generate models/pairs x",
        "a byte changed",
        f"{BUNDLE}/tokenizer.json was altered (its SHA-256 differs from bundle.json): {COPY}",
        end_with(BUNDLE / "tokenizer.json", b"?"),
    ),
    Fault(
        "gptmodel generate models/pairs x",
        "no right to read",
        f"{BUNDLE}/bundle.json {RIGHTS}",
        forbid(BUNDLE / "bundle.json"),
    ),
    Fault(
        "gptmodel generate models/pairs x",
        "no right to read",
        f"{BUNDLE}/tokenizer.json {RIGHTS}",
        forbid(BUNDLE / "tokenizer.json"),
    ),
    Fault(
        "gptmodel generate models/pairs x",
        "no right to read",
        f"{BUNDLE}/model.onnx {RIGHTS}",
        forbid(BUNDLE / "model.onnx"),
    ),
    Fault(
        "gptmodel info models/pairs",
        "no right to enter",
        f"{BUNDLE}/bundle.json {RIGHTS}",
        forbid(BUNDLE),
    ),
]
