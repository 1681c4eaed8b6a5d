import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import captioner
import train as train_py
from captioner import features, progress, training
from captioner.data import DataError, of_split, read_karpathy
from captioner.decoder import DecoderConfig
from captioner.encoder import Encoder, EncoderConfig
from captioner.examples import Examples
from captioner.features import cached_features
from captioner.model import ModelConfig
from captioner.photographs import Preprocessing
from captioner.progress import Progress
from captioner.training import train
from captioner.training_config import TrainingConfig, learning_rate_at
from captioner.vocabulary import END, PAD, Vocabulary
from tests.tiny_data import make_encoder_weights

CONFIG = TrainingConfig(epochs=3, tuned_epochs=2, reinforced_epochs=0, batch=5, captions=2, least_count=1, warm_up=0.2)
MODEL = ModelConfig(EncoderConfig("resnet18"), DecoderConfig(width=16, layers=2), Preprocessing(image_size=64))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Call it with a folder to train into; features are cached across the tests of this module."""
    shared = tmp_path_factory.mktemp("shared")
    weights = make_encoder_weights(shared / "resnet18.safetensors")

    def start(output, config=CONFIG, model=MODEL, **options):
        train(
            data,
            output,
            weights,
            model_config=model,
            config=config,
            cache=shared / "cache",
            about={"data": "tiny"},
            device=torch.device("cpu"),
            say=lambda line: None,
            **options,
        )
        return output

    return start


def final_weights(folder):
    return {name: tensor for name, tensor in load_file(folder / Progress.FILE).items()}


def test_a_run_leaves_a_model_a_log_and_its_scores(run, tmp_path):
    output = run(tmp_path / "run")
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]
    loaded = captioner.load(output, device="cpu")
    assert loaded.about["scores"]["split"] == "val"
    assert loaded.about["chosen"]["val_cider"] == max(line["val_cider"] for line in lines)
    assert loaded.about["training"]["seed"] == 0


def test_the_same_seed_gives_the_same_run(run, tmp_path):
    config = replace(CONFIG, epochs=1, tuned_epochs=1)
    one, two = final_weights(run(tmp_path / "one", config)), final_weights(run(tmp_path / "two", config))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=0, atol=0)
    other = final_weights(run(tmp_path / "other", replace(config, seed=1)))
    assert not torch.equal(one["model.decoder.norm.weight"], other["model.decoder.norm.weight"])


def test_multiplying_in_bfloat16_learns_nearly_the_same(run, sentences, tmp_path):
    config = replace(CONFIG, epochs=1, tuned_epochs=1, language_epochs=1, reinforced_epochs=1)
    exact = run(tmp_path / "exact", config, text=sentences)
    rounded = run(tmp_path / "rounded", replace(config, cpu_bfloat16=True), text=sentences)
    (one, _), (other, reinforced) = entries(exact), entries(rounded)
    assert one["loss"] != other["loss"]
    assert one["loss"] == pytest.approx(other["loss"], rel=0.05)
    assert math.isfinite(reinforced["reward"])  # samples are others where probabilities differ ever so little


def test_an_encoder_that_is_never_tuned_runs_once_and_changes_nothing(run, tmp_path, monkeypatch):
    """Two runs, whose features are kept after the encoder's last stage and before it."""
    model = replace(MODEL, encoder=replace(MODEL.encoder, levels=1))
    config = replace(CONFIG, tuned_epochs=0, reinforced_epochs=1)
    once = run(tmp_path / "once", config, model)
    monkeypatch.setattr(Encoder, "freeze", lambda self: None)
    again = run(tmp_path / "again", config, model)
    for one, other in zip(entries(once), entries(again)):
        assert one == pytest.approx(other, rel=1e-2)
    expected = final_weights(again)
    for name, tensor in final_weights(once).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0.05, atol=0.05)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    text = tmp_path_factory.mktemp("text") / "sentences.txt"
    text.write_text("A blue square is on the left.\nThe red square is right.\n" * 20)
    return text


