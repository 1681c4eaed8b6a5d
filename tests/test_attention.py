import pytest
import torch

from captioner.attention import FORMS, Depth, PyramidAttention, attend, attention_scores, resize_maps

WIDTH, LAYERS, GRID = 16, 4, (5, 5)


def run(form, x, regions):
    """Weights of every layer, each layer's input being the same ``x``."""
    hierarchy, depth, maps = form(WIDTH, LAYERS, GRID), Depth(), []
    memory = hierarchy.memory(regions)
    for layer in range(LAYERS):
        _, depth = hierarchy.gate(layer, x, depth)
        weights, depth = hierarchy.look(layer, x, memory, depth)
        maps.append(weights)
    return hierarchy, maps


@pytest.mark.parametrize("name", FORMS)
def test_every_look_is_a_distribution_over_the_layers_own_grid(name):
    hierarchy, maps = run(FORMS[name], torch.randn(6, 3, WIDTH), torch.randn(2, 25, WIDTH))
    for layer, weights in enumerate(maps):
        grid = hierarchy.layer_grid(layer)
        assert (weights is None) == (grid is None)
        if weights is not None:
            assert weights.shape == (6, 3, grid[0] * grid[1])
            assert (weights >= 0).all()
            torch.testing.assert_close(weights.sum(-1), torch.ones(6, 3))


def test_without_a_hierarchy_only_the_top_layer_looks():
    _, maps = run(FORMS["none"], torch.randn(2, 3, WIDTH), torch.randn(2, 25, WIDTH))
    assert [weights is not None for weights in maps] == [False] * (LAYERS - 1) + [True]


def test_the_pyramid_goes_from_coarse_to_fine():
    pyramid = PyramidAttention(WIDTH, LAYERS, GRID)
    assert [pyramid.layer_grid(layer) for layer in range(LAYERS)] == [(3, 3), (3, 3), (5, 5), (5, 5)]


def test_a_pyramid_layer_adds_the_scores_of_the_layer_below():
    torch.manual_seed(0)
    pyramid = PyramidAttention(WIDTH, LAYERS, GRID)
    x, regions = torch.randn(2, 3, WIDTH), torch.randn(2, 25, WIDTH)
    memory = pyramid.memory(regions)
    handed = torch.full((2, 3, 9), -50.0)
    handed[..., 0] = 50.0  # the coarse look is sure of the upper left
    weights, _ = pyramid.look(2, x, memory, Depth(scores=handed))
    assert (weights.argmax(-1) == 0).all()


def test_the_gated_form_keeps_what_its_gate_lets_through():
    torch.manual_seed(0)
    gated = FORMS["gated"](WIDTH, LAYERS, GRID)
    x, regions = torch.randn(2, 3, WIDTH), torch.randn(2, 25, WIDTH)
    memory, earlier = gated.memory(regions), torch.randn(2, 3, WIDTH)
    _, depth = gated.gate(1, x, Depth(context=earlier))
    torch.nn.init.zeros_(gated.context_gates[1].weight)
    torch.nn.init.constant_(gated.context_gates[1].bias, 100.0)
    _, opened = gated.look(1, x, memory, depth)
    torch.nn.init.constant_(gated.context_gates[1].bias, -100.0)
    _, closed = gated.look(1, x, memory, depth)
    torch.testing.assert_close(opened.context - closed.context, earlier)


def test_captions_look_at_their_own_photograph():
    queries, keys = torch.randn(6, 2, WIDTH), torch.randn(3, 25, WIDTH)
    scores = attention_scores(queries, keys)
    for caption in range(6):
        expected = queries[caption] @ keys[caption // 2].T / WIDTH**0.5
        torch.testing.assert_close(scores[caption], expected)
    contexts = attend(scores.softmax(-1), keys)
    torch.testing.assert_close(contexts[5], scores.softmax(-1)[5] @ keys[2])


def test_resizing_a_map_keeps_where_it_is_strong():
    maps = torch.zeros(1, 1, 9)
    maps[..., 8] = 1
    assert resize_maps(maps, (3, 3), (6, 6)).argmax() == 35
    assert resize_maps(maps, (3, 3), (3, 3)) is maps
