import json
from pathlib import Path

import pytest

import evaluate
import train
from captioner.data import DataError, of_split, read_karpathy
from captioner.datasets import read_data
from captioner.progress import Progress
from tests.tiny_data import make_encoder_weights

SAMPLE = Path(__file__).parents[2] / "shared" / "coco-sample"


@pytest.fixture(scope="module")
def layouts(data, tmp_path_factory):
    """The tiny data in every layout of files."""
    folder = tmp_path_factory.mktemp("layouts")
    coco, tables = folder / "coco", folder / "tables"
    (coco / "annotations").mkdir(parents=True)
    tables.mkdir()
    for layout in (coco, tables):
        (layout / "images").symlink_to(data / "images")
    for split in ("train", "val"):
        records = of_split(read_karpathy(data), split)
        images = [{"id": number, "file_name": record.path.name} for number, record in enumerate(records)]
        said = [(number, caption) for number, record in enumerate(records) for caption in record.raw]
        annotations = [{"id": i, "image_id": number, "caption": text} for i, (number, text) in enumerate(said)]
        content = {"images": images, "annotations": annotations}
        (coco / "annotations" / f"captions_{split}.json").write_text(json.dumps(content))
        (tables / f"{split}.tsv").write_text("".join(f"{text}\t{images[n]['file_name']}\n" for n, text in said))
    return {"karpathy": data, "coco": coco, "tables": tables}


def test_every_layout_gives_the_same_photographs(layouts):
    first, *others = (
        {(record.path.name, record.split, record.tokens, record.raw) for record in read_data(folder)}
        for folder in layouts.values()
    )
    assert len(first) == 16
    assert others == [first, first]


@pytest.mark.parametrize("layout", ["coco", "tables"])
def test_a_model_is_trained_and_scored_on_any_layout(layouts, layout, tmp_path, capsys):
    weights = make_encoder_weights(tmp_path / "resnet18.safetensors")
    flags = (
        f"--data {layouts[layout]} --encoder-weights {weights} --cache {tmp_path / 'cache'} --output {tmp_path / 'run'}"
    )
    model = "--encoder-name resnet18 --image-size 64 --width 16 --layers 2 --device cpu --boxes 0"
    steps = "--batch 6 --captions 2 --least-count 1 --epochs 1 --tuned-epochs 0 --reinforced-epochs 0"
    assert train.main(f"{flags} {model} {steps}".split()) == 0
    assert evaluate.main(["--data", str(layouts[layout]), "--model", str(tmp_path / "run")]) == 0
    assert '"photographs": 4' in capsys.readouterr().out


def test_no_known_layout_is_refused_naming_all(tmp_path):
    with pytest.raises(DataError, match=r"dataset\*\.json.*captions_\*\.json.*\*\.tsv.*train/\*\.tar"):
        read_data(tmp_path)


@pytest.mark.parametrize("flags", ["--val-split test", "--val-split test2015", "--train-splits train val"])
def test_weights_are_never_chosen_by_a_test_split_or_by_what_is_learnt_from(data, tmp_path, flags, capsys):
    files = f"--data {data} --encoder-weights none --output {tmp_path / 'run'}"
    assert train.main(f"{files} {flags}".split()) == 2
    assert "chosen by --val-split" in capsys.readouterr().err


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs the COCO sample in ../shared/coco-sample")
def test_the_recipe_of_the_paper_runs_on_coco_in_the_karpathy_split_without_its_test_split(tmp_path):
    splits = ["train"] * 4 + ["restval"] * 2 + ["val"] * 2 + ["test"] * 2
    (tmp_path / "data" / "images").mkdir(parents=True)
    images = []
    for record, split in zip(read_data(SAMPLE), splits):
        copy = tmp_path / "data" / "images" / record.path.name
        # Were a photograph of the test split opened, training would fail.
        copy.write_bytes(b"" if split == "test" else record.path.read_bytes())
        said = "unseen" if split == "test" else "seen"
        sentences = [
            {"raw": f"{raw} {said}", "tokens": [*words, said]} for raw, words in zip(record.raw, record.tokens)
        ]
        images.append({"filename": copy.name, "cocoid": record.coco_id, "split": split, "sentences": sentences})
    (tmp_path / "data" / "dataset_coco.json").write_text(json.dumps({"images": images}))
    weights = make_encoder_weights(tmp_path / "resnet101.safetensors", "resnet101")
    folders = f"--data {tmp_path / 'data'} --cache {tmp_path / 'cache'} --output {tmp_path / 'run'}"
    steps = "--image-size 64 --batch 3 --captions 2 --least-count 1 --epochs 1 --tuned-epochs 1 --reinforced-epochs 1"
    flags = (
        f"{folders} --encoder-weights {weights} {steps} --recipe coco-paper --train-splits train restval --device cpu"
    )
    assert train.main(flags.split()) == 0
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]  # six photographs to learn from, three a step
    assert "unseen" not in json.dumps(about)
    assert (tmp_path / "run" / Progress.FILE).exists()
