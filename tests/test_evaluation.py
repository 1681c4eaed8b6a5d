import json

import pytest

from captioner import evaluation
from captioner.data import DataError, of_split, read_karpathy
from captioner.entities import read_entities
from captioner.evaluation import METRICS, caption_all, captioned, evaluate, evaluate_predictions
from captioner.features import cached_features
from captioner.generation import GenerationConfig
from captioner.java_metrics import JAVA_METRICS, JavaError
from captioner.metrics import describe_captions, score_captions
from captioner.predictions import read_predictions
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
    assert results["captions"] == score_captions(said, [record.raw for record in records]) | describe_captions(said)
    assert results["seconds"] >= 0


def test_all_metrics_at_once_make_one_report_of_plain_values(captioner, folder, records):
    results = evaluate(captioner, records[:4], metrics=METRICS, phrases=read_entities(folder), tested=2)
    assert set(results) == {*METRICS, "photographs", "seconds"}
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
    results = evaluate(captioner, records[:2], metrics=["hallucination"])
    assert set(results) == {"hallucination", "photographs", "seconds"}


def test_grounding_without_boxes_says_what_is_missing(captioner, records):
    with pytest.raises(DataError, match=r"entities\.json"):
        evaluate(captioner, records, metrics=["captions", "grounding"])


def test_kept_features_give_what_encoding_gives(captioner, records, tmp_path):
    anew = list(captioned(captioner, records[:3], None, GenerationConfig()))
    model, paths = captioner.model, [record.path for record in records[:3]]
    kept = cached_features(paths, model.encoder, model.config.preprocessing, tmp_path)
    again = list(captioned(captioner, records[:3], kept, GenerationConfig()))
    assert [seen.caption for seen in again] == [seen.caption for seen in anew]
    assert [seen.record for seen in again] == records[:3]


def test_an_unknown_metric_is_named_with_the_choices(captioner, records):
    with pytest.raises(ValueError, match=r"No metric bleu; choose from captions"):
        evaluate(captioner, records, metrics=["bleu"])


@pytest.fixture
def java(monkeypatch) -> None:
    """Java metrics without Java: the number of candidates, and the number of references."""
    monkeypatch.setattr(evaluation, "require", lambda metrics: None)
    monkeypatch.setitem(JAVA_METRICS, "meteor", ("METEOR", lambda said, references: len(said)))
    monkeypatch.setitem(JAVA_METRICS, "spice", ("SPICE", lambda said, references: sum(map(len, references))))


def test_meteor_and_spice_stand_with_the_other_scores_where_asked_for(captioner, records, java):
    scores = evaluate(captioner, records[:3], metrics=["meteor"])["captions"]
    assert scores["METEOR"] == 3
    assert "SPICE" not in scores
    assert "CIDEr" in scores
    assert evaluate(captioner, records[:3], metrics=["captions", "spice"])["captions"]["SPICE"] == 6


def test_a_metric_that_cannot_run_is_found_out_before_captioning(captioner, records, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(evaluation, "captioned", None)
    with pytest.raises(JavaError, match="METEOR needs Java"):
        evaluate(captioner, records, metrics=["captions", "meteor"])


def test_predictions_score_as_the_model_that_made_them(captioner, records, java, tmp_path):
    metrics, training = ["captions", "meteor", "hallucination"], ["A dog ."]
    of_model = evaluate(captioner, records, metrics=metrics, training=training, save=tmp_path / "said.json")
    said = read_predictions(tmp_path / "said.json", records)
    of_file = evaluate_predictions(said, records, metrics=metrics, training=training)
    assert set(of_file) == {"captions", "hallucination", "photographs", "seconds"}
    assert of_file | {"seconds": 0} == of_model | {"seconds": 0}


def test_what_needs_a_model_is_refused_of_predictions(records):
    with pytest.raises(ValueError, match=r"No faithfulness or grounding without a model: .* captions, meteor, spice"):
        evaluate_predictions(["a"] * 18, records, metrics=["captions", "grounding", "faithfulness"])