INTERRUPTED = replace(CONFIG, epochs=1, tuned_epochs=1, reinforced_epochs=2)
OFTEN = {"checkpoint_seconds": 0.0}  # after every step; a run may be continued with other intervals


@pytest.fixture(scope="module")
def uninterrupted(run, sentences, tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), INTERRUPTED, text=sentences)


def entries(folder):
    """The lines of a log, times aside."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("time", "seconds")} for line in lines]


def assert_same_run(one, two):
    assert entries(one) == entries(two)
    expected, weights = final_weights(one), final_weights(two)
    assert expected.keys() == weights.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=0)


@pytest.fixture
def killed(monkeypatch):
    """Call it with a number of steps and a run: it is killed when it has saved after so many."""
    save = Progress.save

    def kill(steps, start):
        def killed_after_saving(self, folder):
            save(self, folder)
            if self.counters["step"] == steps:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Progress, "save", killed_after_saving)
            with pytest.raises(KeyboardInterrupt):
                start()

    return kill


@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_an_interrupted_run_continues_as_if_nothing_had_happened(
    run, uninterrupted, sentences, tmp_path, killed, steps
):
    """Nine steps, three an epoch: stopped before them, within an epoch, at its end and in a reinforced one."""
    killed(steps, lambda: run(tmp_path, replace(INTERRUPTED, **OFTEN), text=sentences))
    run(tmp_path, INTERRUPTED, text=sentences, resume=True)
    assert_same_run(uninterrupted, tmp_path)
    assert ["reward" in line for line in entries(tmp_path)] == [False, True, True]


@pytest.fixture(scope="module")
def teachers(run, tmp_path_factory):
    """Two finished runs of different seeds."""
    folder = tmp_path_factory.mktemp("teachers")
    return [run(folder / f"{seed}", replace(CONFIG, epochs=1, tuned_epochs=seed, seed=seed)) for seed in range(2)]


def test_a_run_with_crops_and_teachers_continues_as_if_nothing_had_happened(run, teachers, tmp_path, killed):
    config = replace(CONFIG, epochs=2, tuned_epochs=1, crops=1, distillation=0.5)
    whole = run(tmp_path / "whole", config, teachers=teachers)
    killed(4, lambda: run(tmp_path / "killed", replace(config, **OFTEN), teachers=teachers))
    with pytest.raises(ValueError, match="other settings: teachers"):
        run(tmp_path / "killed", config, teachers=teachers[:1], resume=True)
    run(tmp_path / "killed", config, teachers=teachers, resume=True)
    assert_same_run(whole, tmp_path / "killed")
    about = captioner.load(whole, device="cpu").about
    assert [name.split()[0] for name in about["teachers"]] == ["0", "1"]
    assert (about["training"]["crops"], about["training"]["distillation"]) == (1, 0.5)
    untaught = run(tmp_path / "untaught", replace(config, distillation=0.0))
    assert "teachers" not in captioner.load(untaught, device="cpu").about
    assert entries(untaught)[-1]["loss"] != entries(whole)[-1]["loss"]


def test_a_run_goes_on_from_a_finished_model(run, teachers, sentences, tmp_path, killed):
    config = replace(CONFIG, epochs=0, tuned_epochs=0, reinforced_epochs=2, reinforced_rate=1e-6, averaging=0.0)
    start = teachers[1]
    whole = run(tmp_path / "whole", config, start=start)
    before, after = (captioner.load(folder, device="cpu") for folder in (start, whole))
    assert all("reward" in line for line in entries(whole))
    for known, learnt in zip(before.model.parameters(), after.model.parameters()):
        torch.testing.assert_close(learnt, known, atol=2e-3, rtol=0)  # at so small a rate
    assert after.about["start"]["name"].startswith("1 ")
    assert after.about["start"]["training"] == before.about["training"]

    killed(4, lambda: run(tmp_path / "killed", replace(config, **OFTEN), start=start))
    with pytest.raises(ValueError, match="other settings: start"):
        run(tmp_path / "killed", config, start=teachers[0], resume=True)
    run(tmp_path / "killed", config, start=start, resume=True)
    assert_same_run(whole, tmp_path / "killed")
    with pytest.raises(ValueError, match="leave out --text"):
        run(tmp_path / "text", CONFIG, start=start, text=sentences)


def test_temperature_and_dropout_decide_what_self_critical_training_learns_from(run, teachers, tmp_path):
    config = replace(CONFIG, epochs=0, tuned_epochs=0, reinforced_epochs=1)
    changes = {"sharp": {}, "flat": {"reinforced_temperature": 2.0}, "through dropout": {"reinforced_dropout": True}}
    rewards = {
        name: entries(run(tmp_path / name, replace(config, **change), start=teachers[0]))[0]["reward"]
        for name, change in changes.items()
    }
    assert len({*rewards.values()}) == len(changes)


def test_teachers_and_their_share_of_the_loss_go_together(run, teachers, tmp_path):
    for config, given in ((CONFIG, teachers), (replace(CONFIG, distillation=0.5), ())):
        with pytest.raises(ValueError, match="give --teachers and a --distillation above 0, or neither"):
            run(tmp_path, config, teachers=given)
    assert not list(tmp_path.iterdir())


def test_validation_photographs_are_shown_whole_and_training_ones_in_all_views(run, tmp_path, monkeypatch):
    shown = []

    def noted(paths, *arguments, view=features.WHOLE, label="", **options):
        shown.append((label, view.number, view.mirrored))
        return cached_features(paths, *arguments, view=view, label=label, **options)

    monkeypatch.setattr(training, "cached_features", noted)
    run(tmp_path, replace(CONFIG, epochs=1, crops=2))
    assert sorted(shown) == [*(("train", number, flip) for number in range(3) for flip in (0, 1)), ("val", 0, False)]


def test_the_seconds_of_a_run_hold_its_sentences_and_no_pause(run, sentences, tmp_path, monkeypatch, killed):
    """By a clock that moves with every step, with learning sentences and while nothing runs."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    update, pretrain = Progress.update, training.pretrain

    def updated(self, *arguments, **options):
        clock.now += 1
        update(self, *arguments, **options)

    def taught(*arguments, **options):
        clock.now += 100
        return pretrain(*arguments, **options)

    monkeypatch.setattr(training, "pretrain", taught)
    monkeypatch.setattr(Progress, "update", updated)
    often = replace(CONFIG, epochs=2, checkpoint_seconds=0.5)
    killed(4, lambda: run(tmp_path, often, text=sentences))
    clock.now += 10_000
    run(tmp_path, often, text=sentences, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["seconds"] for line in lines] == [103, 106]


