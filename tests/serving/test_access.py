"""Who may ask: the Host names that are answered to, the origins whose pages may use the server, its key."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from gptmodel.errors import UserError
from gptmodel.serving.access import Access
from gptmodel.serving.refused import Refused
from tests.serving.test_server import Server, running
from tests.support.bundles import char_tokenizer, random_network, write

KEY = "sésame".encode().hex()
PAGES = "https://pages.example"
BODY = b'{"prompt": "a", "max_tokens": 3, "seed": 1}'
API = ["/v1/models", "/v1/models/essai", "/metrics"]
OPEN = ["/health", "/health/live", "/health/ready", "/", "/playground.css", "/playground.js", "/openapi.json"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = char_tokenizer()
    return write(tmp_path_factory.mktemp("bundle") / "b", random_network("modern", words), words)


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    with running(bundle) as server:
        yield server


@pytest.fixture(scope="module")
def closed(bundle: Path) -> Iterator[Server]:
    """A server with a key, for the pages of one origin too."""
    with running(bundle, "--api-key", KEY, "--cors", PAGES, "--allow-host", "My.Example") as server:
        yield server


def ask(server: Server, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    """Return an answer; underscores in the names of headers are dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    own = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, BODY if method == "POST" else None, own)
    return connection.getresponse()


def said(answer: http.client.HTTPResponse) -> str:
    """Return the line of an error."""
    return str(json.loads(answer.read())["error"]["message"])


def is_answered(access: Access, method: str = "GET", **headers: str) -> bool:
    try:
        access.check(method, Headers(headers))
    except Refused:
        return False
    return True


MINE = Access(hosts=("0.0.0.0", "My.Example"), origins=(PAGES,))


GOOD = "localhost localhost:8000 LocalHost:1 localhost. 127.0.0.1:8000 [::1]:8000 [::1] 10.0.0.9 192.168.1.7:80"
GOOD += " [fe80::1]:80 my.example MY.example:8000 my.example.:8000"
BAD = "evil.example evil.example:8000 localhost.evil.example 127.0.0.1.evil.example notlocalhost a.my.example ::1 [::1"
BAD += (
    " evil.example#localhost evil.example/localhost evil@localhost localhost:80:80 [evil.example] localhost.. é.example"
)


@pytest.mark.parametrize("host", [*GOOD.split(), ""])
def test_addresses_localhost_and_allowed_names_are_answered(host: str) -> None:
    assert is_answered(MINE, host=host)


@pytest.mark.parametrize("host", [*BAD.split(), "localhost evil", "x" * 9000, ":8000", ".", "[]"])
def test_every_other_name_is_refused(host: str) -> None:
    assert not is_answered(MINE, host=host)


@pytest.mark.parametrize(
    ("origin", "host", "answered"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("https://my.example", "my.example", True),  # behind a proxy that speaks TLS
        (PAGES, "localhost:8000", True),
        ("http://localhost:9000", "localhost:8000", False),
        ("http://evil.example", "localhost:8000", False),
        ("http://localhost:8000.evil.example", "localhost:8000", False),
        (f"{PAGES}.evil.example", "localhost:8000", False),
        ("http://pages.example", "localhost:8000", False),
        ("null", "localhost:8000", False),
        ("", "localhost:8000", False),
        ("http://", "", False),
    ],
)
def test_only_pages_of_the_server_and_of_allowed_origins_may_post(origin: str, host: str, answered: bool) -> None:
    assert is_answered(MINE, "POST", host=host, origin=origin) == answered
    assert is_answered(MINE, "GET", host=host, origin=origin)  # a page cannot read it, and it changes nothing
    assert is_answered(Access(origins=("*",)), "POST", host="localhost:8000", origin=origin)


@pytest.mark.parametrize(
    ("field", "value"),
    [("hosts", value) for value in ("", " ", "http://a", "a:80", "a b", "-", "*", "*.a", "a/b", "é")]
    + [("origins", value) for value in ("", "a.example", "https://a/", "https://a/b", "null", "ftp://a", "https://*.a")]
    + [("key", value) for value in ("", " ", "a b", "é", "a\n")],
)
def test_settings_that_make_no_sense_are_refused(field: str, value: str) -> None:
    with pytest.raises(UserError):
        Access(**{field: value if field == "key" else (value,)})  # type: ignore[arg-type]


@pytest.mark.slow
def test_no_path_answers_to_a_name_that_points_here(server: Server) -> None:
    for method, path in [*(("GET", path) for path in API + OPEN), ("POST", "/v1/completions"), ("OPTIONS", "/")]:
        answer = ask(server, method, path, Host="evil.example:8000")
        assert (answer.status, said(answer).partition(":")[0]) == (
            421,
            "this server does not answer to the host evil.example",
        )


