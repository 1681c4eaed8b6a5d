"""Throughput: how fast the decoders learn and how fast they caption, in turns, so that all meet the same machine.

``python -m captioner.throughput --json FILE``. All have the same width, the same features, already encoded, and the
same captions; both are random, since only the sizes count.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from captioner.decoder import Decoder, DecoderConfig
from captioner.encoder import Encoder, EncoderConfig
from captioner.enhancement import PhraseBoxes
from captioner.examples import Batch
from captioner.generation import GenerationConfig, beam_search
from captioner.json_files import output_file, write_json
from captioner.model import DECODERS, ModelConfig
from captioner.provenance import provenance
from captioner.training import imitation_loss
from captioner.training_config import TrainingConfig
from captioner.vocabulary import END

VOCABULARY = 2533  # of Flickr8k's training captions, words that occur five times
WORDS = 13  # of a caption, its end with them
SEED = 0


@dataclass(frozen=True)
class Contender:
    """A decoder, and what it learns from."""

    name: str
    decoder: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


_NO_TERMS = {"boxes": 0.0, "matching": 0.0}
CONTENDERS = (
    Contender("LSTM, soft attention", {"kind": "lstm"}, _NO_TERMS),  # the others are compared with the first
    Contender("Transformer", {"kind": "transformer"}, _NO_TERMS),
    Contender("CNN", {"feedback": False}, _NO_TERMS),
    Contender("CNN with enhancement"),
)


def median_seconds(actions: Sequence[Callable[[], None]], *, rounds: int) -> list[float]:
    """Median seconds that each of the actions takes, in turns; a round before the first warms up."""
    taken = np.zeros((rounds + 1, len(actions)))
    for number in range(rounds + 1):
        for index, action in enumerate(actions):
            started = time.perf_counter()
            action()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[number, index] = time.perf_counter() - started
    return np.median(taken[1:], 0).tolist()


def random_batch(features: tuple[int, ...], grid: tuple[int, int], config: TrainingConfig, vocabulary: int) -> Batch:
    """A batch with features of this shape for every photograph, three words in boxes a caption; always the same."""
    random = torch.Generator().manual_seed(SEED)
    captions = config.batch * config.captions
    placed = 3 * captions
    phrases = PhraseBoxes(
        torch.randint(captions, (placed,), generator=random),
        torch.randint(WORDS, (placed,), generator=random),
        torch.rand(placed, grid[0] * grid[1], generator=random),
    )
    return Batch(
        torch.rand(config.batch, *features, generator=random),
        torch.randint(END + 1, vocabulary, (captions, WORDS), generator=random),
        phrases,
        np.arange(config.batch),
        np.zeros(config.batch, dtype=bool),
    )


@dataclass(frozen=True)
class _Encoded:
    """A decoder in the place of a whole model: the features are encoded already."""

    decoder: Decoder

    def finish(self, features: torch.Tensor) -> torch.Tensor:
        return features


def measure(
    model: ModelConfig,
    training: TrainingConfig,
    *,
    rounds: int,
    device: torch.device,
    contenders: Sequence[Contender] = CONTENDERS,
) -> list[dict[str, Any]]:
    """A line for each of the contenders: words it learns a second, milliseconds a caption, and ratios to the first.

    A training step is forward and backward pass and the optimiser's step; a caption is that of a beam of 3 for one
    photograph, with as many words as it may have.
    """
    channels = Encoder(model.encoder).channels
    torch.manual_seed(SEED)
    configs = [replace(model.decoder, **contender.decoder) for contender in contenders]
    decoders = [
        DECODERS[config.kind](config, channels=channels, grid=model.grid, vocabulary=VOCABULARY).to(device)
        for config in configs
    ]
    batch = random_batch((model.grid[0] * model.grid[1], channels), model.grid, training, VOCABULARY)
    batch = replace(batch, features=batch.features.to(device))
    steps = [
        _step(decoder, batch, replace(training, **contender.training))
        for decoder, contender in zip(decoders, contenders)
    ]
    words = median_seconds(steps, rounds=rounds)
    searches = [_search(decoder, batch.features[:1]) for decoder in decoders]
    captions = median_seconds(searches, rounds=rounds)
    return [
        {
            "name": contender.name,
            "parameters": sum(p.numel() for p in decoder.parameters()),
            "words_per_second": batch.words.numel() / step,
            "words_per_second_ratio": words[0] / step,
            "caption_ms": 1000 * caption,
            "caption_ms_ratio": caption / captions[0],
        }
        for contender, decoder, step, caption in zip(contenders, decoders, words, captions)
    ]


def _step(decoder: Decoder, batch: Batch, config: TrainingConfig) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=config.learning_rate, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        imitation_loss(_Encoded(decoder), batch, config)[0].backward()
        nn.utils.clip_grad_norm_(decoder.parameters(), config.clip)
        optimizer.step()

    return step


def _search(decoder: Decoder, features: torch.Tensor) -> Callable[[], None]:
    """Searches with a decoder that learns no more, and never ends a caption early."""
    decoder.eval()
    with torch.no_grad():
        decoder.head.bias[END] = -50.0

    @torch.inference_mode()
    def search() -> None:
        beam_search(decoder, decoder.look(features), GenerationConfig())

    return search


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner.throughput",
        description="Measure how fast the convolutional decoder and the baselines learn and caption.",
    )
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default: %(default)s)")
    parser.add_argument(
        "--levels",
        type=int,
        choices=(1, 2),
        default=EncoderConfig.levels,
        help="of the encoder: 1 for 7 x 7 regions, 2 for 14 x 14 (default: %(default)s)",
    )
    parser.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="file to write the table to")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    started = time.monotonic()
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model, training = ModelConfig(EncoderConfig(levels=arguments.levels), DecoderConfig()), TrainingConfig()
    lines = measure(model, training, rounds=arguments.rounds, device=device)
    print(f"{'':24}{'parameters':>12}{'words/s':>12}{'ratio':>8}{'ms/caption':>12}{'ratio':>8}")
    for line in lines:
        print(
            f"{line['name']:24}{line['parameters']:12,}{line['words_per_second']:12,.0f}"
            f"{line['words_per_second_ratio']:8.2f}{line['caption_ms']:12.1f}{line['caption_ms_ratio']:8.2f}"
        )
    if arguments.json:
        settings = {"model": asdict(model), "training": asdict(training), "decoders": [*map(asdict, CONTENDERS)]}
        settings |= {"rounds": arguments.rounds, "vocabulary": VOCABULARY, "words": WORDS, "seed": SEED}
        report = {"device": str(device), "threads": torch.get_num_threads(), "grid": model.grid}
        report |= {"beam": GenerationConfig.beam_size, "seed": SEED, "settings": settings}
        report |= {"run": provenance(["-m", "captioner.throughput", *argv], settings)}
        report |= {"decoders": lines, "seconds": round(time.monotonic() - started, 1)}
        write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
