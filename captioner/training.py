"""Training: teacher forcing with the encoder frozen, then tuned, then self-critical steps; the best on val is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from captioner import distributed
from captioner.augmentation import views
from captioner.data import CaptionedPhotograph, of_split
from captioner.datasets import read_data
from captioner.decoder import Regions
from captioner.distillation import Teachers, distillation_loss
from captioner.enhancement import PhraseWords, box_loss, matching_loss
from captioner.entities import read_entities
from captioner.examples import Batch, Examples
from captioner.features import batch_of, cached_features
from captioner.finished import go_on_from
from captioner.generation import GenerationConfig, beam_search, sample
from captioner.hub import SavedModel, load_model, replace_file, save_model
from captioner.language import pretrain, read_sentences
from captioner.metrics import CiderD, score_captions
from captioner.model import CaptionModel, ModelConfig
from captioner.precision import mixed_precision
from captioner.progress import Progress
from captioner.readability import readable
from captioner.reading import read
from captioner.reinforcement import Reward, self_critical_loss
from captioner.shards import read_captions
from captioner.streaming import StreamedExamples
from captioner.teaching import caption_loss
from captioner.training_config import TrainingConfig, learning_rate_at
from captioner.vocabulary import PAD, Vocabulary, sentence


def imitation_loss(
    model: CaptionModel,
    batch: Batch,
    config: TrainingConfig,
    *,
    regions: Regions | None = None,
    tunes: bool = False,
    teachers: Teachers | None = None,
) -> tuple[torch.Tensor, float]:
    """The loss of the first phase, and of it the cross-entropy on people's captions alone.

    That cross-entropy, in part replaced by the one on what ``teachers`` would say, and the enhancement. ``regions`` are
    those of the batch where they are known; ``tunes``: whether gradients reach the encoder's last stage. Both losses
    are this process's part of the batch's.
    """
    decoder = model.decoder
    words = batch.words.to(decoder.position.device)
    with mixed_precision(words.device, on_cpu=config.cpu_bfloat16):
        regions = regions or _look(model, batch, tunes=tunes)
        reading = read(decoder, words, regions)
        taught = teachers.probabilities(batch.features.to(words.device), words) if teachers else None
    entropy = caption_loss(reading.logits.float(), words, config.label_smoothing)
    entropy = loss = distributed.part_of_mean(entropy, _spoken(batch.words))
    if taught is not None:
        distilled = distributed.part_of_mean(distillation_loss(reading.logits.float(), taught, words), _spoken(words))
        loss = torch.lerp(entropy, distilled, config.distillation)
    if config.boxes:
        boxes = box_loss(reading, batch.phrases.to(words.device))
        loss = loss + config.boxes * distributed.part_of_mean(boxes, len(batch.phrases.captions))
    if config.matching:
        loss = loss + config.matching * matching_loss(regions.values.float(), decoder.embedding.weight, words)
    return loss, entropy.item()


def freeze_untuned(model: CaptionModel, config: TrainingConfig, teachers: Sequence[Path] = ()) -> None:
    """Freeze an encoder that is never tuned, where its features take no more room than what they are made of.

    Those of two levels take three times as much. ``teachers`` may have a last stage of their own, and need what is
    below it.
    """
    if not (config.tuned_epochs or teachers or model.config.encoder.levels == 2):
        model.encoder.freeze()


def _spoken(words: torch.Tensor) -> torch.Tensor:
    """How many of padded words there are."""
    return (words != PAD).sum()


def _look(model: CaptionModel, batch: Batch, *, tunes: bool = False) -> Regions:
    with torch.set_grad_enabled(tunes):
        features = model.finish(batch.features.to(model.decoder.position.device))
    return model.decoder.look(features)


_JUDGED = 50  # photographs at a time


class Validation:
    """Captions of the validation photographs and their scores, from cached features."""

    def __init__(self, records: list[CaptionedPhotograph], vocabulary: Vocabulary, features: np.ndarray):
        self.records, self.vocabulary, self.features = records, vocabulary, features
        # On the data's own words: fast, and close enough to choose by. The final figures use the reference tokeniser.
        self.cider = CiderD([record.tokens for record in records])

    def captions(self, model: CaptionModel, generation: GenerationConfig, own: slice = slice(None)) -> list[list[str]]:
        """The words of one caption a photograph, or of ``own`` photographs, by a model in evaluation mode."""
        device = model.decoder.position.device
        said, features = [], self.features[own]
        for start in range(0, len(features), _JUDGED):
            lower = batch_of(features[start : start + _JUDGED], device)
            with torch.no_grad():
                found = beam_search(model.decoder, model.decoder.look(model.finish(lower)), generation)
            said += [self.vocabulary.decode(best[0].words) for best in found]
        return said

    def mean_cider(self, model: CaptionModel, generation: GenerationConfig) -> float:
        """Percent-scale CIDEr-D. Of several processes each captions its part, and all call this."""
        own = distributed.part(len(self.records))
        scores = self.cider.score(self.captions(model, generation, own), range(len(self.records))[own])
        (total,) = distributed.total(float(np.sum(scores)))
        return total / len(self.records)

    def scores(self, model: CaptionModel, generation: GenerationConfig) -> dict[str, float]:
        """BLEU, ROUGE-L and CIDEr-D."""
        said = [sentence(words) for words in self.captions(model, generation)]
        return score_captions(said, [record.raw for record in self.records])


def train(
    data: Path,
    output: Path,
    encoder_weights: Path | str,
    *,
    model_config: ModelConfig,
    config: TrainingConfig,
    cache: Path,
    about: dict,
    device: torch.device,
    train_splits: Sequence[str] = ("train",),
    val_split: str = "val",
    shards: Sequence[Path] = (),
    text: Path | None = None,
    start: Path | None = None,
    teachers: Sequence[Path] = (),
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Train a captioner on ``train_splits`` and keep the averaged weights best on ``val_split``.

    Within ``distributed.processes`` all processes call this, and the first of them writes and says.

    ``shards``: tar files to learn from as a stream, instead of the ``train_splits`` in ``data``.
    ``text``: a file of sentences, one a line, that the decoder learns first; None for none. ``start``: a model folder
    to go on from, whose decoder and last encoder stage are not learnt anew. ``teachers``: model folders, of whose words
    the config's ``distillation`` is learnt.
    ``output`` becomes a model folder (``config.json``, ``model.safetensors``) with ``log.jsonl``
    (a line an epoch) and ``state.safetensors`` (to continue from) beside it.

    Raises ``DataError`` for unusable data, ``FileExistsError`` where a run is there and ``resume``
    is not asked for, ``FileNotFoundError`` where it is asked for and nothing is there, ``ValueError``
    for settings that do not go together or are not those of the run to continue.
    """
    if (output / Progress.FILE).exists() != resume:
        problem = FileNotFoundError if resume else FileExistsError
        raise problem(f"{output} holds {'no' if resume else 'a'} run; {'leave out' if resume else 'give'} --resume.")
    text = text if config.language_epochs else None
    if text and start:
        raise ValueError("A model to start from has learnt its sentences: leave out --text.")
    terms = {"boxes": config.boxes, "matching": config.matching, "text": text}
    asked = ", ".join(name for name, wanted in terms.items() if wanted)
    if asked and not model_config.decoder.additive:
        raise ValueError(
            f"Logits that are no sum over regions cannot learn from {asked}: "
            "give boxes and matching the weight 0, and no text."
        )
    if bool(teachers) != bool(config.distillation):
        raise ValueError("Distillation needs both: give --teachers and a --distillation above 0, or neither.")
    if val_split in train_splits or val_split.startswith("test"):
        raise ValueError(
            f"Weights are chosen by --val-split: it cannot be {val_split!r}, but one that nothing else uses."
        )
    if shards and config.boxes:
        raise ValueError("Shards hold no phrase boxes: give --boxes 0.")
    output.mkdir(parents=True, exist_ok=True)
    records = read_data(data)

    def decodable(part: list[CaptionedPhotograph]) -> list[CaptionedPhotograph]:
        with distributed.first_before_others():
            return readable(part, cache)

    training = read_captions(shards) if shards else decodable(of_split(records, *train_splits))
    validation = decodable(of_split(records, val_split))
    vocabulary = Vocabulary.of((w for r in training for w in r.tokens), least_count=config.least_count)
    torch.manual_seed(config.seed)
    model = CaptionModel(model_config, vocabulary=len(vocabulary))
    model.encoder.load_imagenet_weights(encoder_weights)
    begun = go_on_from(start, model, vocabulary) if start else {}
    freeze_untuned(model, config, teachers)
    model.to(device)

    def features(part: list[CaptionedPhotograph], label: str, **options) -> np.ndarray:
        paths = [record.path for record in part]
        with distributed.first_before_others():
            return cached_features(paths, model.encoder, model_config.preprocessing, cache, label=label, **options)

    ensemble = Teachers(teachers, model, vocabulary)
    if shards:
        examples = StreamedExamples(shards, training, vocabulary, config, model)
    else:
        shown = [features(training, "train", view=view, bfloat16=config.cpu_bfloat16) for view in views(config)]
        examples = Examples(training, vocabulary, shown, config, _phrases(data, training, model_config, config))
    judge = Validation(validation, vocabulary, features(validation, "val"))
    first = distributed.rank() == 0
    started = time.monotonic()
    if text and first and not resume:
        _learn_sentences(text, model, vocabulary, config, say)
    distributed.copy_first(model.parameters())
    progress = Progress(model, config, start=begun.get("name"), teachers=ensemble.names)
    progress.counters["seconds"] = time.monotonic() - started
    if resume:
        progress.load(output)
    elif text and first:
        progress.save(output)  # whoever stops the run from now on need not wait for the sentences again
    if first:
        say(
            f"{len(training)} photographs, {len(vocabulary)} words, "
            f"{sum(p.numel() for p in model.decoder.parameters()) / 1e6:.1f} M parameters in the decoder, on {device}"
            + (f", {distributed.world()} processes" if distributed.world() > 1 else "")
        )
    if begun:
        about = about | {"start": begun}
    if ensemble:
        about = about | {"teachers": ensemble.names}
    references = [record.tokens for record in training]
    _Loop(model, progress, examples, references, judge, vocabulary, ensemble, about, output, say).run()


