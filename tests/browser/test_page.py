import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from gptmodel import files
from gptmodel.report import page, verdict
from gptmodel.results.evaluation import BigramTable
from tests.support import records, runs
from tests.support.records import NASTY, PASSAGE

pytestmark = pytest.mark.browser

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome here")


DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
each_screen = pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])


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
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "index.html"
    files.write_text(path, page.render(runs.run()))
    return path


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[Opened]:
    shown = Opened(browser, written, **DESK)
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
    for kind, pairs in (("better", 4), ("worse", 4), ("open", 4)):  # four are real, two are not: from both sides
        assert opened.page.locator(f".matrix .{kind}").count() == pairs
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
def test_tokens_that_share_a_character_are_one_and_their_losses_are_added(opened: Opened) -> None:
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
    assert "after about 480 characters (the training text 0.5 times)" in opened.page.locator("#curve").inner_text()
    assert "3.000 / 4.000" in opened.page.locator("#curve .legend").inner_text()
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
    shown = Opened(browser, written, **PHONE)
    shown.page.evaluate("document.querySelectorAll('details').forEach(one => (one.open = true))")
    for name in records.MODELS:
        shown.page.locator("#lens .picker label", has_text=name).tap()
        assert shown.page.evaluate("document.documentElement.scrollWidth") == 390
    shown.token(1, "Paris").tap()
    assert "word expected" in shown.page.locator(".panel").inner_text()
    assert shown.complaints == []
    shown.page.close()


@needs_browser
def test_a_run_without_a_test_text_says_that_its_scores_flatter(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    files.write_text(path, page.render(runs.run(has_test=False)))
    shown = Opened(browser, path)
    assert shown.complaints == []
    assert "There is no test text; training was stopped where" in shown.page.locator("#ranking").inner_text()
    assert "validation\nbits/char." in shown.page.locator("#table").inner_text()
    assert shown.page.locator("#table th", has_text="test").count() == 0
    shown.page.close()


@needs_browser
def test_what_a_run_lacks_is_said(browser: Browser, tmp_path: Path) -> None:
    silent = runs.model("word", timeline=records.timeline().model_copy(update={"entries": []}))
    path = tmp_path / "index.html"
    files.write_text(path, page.render(runs.run().model_copy(update={"models": {"word": silent}})))
    shown = Opened(browser, path)
    assert shown.complaints == []
    assert shown.page.locator("#steps .absent").inner_text() == "word kept no samples of its training."
    assert "no bigram network" in shown.page.locator("#tables .absent").inner_text()
    assert "turns its tokens by an angle" in shown.page.locator("#points .absent").inner_text()
    shown.page.close()


OUTSIDE = """([labels, place]) => {
    const isOutside = (label) => {
        const range = document.createRange();
        range.selectNodeContents(label);
        const [inner, outer] = [range.getBoundingClientRect(), label.closest(place).getBoundingClientRect()];
        return !inner.width || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1
            || inner.left < outer.left - 2 || inner.right > outer.right + 2;
    };
    return [...document.querySelectorAll(labels)].filter(isOutside).map((label) => label.textContent);
}"""


@needs_browser
@each_screen
def test_no_label_is_cut(browser: Browser, tmp_path: Path, screen: dict[str, Any]) -> None:
    names = [*"\n esaitunrlodcmp,évq'.fhbgjàx-LEè!êIyCz;"]
    rows = [[1 / len(names)] * len(names)] * len(names)
    table = BigramTable(characters=names, counted=rows, learned=rows)
    inspection = records.inspection("pairs").model_copy(update={"bigram": table})
    models = {**runs.run().models, "pairs": runs.model("pairs", inspection=inspection)}
    path = tmp_path / "index.html"
    files.write_text(path, page.render(runs.run().model_copy(update={"models": models})))
    shown = Opened(browser, path, **screen)
    shown.page.locator("#verdict summary").click()
    assert shown.page.locator(".labelled .xs span").count() == 2 * len(names)
    for labels, place in [
        (".labelled .xs span", ".xs"),
        (".labelled .ys span", ".labelled"),
        ("#corpus .legend li", ".legend"),
        ("#verdict > p, #verdict code", "#verdict"),
    ]:
        assert shown.page.evaluate(OUTSIDE, [labels, place]) == [], labels
    for title in shown.page.locator(".labelled").all():
        above, below = (title.locator(part).bounding_box() for part in (".map", ".xs"))
        assert above
        assert below
        assert below["y"] >= above["y"] + above["height"] - 1
    divided = shown.page.locator("#corpus .legend").inner_text()
    assert [part in divided for part in ("train: 1,000", "validation: 100", "test: 100")] == [True] * 3
    shown.page.close()


@needs_browser
@each_screen
def test_the_verdict_is_the_first_thing_one_reads(browser: Browser, written: Path, screen: dict[str, Any]) -> None:
    shown = Opened(browser, written, **screen)
    box = shown.page.locator("#verdict")
    place = box.bounding_box()
    assert place
    assert place["x"] >= 0
    assert place["x"] + place["width"] <= screen["viewport"]["width"]
    assert place["y"] < screen["viewport"]["height"] / 2
    said = verdict.of_run(runs.run())
    assert said.conclusion in box.inner_text()
    box.locator("summary").click()
    assert all(each.text in box.inner_text() for each in said.models)
    shown.page.close()
