"""A page from elsewhere, in a real browser: it cannot use the server, even if its name points to this machine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving.test_server import Server, counted, running
from tests.support.bundles import char_tokenizer, random_network, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]

EVIL, FRIEND = "evil.example", "friend.example"  # both names point to this machine
BODY = json.dumps({"prompt": "a", "max_tokens": 3, "seed": 1})
ASK = """async ([url, options]) => {
  try {
    const response = await fetch(url, options);
    return [response.type, response.status, await response.text()];
  } catch (error) {
    return ["failed", 0, String(error)];
  }
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    words = char_tokenizer()
    bundle: Path = write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)
    with running(bundle, "--allow-host", FRIEND) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1,MAP {FRIEND} 127.0.0.1"
    unguarded = "--disable-features=LocalNetworkAccessChecks"  # as browsers are that do not ask the person
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules, unguarded])
        yield browser
        browser.close()


def open_page(browser: "Browser", address: str, content: str = "") -> "Page":
    """Return a page that was loaded from an address before its name was pointed to this machine."""
    page = browser.new_context().new_page()
    page.route(address, lambda route: route.fulfill(content_type="text/html", body=f"<!doctype html>{content}"))
    page.goto(address)
    return page


def ask(page: "Page", url: str, **options: Any) -> list[Any]:
    """Return type, status and text of an answer as the page sees it."""
    answer: list[Any] = page.evaluate(ASK, [url, options])
    return answer


def test_a_page_whose_name_points_here_reads_nothing(browser: "Browser", server: Server) -> None:
    texts = {}
    for name in (EVIL, FRIEND):
        page = open_page(browser, f"http://{name}:{server.port}/")
        texts[name] = [
            ask(page, "/v1/completions", method="POST", body=BODY),
            *(ask(page, path) for path in ("/v1/models", "/metrics", "/health", "/openapi.json")),
        ]
        page.context.close()
    assert [status for _, status, _ in texts[FRIEND]] == [200] * 5  # the browser does what such a page says
    assert [status for _, status, _ in texts[EVIL]] == [421] * 5
    assert all("does not answer to the host evil.example" in text for _, _, text in texts[EVIL])


def test_a_page_of_another_origin_reads_nothing_and_starts_nothing(browser: "Browser", server: Server) -> None:
    page = open_page(browser, "http://page.example/")
    before = counted(server, 'tokens_total{kind="generated"}')
    here = f"http://127.0.0.1:{server.port}"
    assert ask(page, f"{here}/v1/completions", method="POST", body=BODY)[0] == "failed"
    ask(page, f"{here}/v1/completions", method="POST", body=BODY, mode="no-cors")
    assert ask(page, f"{here}/v1/models")[0] == "failed"
    assert counted(server, 'tokens_total{kind="generated"}') == before
    page.context.close()


def test_no_page_can_put_the_playground_into_a_frame(browser: "Browser", server: Server) -> None:
    here = f"http://127.0.0.1:{server.port}/"
    page = open_page(browser, "http://page.example/", f'<iframe src="{here}"></iframe>')
    page.wait_for_timeout(300)
    frame = page.frames[1]
    assert not frame.url.startswith(here) or frame.query_selector("#prompt") is None
    page.context.close()
