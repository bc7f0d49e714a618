import json
import os
import re
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gptmodel.cli.app import app
from gptmodel.results.evaluation import Metrics, SplitScore
from tests.support.bundles import TEXT, chain, char_tokenizer, random_network, write

LETTERS = char_tokenizer()
RUN = [sys.executable, "-m", "gptmodel"]
NOT_AT_RUN_TIME = [
    "torch",
    "onnx",
    "yaml",
    "mlflow",
    "pandas",
    "safetensors",
    "matplotlib",
    "dvc",
]  # pydantic comes with typer


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    score = SplitScore.model_validate(dict.fromkeys(SplitScore.model_fields, 1234) | {"bits_per_char": 2.5})
    metrics = Metrics(best_step=3, parameters=1, validation=score, test=score)
    folder = tmp_path_factory.mktemp("cli") / "bundle"
    return write(folder, random_network("modern", LETTERS), LETTERS, metrics=metrics)


@pytest.fixture(scope="module")
def reciter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("cli") / "bundle", chain(LETTERS, "demant' ?l\n"), LETTERS)


def run(*arguments: object, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def generate(bundle: Path, *arguments: object, stdin: str | bytes = "") -> Result:
    return run("generate", bundle, "--device", "cpu", "--max-new-tokens", 9, *arguments, stdin=stdin)


def test_text_goes_to_stdout_and_the_rest_to_stderr(reciter: Path) -> None:
    result = generate(reciter, "de", "--temperature", 0, "--seed", 4)
    assert result.stdout == "demant' ?l\n\n"
    assert result.stderr == f"{reciter}: essai, portable on cpu, seed 4\n"


def test_the_same_seed_gives_the_same_text_and_none_a_random_one_that_is_shown(bundle: Path) -> None:
    first, again = (generate(bundle, "l'île", "--max-new-tokens", 40, "--seed", 5) for _ in range(2))
    assert first.stdout == again.stdout
    free = generate(bundle, "l'île", "--max-new-tokens", 40)
    (seed,) = re.findall(r"seed (\d+)$", free.stderr.strip())
    assert free.stdout == generate(bundle, "l'île", "--max-new-tokens", 40, "--seed", seed).stdout != first.stdout


def test_several_texts_are_separated_by_lines(reciter: Path) -> None:
    result = generate(reciter, "de", "ma", "--temperature", 0, "--num-samples", 2, "--max-new-tokens", 2)
    assert result.stdout == "dema\n---\ndema\n---\nmant\n---\nmant\n"


def test_json_lines_hold_everything_needed_to_get_the_text_again(bundle: Path) -> None:
    result = generate(bundle, "l'île", "Où", "--num-samples", 2, "--seed", 3, "--json", "--stop", "e")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["prompt"], line["sample"]) for line in lines] == [("l'île", 0), ("l'île", 1), ("Où", 0), ("Où", 1)]
    assert {line["seed"] for line in lines} == {3}
    assert {line["bundle"] for line in lines} == {str(bundle)}
    for line in lines:
        assert line["finish_reason"] == ("length" if line["tokens"] == len(line["text"]) == 9 else "stop")
        assert "e" not in line["text"]
    streamed = generate(bundle, "Où", "--seed", 3, "--stop", "e")
    assert streamed.stdout == "Où" + lines[2]["text"] + "\n"


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_standard_input_is_one_prompt(reciter: Path, arguments: list[Any]) -> None:
    how = ["--temperature", 0, "--max-new-tokens", 3]
    assert generate(reciter, *arguments, *how, stdin="l\nde\n").stdout == "l\ndeman\n"
    assert generate(reciter, *arguments, *how, stdin=b"\xef\xbb\xbfl\r\nde\r\n").stdout == "l\ndeman\n"
    assert generate(reciter, *arguments, *how, stdin="").stdout == "dem\n"


