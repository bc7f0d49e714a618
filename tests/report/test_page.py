import json
import re
from html import unescape

import pytest

from gptmodel.report import page, verdict
from gptmodel.results.comparison import Pair
from gptmodel.results.samples import Samples
from tests.support import records, runs

NASTY = records.NASTY
SCORED = (
    "The best model, gpt, needs 2.00 bits for each character of text it has never seen (95 % interval: 1.90 to 2.10); "
    "the best baseline, kneser-ney-3, which only counts, needs 2.10"
)


@pytest.mark.parametrize("is_real", [True, False])
@pytest.mark.parametrize("names", [("gpt", "kneser-ney-3"), ("kneser-ney-3", "gpt")])
def test_the_headline_says_whether_chance_explains_the_difference(names: tuple[str, str], is_real: bool) -> None:
    pair = Pair(a=names[0], b=names[1], bits_per_char=-0.1, low=-0.2, high=0.0, certainty=0.9, is_real=is_real)
    end = "a difference beyond chance." if is_real else "a difference that chance alone could explain."
    assert page.headline(runs.run().model_copy(update={"pairs": [pair]})) == f"{SCORED}, {end}"


def test_without_a_test_text_the_headline_says_that_validation_flatters() -> None:
    headline = page.headline(runs.run(has_test=False))
    assert "2.00 bits for each character of the validation text, which also chose when to stop (95 %" in headline


def test_the_page_says_the_verdict_in_the_words_of_verdict_md() -> None:
    said = verdict.of_run(runs.run())
    box = page.render(runs.run()).split('<div id="verdict"')[1].split("</div>")[0]
    shown = " ".join(unescape(re.sub(r"<code>|</code>", "`", box)).split())
    for line in [said.conclusion, *(each.markdown() for each in said.models)]:
        assert f"<p>{line}</p>" in shown.replace(' class="headline"', "")
    assert "`models.gpt.steps: " in shown


def test_the_page_holds_the_records_as_they_are_the_best_model_first() -> None:
    run = runs.run()
    data = page.page_data(run)
    assert [model["meta"]["name"] for model in data["models"]] == ["gpt", "word", "pairs"]
    assert data["models"][0] == run.models["gpt"].model_dump(mode="json")
    assert data["main_split"] == "test"
    assert page.page_data(runs.run(has_test=False))["main_split"] == "validation"


def test_no_text_can_leave_its_place_in_the_page() -> None:
    run = runs.run()
    quiet = runs.model("gpt", samples=Samples(samples=[records.sample("toit")]))
    html, empty = page.render(run), page.render(run.model_copy(update={"models": {"gpt": quiet}}))
    assert NASTY in run.models["gpt"].samples.samples[0].text
    for opening in ("<script", "</script", "<!--"):
        assert html.count(opening) == empty.count(opening)
    assert "<title>Le &lt;b&gt;Toit&lt;/b&gt;" in html
    assert "{{ data }}" in html  # of a sample: what a text holds is not filled in
    assert html.count("Is it French? Is it new?") == 2  # in the contents and above the section


def test_what_is_embedded_is_the_data_rounded() -> None:
    run = runs.run()
    html = page.render(run)
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert data["models"][0]["samples"] == run.models["gpt"].samples.model_dump(mode="json")
    assert [point["train_bits_per_char"] for point in data["models"][0]["history"]] == [None, 4.0, 2.0]
    assert data["models"][0]["metrics"]["test"]["loss_nats"] == 1.3863
    assert len(html.encode()) < 3_000_000


def test_the_page_names_no_address_and_forbids_requests() -> None:
    html = page.render(runs.run())
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    assert (
        "content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\"" in html
    )
