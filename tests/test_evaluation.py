import pytest

from captioner.data import of_split, read_karpathy
from captioner.evaluation import caption_all, evaluate
from captioner.generation import GenerationConfig
from captioner.metrics import score_captions
from tests.tiny_data import make_data


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return of_split(read_karpathy(make_data(tmp_path_factory.mktemp("data") / "tiny", train=18)), "train")


def test_captions_are_those_of_explain_in_order(captioner, records):
    said = caption_all(captioner, records, GenerationConfig())
    assert said == [captioner.explain(record.path).text for record in records]


def test_scores_are_those_of_the_captions(captioner, records):
    results = evaluate(captioner, records)
    said = caption_all(captioner, records, GenerationConfig())
    assert results["captions"] == score_captions(said, [record.raw for record in records])
    assert results["seconds"] >= 0


def test_an_unknown_metric_is_named_with_the_choices(captioner, records):
    with pytest.raises(ValueError, match=r"No metric bleu; choose from captions"):
        evaluate(captioner, records, metrics=["bleu"])
