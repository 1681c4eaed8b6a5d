import json

import numpy as np
import pytest

from captioner.data import DataError, of_split, read_karpathy
from captioner.entities import read_entities
from captioner.evaluation import METRICS, caption_all, captioned, evaluate
from captioner.generation import GenerationConfig
from captioner.metrics import score_captions
from tests.tiny_data import make_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data") / "tiny", train=18)


@pytest.fixture(scope="module")
def records(folder):
    return of_split(read_karpathy(folder), "train")


def test_captions_are_those_of_explain_in_order(captioner, records):
    said = caption_all(captioner, records, GenerationConfig())
    assert said == [captioner.explain(record.path).text for record in records]


def test_scores_are_those_of_the_captions(captioner, records):
    results = evaluate(captioner, records)
    said = caption_all(captioner, records, GenerationConfig())
    assert results["captions"] == score_captions(said, [record.raw for record in records])
    assert results["seconds"] >= 0


def test_all_metrics_at_once_make_one_report_of_plain_values(captioner, folder, records):
    results = evaluate(captioner, records[:4], metrics=METRICS, phrases=read_entities(folder), tested=2)
    assert set(results) == {*METRICS, "seconds"}
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    grounding, faithfulness = results["grounding"], results["faithfulness"]
    assert {"region_word", "attention", "centre", "uniform", "shuffled", "grad_cam"} <= set(grounding["pointing"])
    assert grounding["photographs"] == 4
    assert grounding["phrases_by_map"]["input_gradient"] < grounding["phrases_by_map"]["region_word"]
    assert {"deletion", "insertion", "deletion_random", "insertion_random"} <= set(faithfulness)
    for part in (faithfulness, *(faithfulness[name] for name in ("reliance", "sanity", "signatures"))):
        assert part["photographs"] == 2
    assert set(results["hallucination"]) >= {"CHAIR-s", "truth"}


def test_what_was_not_asked_for_is_absent(captioner, records):
    assert set(evaluate(captioner, records[:2], metrics=["hallucination"])) == {"hallucination", "seconds"}


def test_grounding_without_boxes_says_what_is_missing(captioner, records):
    with pytest.raises(DataError, match=r"entities\.json"):
        evaluate(captioner, records, metrics=["captions", "grounding"])


def test_kept_features_give_what_encoding_gives(captioner, records):
    anew = list(captioned(captioner, records[:3], None, GenerationConfig()))
    kept = np.stack([seen.features.numpy() for seen in anew])
    again = list(captioned(captioner, records[:3], kept, GenerationConfig()))
    assert [seen.caption for seen in again] == [seen.caption for seen in anew]
    assert [seen.record for seen in again] == records[:3]


def test_an_unknown_metric_is_named_with_the_choices(captioner, records):
    with pytest.raises(ValueError, match=r"No metric bleu; choose from captions"):
        evaluate(captioner, records, metrics=["bleu"])
