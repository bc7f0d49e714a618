import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from gptmodel import files
from gptmodel.decoding.samples import Sample
from gptmodel.errors import UserError
from gptmodel.report import page
from gptmodel.report.tables import Result

pytestmark = pytest.mark.browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome here")

PASSAGE = "Un été 𝄞 à Paris. Il pleut, dit-on, sur les toits !\nPuis rien ; la nuit, et le vent. " * 3
NASTY = "</script><script>alert(1)</script><!-- {{data}} & « fin »"
LADDER = {
    "best": "kneser-ney-3",
    "splits": {
        split: [
            {
                "name": name,
                "order": order,
                "bits_per_char": bits,
                "bits_per_byte": bits * 0.97,
                "loss_nats": bits * 0.69,
            }
            for order, (name, bits) in enumerate(
                [("uniform", 6.5), ("unigram", 4.5), ("bigram", 3.4), ("kneser-ney-3", 2.1)]
            )
        ]
        for split in ("validation", "test")
    },
}
PAIRS = [
    {"a": "gpt", "b": "word", "bits_per_char": -0.1, "low": -0.15, "high": -0.05, "certainty": 1.0},
    {"a": "gpt", "b": "pairs", "bits_per_char": -1.4, "low": -1.5, "high": -1.3, "certainty": 1.0},
    {"a": "word", "b": "pairs", "bits_per_char": -1.3, "low": -1.4, "high": -1.2, "certainty": 1.0},
    {"a": "gpt", "b": "kneser-ney-3", "bits_per_char": -0.1, "low": -0.21, "high": 0.01, "certainty": 0.96},
]


def spans(level: str) -> list[tuple[int, int]]:
    """Cut the passage into characters or words; the first é of the words is two tokens of one byte each."""
    if level == "char":
        return [(i, i + 1) for i in range(len(PASSAGE))]
    words = [match.span() for match in re.finditer(r" ?[^\s]+|\s", PASSAGE)]
    cut = PASSAGE.index("é")
    return [
        span for word in words for span in ([(word[0], cut + 1), (cut, word[1])] if word[0] < cut < word[1] else [word])
    ]