def test_a_file_holds_one_prompt_per_line(reciter: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"de\r\n\nma")
    how = ["--temperature", 0, "--max-new-tokens", 3]
    expected = "deman\n---\nmant'\n"
    assert generate(reciter, "--prompts-file", tmp_path / "prompts.txt", *how).stdout == expected
    assert generate(reciter, "--prompts-file", "-", *how, stdin="de\nma\n").stdout == expected


def test_a_stop_string_may_be_given_several_times_and_as_an_escape(reciter: Path) -> None:
    how = ["--temperature", 0, "--max-new-tokens", 30]
    assert generate(reciter, "de", "--stop", "?l", "--stop", "t'", *how).stdout == "deman\n"
    assert generate(reciter, "de", "--stop", "\\n", *how).stdout == "demant' ?l\n"


def test_unknown_characters_are_named_once(bundle: Path) -> None:
    result = generate(bundle, "l'☃île", "☃€", "--seed", 1)
    assert result.exit_code == 0
    _, note = result.stderr.splitlines()
    assert note == "note: left out of the prompts, as the model has never seen them: '☃' '€'"


def test_a_very_long_prompt_and_a_text_past_the_context(bundle: Path) -> None:
    result = generate(bundle, "--max-new-tokens", 50, stdin=(TEXT * 2000)[:100_000])
    assert result.exit_code == 0
    assert len(result.stdout) == 100_000 + 50 + 1
    _, note = result.stderr.splitlines()
    assert re.fullmatch(r"note: the longest prompt has \d\d?\d?,\d{3} tokens: the model sees the last 12 at most", note)


def test_the_fastest_graph_is_taken_unless_another_is_named(bundle: Path) -> None:
    how = ["l'île", "--temperature", 0, "--max-new-tokens", 40, "--seed", 1]
    assert "essai, int8 on cpu" in generate(bundle, *how).stderr
    texts = {}
    for name in ("portable", "fp32"):
        result = generate(bundle, *how, "--graph", name)
        assert f"essai, {name} on cpu" in result.stderr
        texts[name] = result.stdout
    assert texts["portable"] == texts["fp32"] != "l'île\n"


def test_a_repetition_penalty_changes_the_text(bundle: Path) -> None:
    how = ["l'île", "--temperature", 0, "--max-new-tokens", 40, "--seed", 1]
    plain, penalised = (generate(bundle, *how, "--repetition-penalty", value).stdout for value in (1, 50))
    assert len(set(penalised)) > len(set(plain))


def test_a_hundred_empty_prompts_are_a_hundred_texts(bundle: Path, tmp_path: Path) -> None:
    result = generate(bundle, *[""] * 100, "--json", "--seed", 1)
    assert result.stderr.splitlines()[1:] == ["note: an empty prompt starts from a line break"]
    lines = result.stdout.splitlines()
    assert len(lines) == 100
    assert len({json.loads(line)["text"] for line in lines}) == 1  # the same prompt and sample number


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["l", "--temperature", -1], "--temperature must be "),
        (["l", "--temperature", "nan"], "--temperature must be "),
        (["l", "--top-k", -1], "--top-k must be "),
        (["l", "--top-p", 0], "--top-p must be "),
        (["l", "--repetition-penalty", 0], "--repetition-penalty must be "),
        (["l", "--graph", "int3"], "graph int3: this bundle has portable, fp32, int8, fp16"),
        (["l", "--graph", "fp16"], "graph fp16 does not run on device cpu"),
        (["l", "--max-new-tokens", 0], "--max-new-tokens must be "),
        (["l", "--num-samples", 0], "--num-samples must be "),
        (["l", "--seed", -1], "--seed must be "),
        (["l", "--stop", ""], "--stop must not be empty: a stop string"),
        (["l", "--threads", 0], "threads"),
        (["l", "--prompts-file", "x"], "not both"),
        (["--prompts-file", "missing.txt"], "missing.txt cannot be read"),
        (["--prompts-file", "."], "cannot be read"),
        (["--prompts-file", "-"], "holds no prompt"),
    ],
)
def test_bad_values_are_one_line_and_exit_code_2(bundle: Path, arguments: list[Any], message: str) -> None:
    result = generate(bundle, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith(str(bundle))]
    assert line.startswith("error: ")
    assert message in line


