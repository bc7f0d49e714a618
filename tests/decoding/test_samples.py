from gptmodel.decoding import samples
from gptmodel.decoding.sampling import Sampling
from gptmodel.model.torch_decoder import TorchDecoder
from tests.support.bundles import char_tokenizer, random_network

LETTERS = char_tokenizer()
DECODER = TorchDecoder(random_network("modern", LETTERS))


def test_each_prompt_is_continued_in_each_way_and_says_how_it_was_made() -> None:
    prompts, ways = ["île", "l'"], [Sampling(0.7, top_p=0.9), Sampling(0.0)]
    written = samples.write_all(DECODER, LETTERS, prompts, ways, max_new_tokens=9, seed=3)
    assert [(sample.prompt, sample.temperature) for sample in written.samples] == [
        ("île", 0.7),
        ("l'", 0.7),
        ("île", 0.0),
        ("l'", 0.0),
    ]
    assert {(len(sample.text), sample.seed) for sample in written.samples} == {(9, 3)}
    assert written.samples[:2] == samples.write(DECODER, LETTERS, prompts, ways[0], max_new_tokens=9, seed=3)
    assert written.samples[0].text != written.samples[2].text