def test_a_run_is_not_continued_with_another_decoder(run, data, tmp_path):
    run(tmp_path, replace(CONFIG, epochs=1))
    other = replace(MODEL, decoder=replace(MODEL.decoder, layer_dropout=0.2))
    with pytest.raises(ValueError, match="other settings: layer_dropout"):
        run(tmp_path, replace(CONFIG, epochs=1), other, resume=True)


def test_a_run_killed_between_log_and_checkpoint_logs_its_epoch_once(
    run, uninterrupted, sentences, tmp_path, monkeypatch
):
    save = Progress.save

    def killed_before_saving(self, folder):
        if self.counters["step"] == 6:
            raise KeyboardInterrupt
        save(self, folder)

    monkeypatch.setattr(Progress, "save", killed_before_saving)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, INTERRUPTED, text=sentences)
    assert len(entries(tmp_path)) == 2
    monkeypatch.setattr(Progress, "save", save)
    run(tmp_path, INTERRUPTED, text=sentences, resume=True)
    assert_same_run(uninterrupted, tmp_path)


def test_a_killed_process_continues_as_if_nothing_had_happened(data, sentences, tmp_path):
    """Twelve steps, six an epoch, a checkpoint after each: killed in the second epoch, with no chance to tidy up."""
    weights = make_encoder_weights(tmp_path / "resnet18.safetensors")

    def command(output, *more):
        files = f"--data {data} --text {sentences} --encoder-weights {weights} --output {output}"
        model = "--encoder-name resnet18 --image-size 64 --width 16 --layers 2"
        epochs = "--epochs 2 --tuned-epochs 0 --reinforced-epochs 0 --batch 2 --captions 2 --least-count 1"
        settings = f"{model} {epochs} --no-flip --cache {tmp_path / 'cache'} --device cpu"
        return [*files.split(), *settings.split(), *more]

    assert train_py.main(command(tmp_path / "whole")) == 0
    script = Path(train_py.__file__)
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, script, *command(killed, "--checkpoint-seconds", "0")],
        cwd=script.parent,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while steps_saved(killed) < 7:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert 7 <= steps_saved(killed) < 12
    assert len(entries(killed)) == 1
    assert train_py.main(command(killed, "--resume")) == 0
    assert_same_run(tmp_path / "whole", killed)


