import pytest
import torch

from captioner import ablation
from captioner.attribution import grad_cam
from captioner.decoder import DecoderConfig
from captioner.generation import GenerationConfig, beam_search, sample
from captioner.hub import ModelError, load_model, save_model
from captioner.likelihood import log_probabilities
from captioner.model import DECODERS
from captioner.reading import read
from captioner.teaching import caption_loss
from captioner.training import train
from captioner.training_config import TrainingConfig
from captioner.vocabulary import END, START
from tests.decoders import (
    CHANNELS,
    GRID,
    VOCABULARY,
    a_pass,
    assert_no_position_sees_a_later_word,
    assert_one_word_at_a_time_gives_what_all_at_once_gives,
)
from tests.tiny import tiny_model
from tests.tiny_data import make_data, make_encoder_weights

BASELINES = ["lstm", "transformer"]


def a_decoder(kind, **options):
    torch.manual_seed(0)
    config = DecoderConfig(kind, width=16, layers=2, **options)
    return DECODERS[kind](config, channels=CHANNELS, grid=GRID, vocabulary=VOCABULARY).eval()


@pytest.fixture(params=BASELINES)
def decoder(request):
    return a_decoder(request.param)


def test_one_word_at_a_time_gives_what_all_at_once_gives(decoder):
    assert_one_word_at_a_time_gives_what_all_at_once_gives(decoder)


@torch.no_grad()
def test_a_caption_may_be_continued_from_any_point_and_in_any_order(decoder):
    features, words = a_pass(1, 3)
    regions = decoder.look(features)
    together, _ = decoder(words, regions)
    _, state = decoder(words[:, :4], regions)
    rows = [2, 0, 0]
    rest, _ = decoder(words[rows, 4:], regions, [past[rows] for past in state])
    torch.testing.assert_close(rest.logits, together.logits[rows, 4:], rtol=1e-5, atol=1e-5)


def test_no_position_sees_a_later_word(decoder):
    assert_no_position_sees_a_later_word(decoder)


@torch.no_grad()
def test_every_earlier_word_counts_and_so_does_its_place(decoder):
    features, words = a_pass(1, 1)
    regions = decoder.look(features)
    last = decoder(words, regions)[0].logits[:, -1]
    other = words.clone()
    other[:, 0] = (other[:, 0] - 4 + 7) % (VOCABULARY - 4) + 4
    swapped = words[:, [1, 0, *range(2, 9)]]
    for changed in (other, swapped):
        assert not torch.allclose(decoder(changed, regions)[0].logits[:, -1], last, atol=1e-6)


@torch.no_grad()
def test_captions_do_not_mix_photographs_and_photographs_matter(decoder):
    features, words = a_pass()
    decoded, _ = decoder(words, decoder.look(features))
    alone, _ = decoder(words[3:], decoder.look(features[1:]))
    torch.testing.assert_close(decoded.logits[3:], alone.logits, rtol=1e-5, atol=1e-5)
    other, _ = decoder(words, decoder.look(features.flip(0)))
    assert not torch.allclose(decoded.logits, other.logits, atol=1e-4)


@torch.no_grad()
def test_a_reading_has_attention_and_no_parts(decoder):
    features, words = a_pass()
    reading = read(decoder, words, decoder.look(features))
    assert reading.language is reading.relevance is reading.region_logits is None
    assert reading.attention.shape == (6, 9, 9)
    assert reading.layer_maps.shape[:2] == (6, 9)
    torch.testing.assert_close(reading.layer_maps[:, :, -1], reading.attention)
    for maps in (reading.attention, reading.layer_maps):
        assert (maps >= 0).all()
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))


@torch.no_grad()
def test_a_weight_moves_with_the_region_it_is_of(decoder):
    features, words = a_pass(1, 1)
    decoder.position.zero_()
    order = torch.randperm(9)
    before, _ = decoder(words, decoder.look(features))
    after, _ = decoder(words, decoder.look(features[:, order]))
    torch.testing.assert_close(after.alpha, before.alpha[:, :, order], rtol=1e-4, atol=1e-6)


