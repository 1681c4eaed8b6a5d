"""Shards: what they hold, who reads which, and training from them."""

import json
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

import evaluate
import train
from captioner.data import DataError, of_split, read_karpathy
from captioner.datasets import read_data
from captioner.shards import on_disk, photograph_in, read_captions, shards_of, stream, unpack
from tests.tiny_data import make_encoder_weights, make_shards, write_shard
from tests.two_processes import train_in_two

pytest.importorskip("webdataset", reason="needs webdataset: pip install webdataset")
EPOCHS = "--epochs 2 --tuned-epochs 1 --reinforced-epochs".split()
ONE_EPOCH = "--epochs 1 --tuned-epochs 1 --reinforced-epochs 0".split()


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory):
    return make_shards(tmp_path_factory.mktemp("shards"), data)


def name_of(sample):
    return str(photograph_in(sample)[0])


def names(shards, **changes):
    return [name_of(sample) for sample in stream(shards, dict, **({"seed": (0, 0)} | changes))]


def test_captions_are_read_in_order_with_the_split_of_the_folder(data, shards):
    read = read_captions(shards_of(shards, "train"))
    known = {record.path.name: record.tokens for record in of_split(read_karpathy(data), "train")}
    assert {record.path.name: record.tokens for record in read} == known
    assert {record.split for record in read} == {"train"}
    assert read[0].path == Path("train/00000.tar/0.png")
    assert not (shards_of(data, "train"))
    with pytest.raises(DataError, match="test holds no shards"):
        shards_of(shards, "test")


def test_captions_may_be_in_json(tmp_path):
    contents = {
        "a.jpg": b"1",
        "a.json": b'{"caption": "A dog"}',
        "b.jpg": b"2",
        "b.json": b'{"captions": ["One", "Two"]}',
    }
    read = read_captions([write_shard(tmp_path / "train" / "0.tar", contents)])
    assert [record.raw for record in read] == [("A dog",), ("One", "Two")]


def test_what_is_broken_is_counted_named_and_survived(tmp_path):
    contents = {
        "a.jpg": b"1",
        "a.txt": b"A dog",
        "b.txt": b"A cat without a photograph",
        "c.jpg": b"2",
        "d.jpg": b"3",
        "d.json": b"{",
        "a.jpeg": b"4",
        "a.json": b'{"caption": "A second a"}',
    }
    train = tmp_path / "train"
    whole = write_shard(train / "0.tar", contents)
    cut = write_shard(train / "1.tar", {"e.jpg": bytes(2000), "e.txt": b"A bird", "f.jpg": bytes(9000)})
    cut.write_bytes(cut.read_bytes()[:6000])
    (train / "2.tar").write_bytes(b"no tar file" * 100)
    with pytest.warns(UserWarning, match="left out") as warned:
        read = read_captions(sorted(train.glob("*.tar")))
    assert [record.raw for record in read] == [("A dog",), ("A second a",), ("A bird",)]
    (told,) = (str(warning.message) for warning in warned if warning.category is UserWarning)
    assert "1 x captions without a photograph (train/0.tar/b.)" in told
    assert "1 x photographs without captions (c.jpg)" in told
    assert "1 x broken captions (train/0.tar/d.jpg)" in told
    assert "2 x shards that are broken in part (1.tar, 2.tar)" in told
    assert len(list(stream([whole, cut], name_of, (0, 0)))) >= 3
    with pytest.raises(DataError, match="Expected: tar files"):
        read_captions([train / "2.tar"])


def test_a_stream_has_everything_once_in_an_order_of_seed_and_epoch(shards):
    files = shards_of(shards, "train")
    first = names(files)
    assert len(first) == len(set(first)) == 12
    assert names(files) == first
    assert sorted(names(files, seed=(0, 1))) == sorted(first)
    assert names(files, seed=(0, 1)) != first
    assert [name.split("/")[1] for name in first] != sorted(name.split("/")[1] for name in first)