def steps_saved(folder):
    if not (folder / Progress.FILE).exists():
        return -1
    # safe_open opens a file twice, and a run that goes on may have put the next one in its place meanwhile.
    with (folder / Progress.FILE).open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["counters"])["step"]


def test_sentences_are_learnt_before_the_first_step_unless_for_no_epochs(
    run, uninterrupted, sentences, tmp_path, monkeypatch
):
    monkeypatch.delattr(training, "pretrain")
    without = run(tmp_path, replace(INTERRUPTED, language_epochs=0), text=sentences)
    assert entries(without)[0]["loss"] > entries(uninterrupted)[0]["loss"]


def test_a_run_stopped_while_it_learns_sentences_is_started_again(run, sentences, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "pretrain", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, text=sentences)
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError, match="leave out --resume"):
        run(tmp_path, text=sentences, resume=True)
    run(tmp_path, replace(CONFIG, epochs=1), text=sentences)


@pytest.mark.parametrize(("saved", "advice"), [(False, "starts anew"), (True, "with --resume continues")])
def test_whoever_stops_a_run_is_told_how_it_goes_on(tmp_path, monkeypatch, capsys, saved, advice):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    if saved:
        (tmp_path / Progress.FILE).touch()
    monkeypatch.setattr(train_py, "train", stopped)
    assert train_py.main(["--data", "data", "--encoder-weights", "weights", "--output", str(tmp_path)]) == 130
    assert advice in capsys.readouterr().err


def test_the_last_stage_of_the_encoder_learns_in_its_epochs_alone(run, tmp_path):
    first = "encoder.body.layer4.0.conv1.weight"

    def learnt(name, **changes):
        output = run(tmp_path / name, replace(CONFIG, epochs=2, **changes))
        return load_file(output / Progress.FILE)[f"model.{first}"], load_file(output / "model.safetensors")

    frozen, model = learnt("frozen", tuned_epochs=0)
    tuned, _ = learnt("tuned", tuned_epochs=1)
    assert not torch.equal(frozen, tuned)
    after_reinforcement, _ = learnt("reinforced", tuned_epochs=0, reinforced_epochs=1)
    assert torch.equal(frozen, after_reinforcement)
    assert torch.equal(model[first].float(), frozen.half().float())


def test_a_run_is_neither_overwritten_nor_continued_by_mistake(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="leave out --resume"):
        run(tmp_path / "run", resume=True)
    run(tmp_path / "run", replace(CONFIG, epochs=1))
    with pytest.raises(FileExistsError, match="give --resume"):
        run(tmp_path / "run")
    with pytest.raises(ValueError, match="learning_rate"):
        run(tmp_path / "run", replace(CONFIG, epochs=1, learning_rate=1.0), resume=True)