def test_search_and_sampling_work_as_with_the_convolutional_decoder(decoder):
    features, _ = a_pass()
    regions = decoder.look(features)
    generation = GenerationConfig(beam_size=3, max_words=6)
    for index, (best, *others) in enumerate(beam_search(decoder, regions, generation, prefix=[5])):
        assert best.words[0] == 5
        assert all(other.score <= best.score for other in others)
        words = torch.tensor([[*best.words, END]])
        with torch.no_grad():
            logs = log_probabilities(read(decoder, words, decoder.look(features[[index]])).logits)
        assert best.log_probability == pytest.approx(float(logs.gather(2, words[:, :, None]).sum()), abs=1e-4)
    drawn = sample(decoder, regions, 4, 5)
    assert drawn.shape[0] == 8
    assert not (drawn == START).any()


def test_every_parameter_learns(decoder):
    features, words = a_pass()
    decoder.train()
    decoder(words, decoder.look(features))[0].logits.square().sum().backward()
    assert [name for name, p in decoder.named_parameters() if p.grad is None] == []


def test_gradient_maps_work_too(decoder):
    features, words = a_pass(1, 2)
    assert grad_cam(decoder, features[0], words, torch.tensor([0, 5])).shape == (2, 9)


def test_a_few_steps_teach_what_to_say_of_which_photograph(decoder):
    features, words = a_pass(2, 1, words=4)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = caption_loss(read(decoder, words, decoder.look(features)).logits, words, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("kind", BASELINES)
def test_a_model_is_saved_and_loaded_with_its_kind(kind, tmp_path):
    save_model(tmp_path, tiny_model(kind=kind))
    loaded = load_model(tmp_path).model
    assert type(loaded.decoder) is DECODERS[kind]
    assert loaded.decoder.head.embedding is loaded.decoder.embedding
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text().replace(f'"{kind}"', '"rnn"'))
    with pytest.raises(ModelError, match="cnn, lstm, transformer"):
        load_model(tmp_path)


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="8 heads, not 20"):
        DECODERS["transformer"](DecoderConfig("transformer", width=20), channels=4, grid=GRID, vocabulary=9)


@pytest.mark.parametrize("kind", BASELINES)
def test_a_whole_run_trains_a_baseline_and_refuses_terms_it_cannot_learn_from(kind, tmp_path):
    data, weights = make_data(tmp_path / "data"), make_encoder_weights(tmp_path / "weights.safetensors")
    model = tiny_model(kind=kind).model.config
    plain = TrainingConfig(epochs=1, tuned_epochs=0, reinforced_epochs=0, least_count=1, boxes=0, matching=0)
    options = {"model_config": model, "cache": tmp_path / "cache", "about": {}, "device": torch.device("cpu")}
    with pytest.raises(ValueError, match="learn from boxes, matching"):
        train(data, tmp_path / "run", weights, config=TrainingConfig(), **options)
    assert not (tmp_path / "run").exists()
    train(data, tmp_path / "run", weights, config=plain, **options)
    assert type(load_model(tmp_path / "run").model.decoder) is DECODERS[kind]


@pytest.mark.parametrize("name", ["LSTM, soft attention", "Transformer"])
def test_in_the_ablation_a_baseline_has_as_many_parameters_as_the_whole_model(name):
    def parameters(row):
        config = ablation.configs(row, 0)[0]
        decoder = DECODERS[config.decoder.kind](config.decoder, channels=2048, grid=config.grid, vocabulary=2533)
        return sum(p.numel() for p in decoder.parameters())

    rows = {row.name: row for row in ablation.ROWS}
    assert 1 <= parameters(rows[name]) / parameters(rows["whole model"]) <= 1.15