def test_shards_are_dealt_anew_every_epoch(shards, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    files = shards_of(shards, "train")
    assert len({frozenset(names(files, seed=(0, epoch))) for epoch in range(5)}) > 1


def test_equal_names_in_different_folders_of_a_tar_file_stay_apart(data, tmp_path):
    one, two = ((data / "images" / f"{number}.png").read_bytes() for number in range(2))
    contents = {"a/1.png": one, "a/1.txt": b"One", "b/1.png": two, "b/1.txt": b"Two"}
    shard = write_shard(tmp_path / "train" / "0.tar", contents)
    assert [record.path for record in read_captions([shard])] == [
        Path("train/0.tar", n) for n in ("a-1.png", "b-1.png")
    ]
    unpack([shard], tmp_path / "out")
    assert [record.path.read_bytes() for record in read_data(tmp_path / "out")] == [one, two]


@pytest.mark.parametrize("count", [3, 4])
def test_processes_and_workers_share_the_photographs_without_duplicates(data, tmp_path, monkeypatch, count):
    files = shards_of(make_shards(tmp_path, data, shards=count), "train")
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        found.append(list(DataLoader(stream(files, name_of, (0, 0)), batch_size=None, num_workers=2)))
    assert all(found)
    assert len(found[0] + found[1]) == len(set(found[0] + found[1])) == 12


def test_unpacked_shards_are_the_same_data(data, shards, tmp_path):
    unpack(shards_of(shards, "val"), tmp_path)
    read, known = read_data(tmp_path), of_split(read_karpathy(data), "val")
    assert [record.raw for record in read] == [record.raw for record in known]
    assert [record.path.read_bytes() for record in read] == [record.path.read_bytes() for record in known]
    assert {record.split for record in read} == {"val"}


def test_names_in_a_tar_file_lead_nowhere_and_unreadable_photographs_are_told(data, tmp_path):
    photograph = next((data / "images").iterdir()).read_bytes()
    contents = {"../../evil.png": photograph, "../../evil.txt": b"A\tdog", "b.png": b"no photograph", "b.txt": b"A cat"}
    shard = write_shard(tmp_path / "train" / "0.tar", contents)
    with pytest.warns(UserWarning, match=r"1 x unreadable photographs \(train/0\.tar/b\.png\)"):
        unpack([shard], tmp_path / "deep" / "down")
    assert len(list((tmp_path / "deep" / "down" / "images").iterdir())) == 1
    assert [record.raw for record in read_data(tmp_path / "deep" / "down")] == [("A dog",)]
    assert not list(tmp_path.rglob("evil.png"))


def test_other_layouts_stay_where_they_are_and_unpacked_shards_go_away(data, shards):
    with on_disk(data, "val") as folder:
        assert folder == data
    with on_disk(shards, "val", limit=2) as folder:
        assert len(read_data(folder)) == 2
    assert not folder.exists()
    with pytest.raises(DataError, match="as a stream"):
        read_data(shards)


def test_without_the_library_one_sentence_says_what_to_install(shards, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(DataError, match="pip install"):
        read_captions(shards_of(shards, "train"))


@pytest.fixture(scope="module")
def flags(shards, tmp_path_factory):
    """Training from shards, but for its output and its epochs."""
    folder = tmp_path_factory.mktemp("shared")
    weights = make_encoder_weights(folder / "resnet18.safetensors")
    files = f"--data {shards} --encoder-weights {weights} --cache {folder / 'cache'}"
    model = "--encoder-name resnet18 --image-size 64 --width 16 --layers 2 --device cpu --boxes 0"
    return f"{files} {model} --batch 4 --captions 2 --least-count 1".split()


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_model_is_trained_and_scored_from_shards_as_a_stream(flags, shards, tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main([*flags, *EPOCHS, "1", "--output", str(run)]) == 0
    assert [line["step"] for line in log(run)] == [3, 6, 9]
    assert log(run)[1]["loss"] < log(run)[0]["loss"]
    assert evaluate.main(["--data", str(shards), "--model", str(run)]) == 0
    assert '"photographs": 4' in capsys.readouterr().out


def test_two_processes_train_from_shards_in_step(flags, tmp_path):
    run = tmp_path / "run"
    train_in_two([*flags, *ONE_EPOCH], run)
    assert [line["step"] for line in log(run)] == [3]
    first, second = ((run / f"process-{rank}.safetensors").read_bytes() for rank in range(2))
    assert first == second


def test_boxes_cannot_be_learnt_from_shards(flags, tmp_path, capsys):
    assert train.main([*flags, "--boxes", "1", "--output", str(tmp_path / "run")]) == 2
    assert "give --boxes 0" in capsys.readouterr().err
