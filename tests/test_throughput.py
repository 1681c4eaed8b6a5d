import json
import time

import pytest
import torch

from captioner import throughput
from captioner.decoder import DecoderConfig
from captioner.encoder import EncoderConfig
from captioner.model import ModelConfig
from captioner.photographs import Preprocessing
from captioner.training_config import TrainingConfig

MODEL = ModelConfig(
    EncoderConfig("resnet18", levels=1), DecoderConfig(width=16, layers=2), Preprocessing(image_size=64)
)
TRAINING = TrainingConfig(batch=2, captions=2)


def test_actions_take_turns_after_a_round_that_warms_up():
    calls = []
    slow, fast = throughput.median_seconds(
        [lambda: calls.append("slow") or time.sleep(0.02), lambda: calls.append("fast")], rounds=3
    )
    assert calls == ["slow", "fast"] * 4
    assert slow >= 0.02 > fast


def test_every_decoder_is_measured_beside_the_lstm():
    lines = throughput.measure(MODEL, TRAINING, rounds=1, device=torch.device("cpu"))
    assert [line["name"] for line in lines] == [contender.name for contender in throughput.CONTENDERS]
    first = lines[0]
    for line in lines:
        assert line["words_per_second_ratio"] == pytest.approx(line["words_per_second"] / first["words_per_second"])
        assert line["caption_ms_ratio"] == pytest.approx(line["caption_ms"] / first["caption_ms"])


def test_a_timed_caption_has_all_the_words_it_may_have(monkeypatch):
    found = []
    search = throughput.beam_search
    monkeypatch.setattr(throughput, "beam_search", lambda *given: found.extend(search(*given)))
    throughput.measure(MODEL, TRAINING, rounds=1, device=torch.device("cpu"))
    assert found
    assert all(len(best.words) == 20 for best, *_ in found)


def test_the_command_line_prints_a_table_and_writes_it(tmp_path, monkeypatch, capsys):
    small = [dict.fromkeys(("parameters", "words_per_second", "words_per_second_ratio"), 1)]
    small[0] |= {"name": "LSTM", "caption_ms": 2.0, "caption_ms_ratio": 1.0}
    monkeypatch.setattr(throughput, "measure", lambda *_, **__: small)
    assert throughput.main(["--json", str(tmp_path / "results" / "table.json"), "--device", "cpu"]) == 0
    report = json.loads((tmp_path / "results" / "table.json").read_text())
    assert report["decoders"] == small
    assert (report["beam"], report["seed"]) == (3, 0)
    assert "LSTM" in capsys.readouterr().out
