import json
from dataclasses import replace

import numpy as np
import pytest

from captioner.explanation import ExplainedCaption, ExplanationError, positive_map


def test_json_is_read_back_as_it_was(captioner, photograph):
    explained = captioner.explain(photograph)
    again = ExplainedCaption.from_json(explained.to_json())
    assert again.to_json() == explained.to_json()
    assert again.text == explained.text
    for one, other in zip(explained.words, again.words):
        np.testing.assert_array_equal(one.region_logits, other.region_logits)
        assert one.alternatives == other.alternatives


@pytest.mark.parametrize("familiarity", [None, 0.0, 0.02])
def test_familiarity_is_kept(captioner, photograph, tmp_path, familiarity):
    explained = replace(captioner.explain(photograph), familiarity=familiarity)
    assert ExplainedCaption.from_json(explained.to_json()).familiarity == familiarity
    explained.save(tmp_path)
    assert ExplainedCaption.load(tmp_path).familiarity == familiarity


def test_an_explanation_from_before_there_was_familiarity_is_read(captioner, photograph):
    values = json.loads(captioner.explain(photograph).to_json())
    del values["familiarity"]
    assert ExplainedCaption.from_json(json.dumps(values)).familiarity is None


def test_a_saved_explanation_is_loaded_with_its_photograph(captioner, photograph, tmp_path):
    explained = captioner.explain(photograph)
    explained.save(tmp_path / "new" / "folder")
    again = ExplainedCaption.load(tmp_path / "new" / "folder")
    assert again.to_json() == explained.to_json()
    np.testing.assert_array_equal(np.array(again.photograph), np.array(photograph))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema_version": 1}', "not json"])
def test_what_is_no_explanation_is_refused(text):
    with pytest.raises(ExplanationError, match="not a saved explanation"):
        ExplainedCaption.from_json(text)


def test_another_schema_version_is_refused_by_its_number(captioner, photograph):
    values = json.loads(captioner.explain(photograph).to_json()) | {"schema_version": 99}
    with pytest.raises(ExplanationError, match="version 99"):
        ExplainedCaption.from_json(json.dumps(values))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ExplanationError, match="holds no"):
        ExplainedCaption.load(tmp_path)


def test_a_map_is_the_positive_part_and_sums_to_one():
    logits = np.array([[[3.0, -2.0], [1.0, 0.0]], [[-1.0, -1.0], [-4.0, -1.0]]], dtype=np.float32)
    maps = positive_map(logits)
    np.testing.assert_allclose(maps[0], [[0.75, 0], [0.25, 0]])
    np.testing.assert_allclose(maps[1], 0.25)  # no region speaks for the word
