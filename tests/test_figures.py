import json

import pytest

from captioner import figures
from captioner.figures import draw, is_stale


@pytest.fixture
def results(tmp_path):
    rows = [{"name": "whole", "CIDEr": 39.0, "pointing": 73.0}, {"name": "plain", "CIDEr": 30.0}]
    rows[1]["pointing of attention"] = 56.0
    (tmp_path / "ablation.json").write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_a_figure_is_out_of_date_until_it_is_drawn_and_once_its_results_change(results):
    assert is_stale("ablation.png", results)
    draw("ablation.png", results)
    assert not is_stale("ablation.png", results)
    file = results / "ablation.json"
    file.write_text(file.read_text().replace("39.0", "39.1"))
    assert is_stale("ablation.png", results)


def test_a_figure_drawn_from_nothing_known_is_out_of_date(results):
    figures.FIGURES["ablation.png"](json.loads((results / "ablation.json").read_text())).savefig(
        results / "ablation.png"
    )
    assert is_stale("ablation.png", results)


def test_a_figure_that_nothing_draws_and_one_without_results_are_errors(results):
    with pytest.raises(ValueError, match=r"no figure 'other\.png'; there are ablation\.png"):
        is_stale("other.png", results)
    with pytest.raises(OSError, match=r"calibration\.json"):
        is_stale("calibration.png", results)