def sight(name: str, level: str) -> dict[str, Any]:
    """What `gptmodel.evaluation.inspection` would write: a bigram has its table, the others attention and lens."""
    is_bigram, tokens = name == "pairs", [PASSAGE[a:b] for a, b in spans(level)][:12]
    top = [["x", 0.5], ["\n", 0.2], [NASTY, 0.1], [" le", 0.05], ["e", 0.01]]
    weights = bytes(255 // (q + 1) if k <= q else 0 for q in range(12) for k in range(12))
    heads = [base64.b64encode(weights).decode()] * 2
    layers = ["embedding", "block 1", "block 2"]
    lens = {"tokens": tokens, "targets": [*tokens[1:], "."], "layers": layers, "nats": [5.0, 3.0, 1.5]}
    points = [["e", 0.0, 0.0, "letters"], ["E", 1.0, 0.5, "capitals"], [" ", -1.0, 2.0, "spaces"]]
    table = {"characters": ["q", "u"], "counted": [[0.0, 1.0], [0.25, 0.75]], "learned": [[0.01, 0.99], [0.2, 0.8]]}
    return {
        "passage": {"split": "test", "start": 0, "text": PASSAGE},
        "surprisal": [{"start": a, "end": b, "nats": 0.69315 * (1 + a % 5), "top": top} for a, b in spans(level)],
        "attention": None if is_bigram else {"tokens": tokens, "layers": [heads, heads]},
        "lens": None if is_bigram else {**lens, "top": [[top[:3]] * 12] * 3},
        "embeddings": {"points": points, "explained": [0.2, 0.1]},
        "positions": {"points": [[0, 0], [1, 1], [2, 0]], "explained": [0.6, 0.2]} if name == "gpt" else None,
        "bigram": table if is_bigram else None,
    }


def breakdown(bits: float) -> dict[str, Any]:
    position = {"tokens": 9, "nats_per_token": bits}
    kinds = [("letters", 0.8, 0.7), ("spaces", 0.2, 0.3)]
    return {
        "split": "test",
        "by_position": [{"position": p, "to": p, "bits_per_char": bits + 1 / p, **position} for p in (1, 2, 4)],
        "by_class": [
            {"class": kind, "characters": 9, "share": share, "bits_per_char": bits, "share_of_bits": cost}
            for kind, share, cost in kinds
        ],
        "worst": [{"start": 0, "text": "Hapax", "bits_per_char": 5.0}],
        "best": [{"start": 9, "text": "de la", "bits_per_char": 0.5}],
    }


def novelty(sample: Sample, warnings: list[str]) -> dict[str, Any]:
    shares = ("words_in_training", "words_known", "distinct_words", "repetition", "copied_8_word_sequences")
    figures = {"words": 9, "words_in_lexicon": None, "longest_copy_characters": 4, "longest_copy_text": "toit"}
    figures |= dict.fromkeys(shares, 0.25)
    one = {"prompt": sample.prompt, "temperature": sample.temperature, "seed": sample.seed}
    copies = [{"start": 3, "end": 7, "train_start": 0}]
    return {
        "samples": figures,
        "held_out": figures,
        "per_sample": [{**one, "copies": copies, **figures}],
        "warnings": warnings,
    }


def result(bits: float, parameters: int, splits: list[str]) -> Result:
    score = {"bits_per_char": bits, "bits_per_byte": bits * 0.97, "loss_nats": bits * 0.69, "word_perplexity": 9.0}
    score |= {"unigram_bits_per_char": 4.5, "bigram_bits_per_char": 3.4}
    score |= {"bits_per_char_low": bits - 0.1, "bits_per_char_high": bits + 0.1, "tokens": 100, "characters": 100}
    score |= {"sliding_bits_per_char": bits - 0.01, "dynamic_bits_per_char": bits - 0.02}
    history = {"step": [0, 10, 20], "characters": [0, 1000, 20000], "train_bits_per_char": [None, 4.0, bits]}
    return Result(
        metrics={"best_step": 20, "parameters": parameters, **dict.fromkeys(splits, score)},
        training={"seconds": 61.0, "tokens_per_second": 1000},
        benchmark={"first_token_latency_ms": 1.0, "tokens_per_second": {"batch_1": 900.5, "batch_8": 3000.0}},
        breakdown=breakdown(bits),
        history=pd.DataFrame(history | {"validation_bits_per_char": [6.5, 4.0, bits]}),
        samples=[Sample("Il ", f"𝄞n toit {NASTY}", 0.7, 1)],
    )


MODELS = {"pairs": (3.5, 100, "char"), "gpt": (2.0, 3000, "char"), "word": (2.1, 2000, "word")}


def gathered(folder: Path, full: bool = True) -> dict[str, Any]:
    """What `collect` makes of a run with everything, or with as little as a run can have."""
    splits = ["validation", "test"] if full else ["validation"]
    characters = {"train": 1000, "validation": 100, "test": 100 if full else 0}
    corpus = {
        "title": "Le <b>Toit</b>",
        "author": None,
        "year": None,
        "language": "fr",
        "licence": "own",
        "source": "here",
    }
    corpus |= {"characters": 1200, "splits": {split: {"characters": n} for split, n in characters.items()}}
    files.write_json(folder / "corpus.json", corpus)
    results = {}
    for name, (bits, parameters, level) in MODELS.items():
        results[name] = result(bits, parameters, splits)
        if full:
            warnings = ["It copies."] if name == "word" else []
            parts = {"sight": sight(name, level), "novelty": novelty(results[name].samples[0], warnings)}
            for part, content in parts.items():
                files.write_json(folder / name / f"{part}.json", content)
            entries = [(0, "zzz"), (20, "toit\nfin")]
            made = [
                f"## step {n}: {6.5 - n / 9:.3f} bits per character\n\n{Sample('Il ', t, 0.7, 1).markdown()}"
                for n, t in entries
            ]
            files.write_text(folder / name / "timeline.md", "\n".join(made))
    if full:
        files.write_json(folder / "ladder.json", LADDER)
    return page.collect(results, folder, folder / "corpus.json", folder / "ladder.json", PAIRS if full else [])


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return gathered(tmp_path_factory.mktemp("full"))


def test_the_best_model_comes_first_and_what_is_missing_is_none(full: dict[str, Any], tmp_path: Path) -> None:
    assert [model["name"] for model in full["models"]] == ["gpt", "word", "pairs"]
    assert full["models"][0]["sight"]["passage"]["text"] == PASSAGE
    assert [entry["text"] for entry in full["models"][0]["timeline"]] == [" zzz", " toit\nfin"]
    bare = gathered(tmp_path, full=False)
    assert bare["ladder"] is None
    assert all(model[part] is None for model in bare["models"] for part in page.OPTIONAL)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    gathered(tmp_path)
    (tmp_path / "gpt" / "sight.json").write_text("{")
    results = {"gpt": result(2.0, 10, ["validation"])}
    with pytest.raises(UserError, match=r"gpt.sight\.json cannot be read .*: run `dvc repro`"):
        page.collect(results, tmp_path, tmp_path / "corpus.json", tmp_path / "ladder.json", [])
    (tmp_path / "gpt" / "sight.json").unlink()
    with pytest.raises(UserError, match=r"no\.json does not exist: run `dvc repro`"):
        page.collect(results, tmp_path, tmp_path / "no.json", tmp_path / "ladder.json", [])


def test_the_timeline_is_read_as_samples_write_it() -> None:
    written = [Sample("Il était ", "une fois\nun roi > 3", 0.7, 1337), Sample("", "## step 9: 1.000 bits", 1.0, 2)]
    markdown = "\n".join(f"## step {n}: 2.500 bits per character\n\n{one.markdown()}" for n, one in enumerate(written))
    first, second = page.entries(markdown)
    assert (first["prompt"] + first["text"], first["temperature"], first["seed"]) == (
        written[0].prompt + written[0].text,
        0.7,
        1337,
    )
    assert (second["step"], second["prompt"], second["text"]) == (1, "", written[1].text)


def test_the_headline_says_what_is_known(full: dict[str, Any], tmp_path: Path) -> None:
    known = "The best model, gpt, needs 2.00 bits for each character of text it has never seen"
    known += " (95 % interval: 1.90 to 2.10)"
    counts = "; the best counting method, kneser-ney-3, needs 2.10"
    assert page.headline(full) == f"{known}{counts}, a difference that chance alone could explain."
    settled = {**PAIRS[3], "a": "kneser-ney-3", "b": "gpt", "low": 0.05, "high": 0.2}
    assert page.headline({**full, "pairs": [settled]}) == f"{known}{counts}, a difference beyond chance."
    settled |= {"low": -0.2, "high": -0.05}
    assert page.headline({**full, "pairs": [settled]}) == f"{known}{counts}, a difference beyond chance."
    assert page.headline({**full, "pairs": []}) == f"{known}{counts}."
    assert page.headline({**full, "ladder": None}) == f"{known}."
    bare = page.headline(gathered(tmp_path, full=False))
    assert "2.00 bits for each character of the validation text, which also chose when to stop (95 %" in bare


def test_no_text_can_leave_its_place_in_the_page(full: dict[str, Any]) -> None:
    html = page.render(full)
    empty = page.render({**full, "models": [{**full["models"][0], "samples": [], "sight": None}]})
    assert NASTY in full["models"][0]["samples"][0]["text"]
    for opening in ("<script", "</script", "<!--"):
        assert html.count(opening) == empty.count(opening)
    assert "<title>Le &lt;b&gt;Toit&lt;/b&gt;" in html
    assert html.count("Is it French? Is it new?") == 2  # in the contents and above the section
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert data["models"][0]["samples"] == full["models"][0]["samples"]
    assert data["models"][0]["history"]["train_bits_per_char"] == [None, 4.0, 2.0]
    assert len(html.encode()) < 3_000_000
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html


class Opened:
    """A page in a real browser, and all that it asked for and complained about."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.page: Page = browser.new_page(reduced_motion="reduce", **options)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#rates > *", state="attached")

    def token(self, model: int, text: str) -> Any:
        return self.page.locator(f".tok[data-m='{model}']", has_text=text).first


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
        browser = playwright.chromium.launch(executable_path=BROWSER, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def written(full: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    files.write_text(path, page.render(full))
    return path


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[Opened]:
    shown = Opened(browser, written, viewport={"width": 1280, "height": 900})
    yield shown
    assert shown.complaints == []
    assert shown.requests == [written.as_uri()]
    shown.page.close()


@needs_browser
def test_every_picture_is_drawn_without_requests_or_complaints(opened: Opened) -> None:
    places = opened.page.locator("section div[id]")
    assert places.count() == 17
    for place in places.all():
        assert place.evaluate("node => node.children.length") > 0
    assert opened.page.locator(".matrix .better").count() == 3
    assert opened.page.locator(".matrix .open").count() == 2  # gpt and the best counts, from both sides
    assert opened.page.locator(".alerts").inner_text() == "word: It copies."
    assert opened.page.locator("mark").all_inner_texts() == ["toit"]
    assert opened.page.locator("#samples .quote").inner_text() == f"Il 𝄞n toit {NASTY}"


@needs_browser
def test_pointing_at_a_token_shows_what_was_expected_and_the_same_characters_elsewhere(opened: Opened) -> None:
    opened.token(1, "Paris").hover()
    panel = opened.page.locator(".panel").inner_text()
    assert "word expected" in panel
    for shown in ("50 %", "20 %", "↵", "␣le", "␣Paris."):
        assert shown in panel
    same = opened.page.locator(".tok.with[data-m='0']").all_inner_texts()
    assert "".join(same).strip() == "Paris."
    assert opened.page.locator("#passage .tok.on").count() == 1


@needs_browser
def test_tokens_that_share_a_character_are_one_and_cost_their_sum(opened: Opened) -> None:
    opened.token(1, "été").hover()
    start = PASSAGE.index(" été")
    bits = (1 + start % 5) + (1 + (start + 1) % 5)
    assert f"{bits:.2f} bits" in opened.page.locator(".panel").inner_text()


@needs_browser
def test_the_arrow_keys_walk_through_the_tokens(opened: Opened) -> None:
    focused = "document.activeElement.getAttribute('aria-label')"
    opened.token(0, "U").focus()
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.evaluate(focused).startswith("gpt: n,")
    opened.page.keyboard.press("ArrowDown")
    assert opened.page.evaluate(focused).startswith("word: Un,")
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.evaluate(focused).startswith("word: ␣été,")
    assert opened.page.locator(".tok[tabindex='0'][data-m]").count() == 1


@needs_browser
def test_a_query_token_shows_its_weights(opened: Opened) -> None:
    strip = opened.page.locator("#heads .strip .tok")
    strip.nth(3).focus()
    shares = strip.evaluate_all("nodes => nodes.map(node => +node.style.getPropertyValue('--v'))")
    assert shares[:4] == pytest.approx([(63 / 255) ** 0.5] * 4, abs=0.001)
    assert not any(shares[4:])
    opened.page.keyboard.press("ArrowLeft")
    assert opened.page.locator("#heads .strip .on").inner_text() == "␣"
    opened.page.locator("#heads button").first.click()
    assert "Layer 1, head 1" in opened.page.locator("#heads .large").inner_text()


@needs_browser
def test_another_model_is_chosen_everywhere_and_a_bigram_has_no_attention(opened: Opened) -> None:
    opened.page.locator("#lens .picker label", has_text="pairs").click()
    assert opened.page.locator(".picker :checked").evaluate_all("all => all.map(one => one.value)") == ["pairs"] * 6
    assert "no attention" in opened.page.locator("#heads .absent").inner_text()
    assert "no layers" in opened.page.locator("#layers .absent").inner_text()
    opened.page.locator("#tables .map").first.focus()
    opened.page.keyboard.press("ArrowDown")
    assert "After u comes u: 75 % counted, 80 % learned." in opened.page.locator("#tables").inner_text()


@needs_browser
def test_a_heat_map_paints_the_square_root_of_the_shares(opened: Opened) -> None:
    ramp = [(252, 251, 248), (158, 197, 227), (47, 119, 180), (8, 38, 77)]  # page.css: --ramp-0 to -3, light
    pixels = """node => {
        const context = new OffscreenCanvas(2, 2).getContext("2d", { willReadFrequently: true });
        context.drawImage(node, 0, 0);
        return [...context.getImageData(0, 0, 2, 2).data];
    }"""
    painted = opened.page.locator("#tables canvas").first.evaluate(pixels)  # counted: 0, 1; 0.25, 0.75
    middle = tuple((one + other) / 2 for one, other in zip(ramp[1], ramp[2], strict=True))
    for cell, color in ((0, ramp[0]), (1, ramp[3]), (2, middle)):
        assert painted[4 * cell : 4 * cell + 3] == pytest.approx(color, abs=3)


@needs_browser
def test_a_heading_sorts_the_table(opened: Opened) -> None:
    head = opened.page.locator("#table th button", has_text="learned")
    names = opened.page.locator("#table tbody th")
    assert names.all_inner_texts() == ["gpt", "word", "pairs"]
    head.click()
    assert names.all_inner_texts() == ["pairs", "word", "gpt"]
    head.click()
    assert names.all_inner_texts() == ["gpt", "word", "pairs"]
    assert opened.page.locator("#table [aria-sort='descending']").all_inner_texts() == ["numbers\nlearned"]


@needs_browser
def test_the_curves_and_the_slider_are_read_by_keyboard(opened: Opened) -> None:
    opened.page.locator("#curve svg.chart").focus()
    opened.page.keyboard.press("Home")
    assert "after about 1,000 characters (the training text 1.0 times)" in opened.page.locator("#curve").inner_text()
    assert "4.000 / 4.000" in opened.page.locator("#curve .legend").inner_text()
    slider = opened.page.locator("#steps input")
    assert "zzz" in opened.page.locator("#steps").inner_text()
    slider.press("End")
    assert "Il toit\nfin" in opened.page.locator("#steps").inner_text()


@needs_browser
def test_the_button_changes_the_theme_and_repaints_the_maps(opened: Opened) -> None:
    def seen() -> list[Any]:
        paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        corners = """nodes => nodes.map(node => {
            const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            context.drawImage(node, node.width - 1, 0, 1, 1, 0, 0, 1, 1);
            return context.getImageData(0, 0, 1, 1).data.join();
        })"""
        return [paper, *opened.page.locator("canvas").evaluate_all(corners)]

    light = seen()
    opened.page.locator("#theme").click()
    dark = seen()
    assert len(light) > 6
    assert light[0] != dark[0]
    # Future tokens get nothing: paper. The bigram's two maps are always followed: they have no paper to compare.
    assert all(one != other for one, other in zip(light[:-2], dark[:-2], strict=True))
    opened.page.locator("#theme").click()
    assert seen() == light


@needs_browser
def test_a_phone_never_scrolls_sideways(browser: Browser, written: Path) -> None:
    shown = Opened(browser, written, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    shown.page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
    for name in MODELS:
        shown.page.locator("#lens .picker label", has_text=name).tap()
        assert shown.page.evaluate("document.documentElement.scrollWidth") == 390
    shown.token(1, "Paris").tap()
    assert "word expected" in shown.page.locator(".panel").inner_text()
    assert shown.complaints == []
    shown.page.close()


@needs_browser
def test_what_a_run_lacks_is_said(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    files.write_text(path, page.render(gathered(tmp_path, full=False)))
    shown = Opened(browser, path)
    assert shown.complaints == []
    lacking = "ladder pairs passage heads layers points tables figures samples steps"
    for place in lacking.split():
        assert shown.page.locator(f"#{place} .absent").count() == 1, place
    assert "there is no test text" in shown.page.locator("#ladder").inner_text().lower()
    shown.page.close()