def _learn_sentences(
    text: Path, model: CaptionModel, vocabulary: Vocabulary, config: TrainingConfig, say: Callable[[str], None]
) -> None:
    sentences = [vocabulary.encode(words) for words in read_sentences(text)]
    loss = pretrain(
        model.decoder,
        sentences,
        epochs=config.language_epochs,
        rate=config.language_rate,
        smoothing=config.label_smoothing,
        longest=config.longest,
        seed=config.seed,
        cpu_bfloat16=config.cpu_bfloat16,
    )
    say(f"learnt {len(sentences)} sentences of {text.name}, cross-entropy {loss:.3f}")


def _phrases(
    data: Path, records: list[CaptionedPhotograph], model_config: ModelConfig, config: TrainingConfig
) -> PhraseWords | None:
    """The phrase boxes of the training captions where they have a weight: of all photographs whole, then of each crop.

    Those of mirror images are mirrored when they are asked for.
    """
    if not config.boxes:
        return None
    entities = read_entities(data)
    crops = [view for view in views(config) if not view.mirrored]
    names = [record.path.name for record in records]
    known = [view.ground(entities.get(name, ()), name) for view in crops for name in names]
    return PhraseWords([record.tokens for record in records] * len(crops), known, model_config.grid)


class _Loop:
    """Epochs of steps; after each epoch the averaged weights are judged, and saved when they are the best yet."""

    def __init__(self, model, progress, examples, references, judge, vocabulary, teachers, about, output, say):
        self.model, self.progress, self.examples, self.judge = model, progress, examples, judge
        self.references = references  # the words of people's captions, photograph by photograph
        self.vocabulary, self.teachers = vocabulary, teachers
        self.about, self.output, self.say = about, output, say
        self.config: TrainingConfig = progress.config
        self.device = next(model.parameters()).device
        self.first = distributed.rank() == 0

    def run(self) -> None:
        epochs = self.config.epochs + self.config.reinforced_epochs
        done = self.progress.counters["step"]
        with tqdm(
            total=self.examples.steps * epochs,
            initial=done,
            unit="step",
            desc="training",
            smoothing=0.05,
            disable=not self.first,
        ) as bar:
            for epoch in range(done // self.examples.steps, epochs):
                self._epoch(epoch, bar)
                # By the beam's captions, which are what is used: greedy ones can be 3 points worse at no loss to these.
                cider = self.judge.mean_cider(self.model, GenerationConfig())
                if self.first:
                    self._judge(epoch, cider)
        if self.first:
            self._finish()

    def _epoch(self, epoch: int, bar: tqdm) -> None:
        counters, steps = self.progress.counters, self.examples.steps
        imitates = epoch < self.config.epochs
        tunes = epoch >= self.config.epochs - self.config.tuned_epochs
        self.progress.model.train(imitates)
        begun = 0 if imitates else self.config.epochs * steps  # each phase has an average of its own
        saved = time.monotonic()
        for batch in self.examples.epoch(epoch, skip=counters["step"] % steps):
            # Dropout and sampling depend on the step alone, so that a continued run is the same run.
            torch.manual_seed(self.config.seed + counters["step"] + (distributed.rank() << 32))
            loss, shown = self._imitate(batch, tunes) if imitates else self._reinforce(batch)
            rate = learning_rate_at(counters["step"], steps, self.config)
            self.progress.update(loss, rate, age=counters["step"] - begun)
            shown, photographs = distributed.total(shown, len(batch.rows))
            counters["shown"] += shown * photographs
            counters["photographs"] += photographs
            bar.update()
            # At an epoch's end the state is saved once the epoch has been judged.
            within = counters["step"] % steps
            if self.first and within and time.monotonic() - saved > self.config.checkpoint_seconds:
                self.progress.save(self.output)
                saved = time.monotonic()

    def _imitate(self, batch: Batch, tunes: bool = False, regions: Regions | None = None) -> tuple[torch.Tensor, float]:
        """The loss of the first phase; what is shown is the cross-entropy."""
        return imitation_loss(
            self.progress.model, batch, self.config, regions=regions, tunes=tunes, teachers=self.teachers
        )

    def _reinforce(self, batch: Batch) -> tuple[torch.Tensor, float]:
        """The self-critical loss of sampled captions; what is shown is their mean reward."""
        model, decoder, samples = self.progress.model, self.progress.model.decoder, self.config.captions
        # Dropout on words would draw captions from one network and learn from them in another, which diverges.
        model.train(self.config.reinforced_dropout)
        temperature = self.config.reinforced_temperature
        with self._mixed():
            regions = _look(model, batch)
        model.eval()
        with self._mixed():
            words = sample(decoder, regions, samples, self.config.longest, temperature=temperature)
        with self._mixed():
            logits = read(decoder, words, regions).logits
        said = words.cpu().numpy()
        # References are those of the photograph as it is: a mirror image's captions are mirrored back.
        said = np.where(np.repeat(batch.mirrored, samples)[:, None], self.examples.mirrored[said], said)
        rewards = torch.tensor(self.reward(said, np.repeat(batch.rows, samples)), device=self.device).float()
        loss = self_critical_loss(logits, words, rewards, samples, temperature)
        loss = distributed.part_of_mean(loss, _spoken(words))
        if self.config.reinforced_anchor:
            loss = loss + self.config.reinforced_anchor * self._imitate(batch, regions=regions)[0]
        return loss, distributed.part_of_mean(rewards.mean(), len(rewards)).item()

    def _mixed(self) -> torch.autocast:
        return mixed_precision(self.device, on_cpu=self.config.cpu_bfloat16)

    @cached_property
    def reward(self) -> Reward:
        return Reward(self.references, self.vocabulary)

    def _judge(self, epoch: int, cider: float) -> None:
        counters = self.progress.counters
        self.progress.count_time()
        line = {
            "epoch": epoch + 1,
            "step": counters["step"],
            "loss" if epoch < self.config.epochs else "reward": round(counters["shown"] / counters["photographs"], 4),
            "val_cider": round(cider, 2),
            "time": round(time.time(), 1),
            "seconds": round(counters["seconds"], 1),
        }
        self._log(line)
        self.say(", ".join(f"{name} {value}" for name, value in line.items() if name not in ("time", "seconds")))
        counters |= {"shown": 0.0, "photographs": 0}
        if cider > counters["best"]:
            counters["best"] = cider
            self._save({"epoch": line["epoch"], "val_cider": line["val_cider"]})
        self.progress.save(self.output)

    def _log(self, line: dict) -> None:
        """Add a line to the log, in place of one that a run killed before its next checkpoint left of this step."""
        file = self.output / "log.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        lines = [before for before in lines if json.loads(before)["step"] < line["step"]] + [json.dumps(line)]
        replace_file(file, lambda path: path.write_text("\n".join(lines) + "\n"))

    def _save(self, chosen: dict) -> None:
        about = self.about | {"training": asdict(self.config), "chosen": chosen}
        save_model(self.output, SavedModel(self.model, self.vocabulary, about))

    def _finish(self) -> None:
        """Write the scores of the weights that were kept into their ``config.json``."""
        saved = load_model(self.output)
        saved.model.to(self.device)
        if self.model.encoder.frozen:  # so are the features it is judged by
            saved.model.encoder.freeze()
        generation = GenerationConfig()
        scores = {name: round(score, 2) for name, score in self.judge.scores(saved.model, generation).items()}
        split = self.judge.records[0].split
        about = saved.about | {"scores": {"split": split, "beam": generation.beam_size} | scores}
        save_model(self.output, replace(saved, about=about))
        said = ", ".join(f"{name} {score}" for name, score in scores.items())
        self.say(f"{split}, beam {generation.beam_size}: {said}")