@pytest.mark.slow
def test_a_page_from_elsewhere_makes_the_server_do_nothing(server: Server) -> None:
    before = server.send("GET", "/metrics").read()
    answer = ask(server, "POST", "/v1/completions", Origin="http://evil.example", Content_Type="text/plain")
    assert answer.status == 403
    assert said(answer) == "pages of http://evil.example may not ask this server: --cors allows an origin"
    assert server.send("GET", "/metrics").read() == before
    own = f"http://127.0.0.1:{server.port}"
    assert ask(server, "POST", "/v1/completions", Origin=own).status == 200
    preflight = ask(server, "OPTIONS", "/v1/completions", Origin=PAGES, Access_Control_Request_Method="POST")
    assert preflight.status == 405
    assert ask(server, "GET", "/v1/models", Origin=PAGES).headers["access-control-allow-origin"] is None


@pytest.mark.slow
def test_pages_of_an_allowed_origin_may_ask_and_read(closed: Server) -> None:
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type"}
    preflight = ask(closed, "OPTIONS", "/v1/completions", Origin=PAGES, **asked)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == PAGES
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert "POST" in preflight.headers["access-control-allow-methods"]
    answer = ask(closed, "POST", "/v1/completions", Origin=PAGES, Authorization=f"Bearer {KEY}")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, PAGES)
    wrong = ask(closed, "POST", "/v1/completions", Origin=PAGES)  # a page can read what is wrong, too
    assert (wrong.status, wrong.headers["access-control-allow-origin"]) == (401, PAGES)
    evil = ask(closed, "OPTIONS", "/v1/completions", Origin="https://evil.example", **asked)
    assert (evil.status, evil.headers["access-control-allow-origin"]) == (400, None)


@pytest.mark.slow
def test_the_api_asks_for_the_key_and_what_tells_nothing_does_not(closed: Server) -> None:
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}, {"Authorization": f"Basic {KEY}"}):
        for method, path in [*(("GET", path) for path in API), ("POST", "/v1/completions")]:
            answer = ask(closed, method, path, **given)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert said(answer) == "this server asks for its key: Authorization: Bearer KEY"
    for path in API:
        assert ask(closed, "GET", path, Authorization=f"Bearer {KEY}", Host="my.example").status == 200
    assert [ask(closed, "GET", path).status for path in OPEN] == [200] * len(OPEN)


@pytest.mark.slow
def test_the_document_says_where_the_key_is_asked_for(server: Server, closed: Server) -> None:
    paths = closed.get("/openapi.json")["paths"]
    keyed = {path for path, methods in paths.items() for one in methods.values() if "security" in one}
    assert keyed == {"/v1/completions", "/v1/models", "/v1/models/{name}", "/metrics"}
    assert not [path for path, methods in server.get("/openapi.json")["paths"].items() if "security" in str(methods)]


@pytest.mark.slow
def test_head_is_get_without_the_body(server: Server) -> None:
    for path in API + OPEN:
        whole, head = ask(server, "GET", path), ask(server, "HEAD", path)
        assert (head.status, head.read()) == (200, b"")
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert ask(server, "HEAD", "/v1/completions").status == 405


@pytest.mark.slow
def test_no_answer_may_be_framed_or_taken_for_another_type(server: Server) -> None:
    for method, path in [*(("GET", path) for path in [*API, *OPEN, "/none"]), ("POST", "/v1/completions")]:
        answer = ask(server, method, path)
        assert answer.headers.get_all("x-content-type-options") == ["nosniff"]
        assert all(
            "frame-ancestors 'none'" in policy for policy in answer.headers.get_all("content-security-policy", [])
        )
        assert "server" not in answer.headers


@pytest.mark.slow
def test_a_key_that_is_set_but_empty_opens_no_door(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTMODEL_API_KEY", "")
    command = [sys.executable, "-m", "gptmodel", "serve", str(bundle), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert (done.returncode, "--api-key takes" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_server_for_other_machines_says_who_may_ask(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTMODEL_API_KEY", KEY)
    command = [sys.executable, "-m", "gptmodel", "serve", str(bundle), "--port", "0", "--host", "0.0.0.0"]
    process = subprocess.Popen([*command, "--allow-host", "my.example"], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    lines = [process.stderr.readline() for _ in range(4)]
    process.terminate()
    process.communicate(timeout=20)
    port = lines[3].split()[2].rpartition(":")[2]
    assert lines[1:3] == [
        "note: other machines can reach it, and whoever asks needs the key\n",
        f"note: it answers to http://ADDRESS:{port} and by name to localhost, my.example (--allow-host adds more)\n",
    ]