def test_text_that_is_not_utf8_is_refused_with_its_place(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("été".encode("latin-1"))
    for arguments, stdin in ((["--prompts-file", tmp_path / "latin.txt"], ""), ([], b"ab\xe9")):
        result = generate(bundle, *arguments, stdin=stdin)
        assert result.exit_code == 2
        assert re.search(r"is not UTF-8 \(byte [02]\)", result.stderr)
    done = subprocess.run([*RUN, "generate", str(bundle), b"\xe9t\xe9"], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.decode() == "error: prompt 1 is not UTF-8: pass it through a file with --prompts-file\n"


@pytest.mark.parametrize("arguments", [["--top-k", "many"], ["--device", "tpu"], ["--frobnicate"]])
def test_a_wrong_call_is_one_line_with_the_way_to_the_help(bundle: Path, arguments: list[Any]) -> None:
    result = generate(bundle, "l", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"error: .*--.* \(see `.*generate --help`\)\n", result.stderr)


def test_without_a_command_the_help_is_shown() -> None:
    result = run()
    assert result.exit_code == 2
    assert "generate" in result.output
    assert "error" not in result.output


def test_more_than_anybody_means_as_prompts_is_refused(bundle: Path) -> None:
    result = generate(bundle, "--prompts-file", "/dev/zero")
    assert result.exit_code == 2
    assert result.stderr == "error: the prompts have more than 67,108,864 bytes: cut them into several files\n"


@pytest.mark.parametrize("command", ["generate", "info"])
def test_a_folder_that_is_no_bundle_is_one_line(tmp_path: Path, command: str) -> None:
    result = run(command, tmp_path)
    assert result.exit_code == 2
    assert re.fullmatch(r"error: .*bundle\.json does not exist.*\n", result.stderr)


def test_info_says_what_a_bundle_is(bundle: Path) -> None:
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in run("info", bundle).stdout.splitlines())
    assert lines["corpus.title"] == "Un essai"
    assert lines["corpus.licence"] == "MIT"
    assert lines["metrics.test.bits_per_char"] == "2.5"
    assert lines["vocab_size"] == str(LETTERS.vocab_size)


def test_version() -> None:
    assert run("--version").stdout == f"gptmodel {version('gptmodel')}\n"


def test_the_runtime_works_where_only_the_base_install_is(bundle: Path) -> None:
    code = (
        "import sys\n"
        f"for name in {NOT_AT_RUN_TIME}: sys.modules[name] = None  # importing it fails\n"
        "from gptmodel.cli.app import main; main()"
    )
    command = [sys.executable, "-c", code, "generate", str(bundle), "l'île", "--max-new-tokens", "5", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=bundle.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout == generate(bundle, "l'île", "--max-new-tokens", 5, "--seed", 1).stdout
    assert len(done.stderr.splitlines()) == 1


def test_french_comes_out_as_utf8_whatever_the_locale(reciter: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [*RUN, "generate", str(reciter), "é—l", "--temperature", "0", "--max-new-tokens", "2"]
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert done.stdout.decode() == "é—l\nd\n"


def test_a_reader_that_goes_away_is_no_error(bundle: Path) -> None:
    command = [*RUN, "generate", str(bundle), "l", "--max-new-tokens", "2000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.read(3)
        process.stdout.close()
        assert len(process.stderr.read().splitlines()) == 1
        assert process.wait() == 1


def test_help_is_instant() -> None:
    def cpu_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    took = []
    for _ in range(3):
        before = cpu_seconds()
        subprocess.run([*RUN, "--help"], capture_output=True, check=True)
        took.append(cpu_seconds() - before)
    assert min(took) < 0.4