def test_self_critical_training_needs_captions_to_compare():
    with pytest.raises(ValueError, match="at least 2"):
        TrainingConfig(captions=1, reinforced_epochs=1)
    assert TrainingConfig(captions=1, reinforced_epochs=0).captions == 1


def test_validation_photographs_are_never_learnt_from(data, run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "Examples", lambda records, *rest: seen.extend(records) or Examples(records, *rest))
    run(tmp_path / "run", replace(CONFIG, epochs=1))
    assert seen
    assert {record.split for record in seen} == {"train"}


def test_boxes_need_phrases_beside_the_data(data, run, tmp_path, monkeypatch):
    def missing(folder):
        raise DataError(f"{folder / 'entities.json'} is missing")

    monkeypatch.setattr(training, "read_entities", missing)
    with pytest.raises(DataError, match=r"entities\.json is missing"):
        run(tmp_path / "run")
    run(tmp_path / "without", replace(CONFIG, epochs=1, boxes=0.0))


def test_data_without_a_split_is_refused(data):
    with pytest.raises(DataError, match="train, val"):
        of_split(read_karpathy(data), "test")


def examples(data, **changes):
    records = of_split(read_karpathy(data), "train")
    vocabulary = Vocabulary.of((words for record in records for words in record.tokens), least_count=1)
    # Features that tell the photograph: n + 1, negative when mirrored.
    rows = np.arange(1, len(records) + 1, dtype=np.float16)[:, None, None, None] * np.ones((2, 2, 8), dtype=np.float16)
    return vocabulary, Examples(records, vocabulary, [rows, -rows], replace(CONFIG, **changes))


def test_an_epoch_shows_every_photograph_once_with_its_captions(data):
    vocabulary, made = examples(data)
    batches = list(made.epoch(0))
    assert len(batches) == made.steps == 3
    rows = torch.cat([batch.features[:, 0, 0, 0].abs() for batch in batches])
    assert sorted(rows.tolist()) == list(range(1, 13))
    for batch in batches:
        features = batch.features
        assert (features[:, 0, 0, 0].abs().numpy() == batch.rows + 1).all()
        assert ((features[:, 0, 0, 0] < 0).numpy() == batch.mirrored).all()
        for row, ids in enumerate(batch.words.tolist()):
            words = vocabulary.decode(ids)
            assert ids[len(words)] == END
            photograph = made.captions[int(features[row // 2, 0, 0, 0].abs()) - 1]
            swapped = [{"left": "right", "right": "left"}.get(word, word) for word in words]
            flipped = features[row // 2, 0, 0, 0] < 0
            assert vocabulary.encode(swapped if flipped else words) in photograph


def test_epochs_differ_and_may_be_entered_in_the_middle(data):
    _, made = examples(data)
    first, second = list(made.epoch(0)), list(made.epoch(1))
    assert any(not torch.equal(a.features, b.features) for a, b in zip(first, second))
    for skip in range(made.steps):
        for whole, late in zip(first[skip:], made.epoch(0, skip=skip), strict=True):
            assert torch.equal(whole.features, late.features)
            assert torch.equal(whole.words, late.words)


def test_a_long_caption_is_cut_and_not_ended(data):
    _, made = examples(data, longest=3)
    for batch in made.epoch(0):
        assert batch.words.shape[1] == 4
        assert END not in batch.words
        assert PAD not in batch.words


def test_photographs_with_few_captions_repeat_them(data):
    _, made = examples(data, captions=5)
    assert len(next(made.epoch(0)).words) == 5 * 5


def test_the_learning_rate_rises_then_falls_to_zero():
    config = TrainingConfig(epochs=10, warm_up=0.1, learning_rate=1.0, reinforced_epochs=5, reinforced_rate=0.2)
    rates = [learning_rate_at(step, 10, config) for step in range(150)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:100] == sorted(rates[9:100], reverse=True)
    assert max(rates) == 1.0
    assert rates[99] < 0.001
    assert rates[100] == 0.2
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] < 0.001
