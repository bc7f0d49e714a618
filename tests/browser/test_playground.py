"""The playground in a headless browser: text comes coloured, tokens tell what was expected, all from this server."""

import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving.test_server import LONG, Server, running
from tests.support.bundles import char_tokenizer, random_network, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = char_tokenizer()
    bundle = write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)
    with running(bundle, "--max-tokens", str(LONG)) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """An open page, and what it must not do."""

    def __init__(self, browser: "Browser", server: Server, **device: Any) -> None:
        self.page = browser.new_context(**device).new_page()
        self.page.set_default_timeout(15_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = f"http://127.0.0.1:{server.port}/"
        self.page.goto(self.address)
        self.page.wait_for_selector("#max_tokens", state="attached")

    def text(self) -> str:
        """Wait for the end and return the text without the prompt."""
        self.page.wait_for_selector("#text:not(.busy) .token", state="attached")  # a line break has no width
        return "".join(self.page.locator("#text .token").all_text_contents())

    def set(self, name: str, value: float) -> None:
        """Move a slider."""
        self.page.locator(f"#{name}").fill(str(value))

    def end(self) -> None:
        """Check that nothing went wrong and nobody else was asked."""
        assert self.said == []
        assert [url for url in self.asked if not url.startswith((self.address, "data:"))] == []
        self.page.context.close()


def test_text_comes_coloured_and_every_token_tells_what_was_expected(browser: "Browser", server: Server) -> None:
    visit = Visit(browser, server)
    page = visit.page
    assert page.input_value("#prompt") == "L'île "  # the bundle's example
    page.fill("#prompt", "Où vas-tu")
    page.fill("#seed", "5")
    for name, value in {
        "temperature": 1.2,
        "top_p": 0.9,
        "top_k": 6,
        "repetition_penalty": 1.1,
        "max_tokens": 60,
    }.items():
        visit.set(name, value)
    page.click("#generate")
    expected = server.text(
        prompt="Où vas-tu", seed=5, temperature=1.2, top_p=0.9, top_k=6, repetition_penalty=1.1, max_tokens=60
    )
    assert visit.text() == expected
    assert page.inner_text("#text .prompt") == "Où vas-tu"
    assert page.inner_text("#status").startswith("seed 5: 60 tokens")
    tokens = page.locator("#text .token")
    assert tokens.count() == 60
    colours = {tokens.nth(i).evaluate("node => getComputedStyle(node).backgroundColor") for i in range(20)}
    assert len(colours) > 5

    tokens.nth(7).hover()
    [choice] = server.post(
        prompt="Où vas-tu",
        seed=5,
        temperature=1.2,
        top_p=0.9,
        top_k=6,
        repetition_penalty=1.1,
        max_tokens=8,
        logprobs=5,
    )[1]["choices"]
    top = choice["logprobs"]["top_logprobs"][7]
    names = page.locator("#next .bar code").all_text_contents()
    assert names[:5] == [name.replace(" ", "␣").replace("\n", "↵") for name in top]
    assert page.locator("#next .bar.taken").count() == 1
    widths = [
        float(page.locator("#next .bar i").nth(i).evaluate("node => node.style.getPropertyValue('--p')"))
        for i in range(5)
    ]
    assert widths == sorted(widths, reverse=True)
    visit.end()


def test_seeds_repeat_and_change_and_the_keyboard_does_it_all(browser: "Browser", server: Server) -> None:
    visit = Visit(browser, server)
    page = visit.page
    visit.set("max_tokens", 40)
    page.focus("#prompt")
    page.keyboard.press("Control+Enter")
    first = visit.text()
    page.keyboard.press("Control+Shift+Enter")
    assert visit.text() == first
    page.keyboard.press("Alt+Enter")
    second = visit.text()
    assert second != first
    page.locator("#text .token").nth(39).focus()
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#next h2").startswith("Token 39,")
    page.keyboard.press("Home")
    assert page.inner_text("#next h2").startswith("Token 1,")
    page.click("#again")
    page.click("#theme")
    assert page.locator("html").get_attribute("class") == "dark"
    assert visit.text() == second
    page.click("#other")
    assert visit.text() not in (first, second)
    visit.end()


def test_stop_ends_the_stream_and_frees_its_place(browser: "Browser", server: Server) -> None:
    visit = Visit(browser, server)
    page = visit.page
    page.locator("#max_tokens").evaluate("node => { node.max = 2e4; node.value = 2e4; }")
    page.click("#generate")
    page.wait_for_selector("#text .token", state="attached")
    page.keyboard.press("Escape")
    page.wait_for_selector("#text:not(.busy)")
    assert page.inner_text("#status").endswith(", stopped")
    server.wait_for(running=0, waiting=0)
    visit.end()


def test_it_fits_a_phone_and_says_what_is_wrong(browser: "Browser", server: Server) -> None:
    visit = Visit(browser, server, **PHONE, color_scheme="dark")
    page = visit.page
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    page.tap("#settings summary")
    page.fill("#seed", "5")
    page.tap("#generate")
    letter_at = next(i for i, letter in enumerate(visit.text()) if i > 2 and letter.isalpha())
    page.tap(f"#text .token >> nth={letter_at}")
    assert page.inner_text("#next h2").startswith(f"Token {letter_at + 1},")
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", background)[:3])) < 60
    page.locator("#max_tokens").evaluate("node => { node.max = 1e9; node.value = 1e9; }")
    page.tap("#generate")
    page.wait_for_selector("#status.error")
    assert page.inner_text("#status").startswith("max_tokens must be")
    assert visit.said == ["Failed to load resource: the server responded with a status of 400 (Bad Request)"]
    visit.said.clear()
    visit.end()
