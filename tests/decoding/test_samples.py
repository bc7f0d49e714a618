"""The samples of a model, as every other writer would write them."""

from gptmodel import params
from gptmodel.decoding import samples
from gptmodel.decoding.generation import complete
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.model.torch_decoder import TorchDecoder
from tests.support.bundles import char_tokenizer, random_network

LETTERS = char_tokenizer()
WRITER = TorchDecoder(random_network("modern", LETTERS))


def test_there_is_a_sample_of_each_prompt_at_each_temperature():
    settings = params.Samples(prompts=["l'", ""], temperatures=[0.7, 0.0], max_new_tokens=15, top_k=9, top_p=0.9)
    written = samples.write_all(WRITER, LETTERS, settings, seed=4).samples
    made = [(sample.prompt, sample.temperature, sample.seed) for sample in written]
    assert made == [("l'", 0.7, 4), ("", 0.7, 4), ("l'", 0.0, 4), ("", 0.0, 4)]
    for sample in written:
        [alone] = complete(WRITER, LETTERS, [sample.prompt], Settings(15, Sampling(sample.temperature, 9, 0.9), 4))
        assert sample.text == alone.text
