"""Training: teacher forcing, fine-tuning, self-critical steps, weight averaging, checkpoints that continue the run."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from captioner.data import CaptionedPhotograph, of_split, read_karpathy
from captioner.decoder import Regions
from captioner.enhancement import PhraseBoxes, PhraseWords, box_loss, matching_loss
from captioner.entities import read_entities
from captioner.features import batch_of, cached_features
from captioner.generation import GenerationConfig, beam_search, sample
from captioner.hub import SavedModel, load_model, replace_file, save_model
from captioner.language import pretrain, read_sentences
from captioner.metrics import CiderD, score_captions
from captioner.model import CaptionModel, ModelConfig
from captioner.reading import read
from captioner.reinforcement import Reward, self_critical_loss
from captioner.schedule import half_cosine, warmed_cosine
from captioner.teaching import caption_loss, padded
from captioner.vocabulary import Vocabulary, sentence


@dataclass(frozen=True)
class TrainingConfig:
    """How the decoder is trained; the defaults made the bundled model."""

    language_epochs: int = field(default=1, metadata={"help": "passes over --text before, the image side absent"})
    language_rate: float = field(default=1e-3, metadata={"help": "peak learning rate in them"})
    epochs: int = field(default=9, metadata={"help": "passes over the training photographs"})
    batch: int = field(default=32, metadata={"help": "photographs a step, each with several captions"})
    captions: int = field(default=5, metadata={"help": "captions of each photograph in a step"})
    learning_rate: float = field(default=8e-4, metadata={"help": "peak learning rate of AdamW"})
    tuned_epochs: int = field(
        default=6, metadata={"help": "last ones of these epochs in which the encoder's last stage learns too"}
    )
    tuned_rate: float = field(default=4e-5, metadata={"help": "peak learning rate of the encoder's last stage"})
    warm_up: float = field(default=0.05, metadata={"help": "share of the steps in which the rate rises"})
    weight_decay: float = field(default=0.01, metadata={"help": "decay of matrices, AdamW"})
    label_smoothing: float = field(default=0.1, metadata={"help": "probability spread over all words"})
    averaging: float = field(default=0.998, metadata={"help": "decay a step of the averaged weights, which are saved"})
    clip: float = field(default=1.0, metadata={"help": "largest gradient norm"})
    flip: bool = field(default=True, metadata={"help": "mirror half the photographs, 'left' and 'right' with them"})
    least_count: int = field(default=5, metadata={"help": "occurrences that bring a word into the vocabulary"})
    reinforced_epochs: int = field(default=1, metadata={"help": "further passes of self-critical training on CIDEr-D"})
    reinforced_rate: float = field(default=5e-5, metadata={"help": "learning rate at their start"})
    reinforced_anchor: float = field(
        default=0.2, metadata={"help": "weight of the loss of the first phase in self-critical training"}
    )
    boxes: float = field(default=0.6, metadata={"help": "weight of phrase boxes (entities.json); 0 needs none"})
    matching: float = field(
        default=0.1, metadata={"help": "weight of finding the photograph of a caption by region-word scores"}
    )
    longest: int = field(default=16, metadata={"help": "words of a caption that are learnt from"})
    checkpoint_seconds: float = field(default=180.0, metadata={"help": "time between two checkpoints"})
    seed: int = field(default=0, metadata={"help": "of weights, order and dropout"})

    def __post_init__(self):
        if self.reinforced_epochs and self.captions < 2:
            raise ValueError("Self-critical training compares captions of a photograph: it needs at least 2 of them.")


@dataclass(frozen=True)
class Batch:
    """B photographs and the captions to learn, M = B x captions, those of one photograph adjacent."""

    features: torch.Tensor  # (B, C', H', W'), what the encoder's lower stages made of them
    words: torch.Tensor  # (M, T), end last
    phrases: PhraseBoxes | None
    rows: np.ndarray  # (B,), which photographs they are
    mirrored: np.ndarray  # (B,), whether features and captions are those of the mirror image


class Examples:
    """Photographs as features with their captions as ids, in batches that depend on seed and epoch alone."""

    def __init__(
        self,
        records: list[CaptionedPhotograph],
        vocabulary: Vocabulary,
        features: list[np.ndarray],  # cached ones of the photographs, then, if wanted, of their mirror images
        config: TrainingConfig,
        phrases: PhraseWords | None = None,
    ):
        self.features, self.config, self.phrases = features, config, phrases
        self.captions = [[vocabulary.encode(words) for words in record.tokens] for record in records]
        self.mirrored = np.arange(len(vocabulary))
        if "left" in vocabulary and "right" in vocabulary:
            left, right = vocabulary.encode(["left", "right"])
            self.mirrored[[left, right]] = right, left

    @property
    def steps(self) -> int:
        """Steps an epoch; the last batch may be smaller."""
        return math.ceil(len(self.captions) / self.config.batch)

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch ``skip`` on."""
        random = np.random.default_rng([self.config.seed, number])
        order = self._order(random)
        views = random.integers(len(self.features), size=len(order))
        chosen = [self._choose(len(captions), random) for captions in self.captions]
        for start in range(skip * self.config.batch, len(order), self.config.batch):
            rows = order[start : start + self.config.batch]
            features = np.stack([self.features[views[row]][row] for row in rows])
            captions = [(row, index, views[row] > 0) for row in rows for index in chosen[row]]
            words = padded([self._caption(*caption) for caption in captions], self.config.longest)
            phrases = self.phrases and self.phrases.batch(captions, self.config.longest)
            yield Batch(batch_of(features, torch.device("cpu")), words, phrases, rows, views[rows] > 0)

    def _order(self, random: np.random.Generator) -> np.ndarray:
        """A random order in which the photographs of a batch have captions of like length: less padding, same epoch."""
        batch = self.config.batch
        order = random.permutation(len(self.captions))
        longest = np.array([max(map(len, captions)) for captions in self.captions])
        pools = [order[start : start + 16 * batch] for start in range(0, len(order), 16 * batch)]
        pools = [pool[np.argsort(longest[pool], kind="stable")] for pool in pools]
        batches = [pool[start : start + batch] for pool in pools for start in range(0, len(pool), batch)]
        # A resumed epoch skips whole batches, so the one that is not full stays last.
        full, rest = batches[:-1], batches[-1:]
        random.shuffle(full)
        return np.concatenate(full + rest)

    def _choose(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Which captions of a photograph take part: different ones as long as there are enough."""
        rounds = -(-self.config.captions // count)
        return np.concatenate([random.permutation(count) for _ in range(rounds)])[: self.config.captions]

    def _caption(self, row: int, index: int, mirrored: bool) -> list[int]:
        words = self.captions[row][index]
        return self.mirrored[words].tolist() if mirrored else words


def imitation_loss(
    model: CaptionModel, batch: Batch, config: TrainingConfig, *, tunes: bool = False
) -> tuple[torch.Tensor, float]:
    """The loss of the first phase: cross-entropy on people's captions and the enhancement; the cross-entropy alone.

    ``tunes``: whether gradients reach the encoder's last stage.
    """
    decoder = model.decoder
    words = batch.words.to(decoder.position.device)
    with torch.autocast(words.device.type, torch.bfloat16, enabled=words.device.type == "cuda"):
        regions = _look(model, batch, tunes=tunes)
        reading = read(decoder, words, regions)
    entropy = loss = caption_loss(reading.logits.float(), words, config.label_smoothing)
    if config.boxes:
        loss = loss + config.boxes * box_loss(reading, batch.phrases.to(words.device))
    if config.matching:
        loss = loss + config.matching * matching_loss(regions.values.float(), decoder.embedding.weight, words)
    return loss, entropy.item()


def _look(model: CaptionModel, batch: Batch, *, tunes: bool = False) -> Regions:
    with torch.set_grad_enabled(tunes):
        features = model.finish(batch.features.to(model.decoder.position.device))
    return model.decoder.look(features)


def learning_rate_at(step: int, steps: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to zero; ``steps`` an epoch. Reinforced epochs have half a cosine too."""
    imitated, reinforced = steps * config.epochs, steps * config.reinforced_epochs
    if step < imitated:
        return config.learning_rate * warmed_cosine(step, imitated, warm=max(1, round(config.warm_up * imitated)))
    return config.reinforced_rate * half_cosine((step - imitated) / reinforced)


class Progress:
    """The state of a run: the model in training, its average, the optimiser and counters, in one atomic file.

    What learns are the decoder and the encoder's last stage; the lower stages stay as they are.
    """

    FILE = "state.safetensors"
    MAY_CHANGE = ("checkpoint_seconds",)

    def __init__(self, averaged: CaptionModel, config: TrainingConfig):
        self.averaged, self.config = averaged.eval(), config
        self.model = copy.deepcopy(averaged)
        groups = [
            {"params": list(parameters), "weight_decay": decay, "tuned": tuned}
            for module, tuned in ((self.model.decoder, False), (self.model.encoder.body.layer4, True))
            for decay, parameters in (
                (config.weight_decay, (p for p in module.parameters() if p.ndim > 1)),
                (0.0, (p for p in module.parameters() if p.ndim <= 1)),
            )
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
        self.counters = {"step": 0, "shown": 0.0, "photographs": 0, "best": -1.0}

    def update(self, loss: torch.Tensor, rate: float, *, age: int) -> None:
        """One step of the optimiser, and of the average behind it, which is ``age`` steps old."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * (self.config.tuned_rate / self.config.learning_rate if group["tuned"] else 1)
        learnt = _learnt(self.model)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learnt.values(), self.config.clip)
        self.optimizer.step()
        self.counters["step"] += 1
        decay = min(self.config.averaging, (1 + age) / (10 + age))
        with torch.no_grad():
            torch._foreach_lerp_(list(_learnt(self.averaged).values()), list(learnt.values()), 1 - decay)

    def save(self, folder: Path) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in _learnt(self.model).items()}
        tensors |= {f"averaged.{name}": tensor for name, tensor in _learnt(self.averaged).items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"counters": json.dumps(self.counters), "config": json.dumps(asdict(self.config))}
        replace_file(folder / self.FILE, lambda path: save_file(tensors, path, metadata=metadata))

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Continue from ``folder``. Raises ``ValueError`` where that run had other settings."""
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "averaged": {}, "optimizer": {}}
        with safe_open(folder / self.FILE, framework="pt") as file:
            metadata = file.metadata()
            for name in file.keys():  # noqa: SIM118, the file is no mapping
                part, rest = name.split(".", 1)
                parts[part][rest] = file.get_tensor(name)
        before, now = json.loads(metadata["config"]), asdict(self.config)
        changed = [name for name in now if before.get(name) != now[name] and name not in self.MAY_CHANGE]
        if changed:
            raise ValueError(f"The run to continue has other settings: {', '.join(changed)}. Give the same ones.")
        for part, model in (("model", self.model), ("averaged", self.averaged)):
            for name, parameter in _learnt(model).items():
                parameter.copy_(parts[part][name])
        state = self.optimizer.state_dict()
        own = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for name, tensor in parts["optimizer"].items():
            index, moment = name.split(".")
            # Moments lie in memory as their parameters do: the fused optimiser does not look.
            like = tensor if tensor.ndim == 0 else torch.empty_like(own[int(index)]).copy_(tensor)
            state["state"].setdefault(int(index), {})[moment] = like
        self.optimizer.load_state_dict(state)
        self.counters = json.loads(metadata["counters"])


def _learnt(model: CaptionModel) -> dict[str, nn.Parameter]:
    """The parameters that learn, by their names in the model."""
    own = ("decoder.", "encoder.body.layer4.")
    return {name: parameter for name, parameter in model.named_parameters() if name.startswith(own)}


_JUDGED = 50  # photographs at a time


class Validation:
    """Captions of the validation photographs and their scores, from cached features."""

    def __init__(self, records: list[CaptionedPhotograph], vocabulary: Vocabulary, features: np.ndarray):
        self.records, self.vocabulary, self.features = records, vocabulary, features
        # On the data's own words: fast, and close enough to choose by. The final figures use the reference tokeniser.
        self.cider = CiderD([record.tokens for record in records])

    def captions(self, model: CaptionModel, generation: GenerationConfig) -> list[list[str]]:
        """The words of one caption a photograph, by a model in evaluation mode."""
        device = model.decoder.position.device
        said = []
        for start in range(0, len(self.records), _JUDGED):
            lower = batch_of(self.features[start : start + _JUDGED], device)
            with torch.no_grad():
                found = beam_search(model.decoder, model.decoder.look(model.finish(lower)), generation)
            said += [self.vocabulary.decode(best[0].words) for best in found]
        return said

    def greedy_cider(self, model: CaptionModel) -> float:
        """Percent-scale CIDEr-D of the greedy captions."""
        return float(self.cider.score(self.captions(model, GenerationConfig(beam_size=1))).mean())

    def scores(self, model: CaptionModel, generation: GenerationConfig) -> dict[str, float]:
        """BLEU, ROUGE-L and CIDEr-D of the beam's captions."""
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
    text: Path | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Train a captioner on the split ``train`` and keep the averaged weights best on ``val``.

    ``text``: a file of sentences, one a line, that the decoder learns first; None for none.
    ``output`` becomes a model folder (``config.json``, ``model.safetensors``) with ``log.jsonl``
    (a line an epoch) and ``state.safetensors`` (to continue from) beside it.

    Raises ``DataError`` for unusable data, ``FileExistsError`` where a run is there and ``resume``
    is not asked for, ``FileNotFoundError`` where it is asked for and nothing is there.
    """
    if (output / Progress.FILE).exists() != resume:
        problem = FileNotFoundError if resume else FileExistsError
        raise problem(f"{output} holds {'no' if resume else 'a'} run; {'leave out' if resume else 'give'} --resume.")
    output.mkdir(parents=True, exist_ok=True)
    records = read_karpathy(data)
    training, validation = of_split(records, "train"), of_split(records, "val")
    vocabulary = Vocabulary.of((w for r in training for w in r.tokens), least_count=config.least_count)
    torch.manual_seed(config.seed)
    model = CaptionModel(model_config, vocabulary=len(vocabulary))
    model.encoder.load_imagenet_weights(encoder_weights)
    model.to(device)

    def features(part: list[CaptionedPhotograph], label: str, flipped: bool = False) -> np.ndarray:
        paths = [record.path for record in part]
        return cached_features(paths, model.encoder, model_config.preprocessing, cache, flipped=flipped, label=label)

    views = [features(training, "train")]
    if config.flip:
        views.append(features(training, "train-flipped", flipped=True))
    examples = Examples(training, vocabulary, views, config, _phrases(data, training, model_config, config))
    judge = Validation(validation, vocabulary, features(validation, "val"))
    if text and not resume:
        sentences = [vocabulary.encode(words) for words in read_sentences(text)]
        loss = pretrain(
            model.decoder,
            sentences,
            epochs=config.language_epochs,
            rate=config.language_rate,
            smoothing=config.label_smoothing,
            longest=config.longest,
            seed=config.seed,
        )
        say(f"learnt {len(sentences)} sentences of {text.name}, cross-entropy {loss:.3f}")
    progress = Progress(model, config)
    if resume:
        progress.load(output)
    say(
        f"{len(training)} photographs, {len(vocabulary)} words, "
        f"{sum(p.numel() for p in model.decoder.parameters()) / 1e6:.1f} M parameters in the decoder, on {device}"
    )
    _Loop(model, progress, examples, [r.tokens for r in training], judge, vocabulary, about, output, say).run()


def _phrases(
    data: Path, records: list[CaptionedPhotograph], model_config: ModelConfig, config: TrainingConfig
) -> PhraseWords | None:
    """The phrase boxes of the training captions where they have a weight."""
    if not config.boxes:
        return None
    entities = read_entities(data)
    known = [entities.get(record.path.name, ()) for record in records]
    return PhraseWords([record.tokens for record in records], known, model_config.grid)


class _Loop:
    """Epochs of steps; after each epoch the averaged weights are judged, and saved when they are the best yet."""

    def __init__(self, model, progress, examples, references, judge, vocabulary, about, output, say):
        self.model, self.progress, self.examples, self.judge = model, progress, examples, judge
        self.references = references  # the words of people's captions, photograph by photograph
        self.vocabulary, self.about, self.output, self.say = vocabulary, about, output, say
        self.config: TrainingConfig = progress.config
        self.device = next(model.parameters()).device

    def run(self) -> None:
        epochs = self.config.epochs + self.config.reinforced_epochs
        done = self.progress.counters["step"]
        with tqdm(
            total=self.examples.steps * epochs, initial=done, unit="step", desc="training", smoothing=0.05
        ) as bar:
            for epoch in range(done // self.examples.steps, epochs):
                self._epoch(epoch, bar)
                self._judge(epoch)
        self._finish()

    def _epoch(self, epoch: int, bar: tqdm) -> None:
        counters, steps = self.progress.counters, self.examples.steps
        imitates = epoch < self.config.epochs
        tunes = epoch >= self.config.epochs - self.config.tuned_epochs
        # Dropout would draw samples from one network and learn from them in another, which diverges.
        self.progress.model.train(imitates)
        begun = 0 if imitates else self.config.epochs * steps  # each phase has an average of its own
        saved = time.monotonic()
        for batch in self.examples.epoch(epoch, skip=counters["step"] % steps):
            # Dropout and sampling depend on the step alone, so that a continued run is the same run.
            torch.manual_seed(self.config.seed + counters["step"])
            loss, shown = self._imitate(batch, tunes=tunes) if imitates else self._reinforce(batch)
            rate = learning_rate_at(counters["step"], steps, self.config)
            self.progress.update(loss, rate, age=counters["step"] - begun)
            counters["shown"] += shown * len(batch.rows)
            counters["photographs"] += len(batch.rows)
            bar.update()
            # At an epoch's end the state is saved once the epoch has been judged.
            within = counters["step"] % steps
            if within and time.monotonic() - saved > self.config.checkpoint_seconds:
                self.progress.save(self.output)
                saved = time.monotonic()

    def _imitate(self, batch: Batch, *, tunes: bool) -> tuple[torch.Tensor, float]:
        """The loss of the first phase; what is shown is the cross-entropy."""
        return imitation_loss(self.progress.model, batch, self.config, tunes=tunes)

    def _reinforce(self, batch: Batch) -> tuple[torch.Tensor, float]:
        """The self-critical loss of sampled captions; what is shown is their mean reward."""
        decoder = self.progress.model.decoder
        samples, regions = self.config.captions, _look(self.progress.model, batch)
        words = sample(decoder, regions, samples, self.config.longest)
        said = words.cpu().numpy()
        # References are those of the photograph as it is: a mirror image's captions are mirrored back.
        said = np.where(np.repeat(batch.mirrored, samples)[:, None], self.examples.mirrored[said], said)
        rewards = torch.tensor(self.reward(said, np.repeat(batch.rows, samples)), device=self.device).float()
        loss = self_critical_loss(read(decoder, words, regions).logits, words, rewards, samples)
        if self.config.reinforced_anchor:
            loss = loss + self.config.reinforced_anchor * self._imitate(batch, tunes=False)[0]
        return loss, rewards.mean().item()

    @cached_property
    def reward(self) -> Reward:
        return Reward(self.references, self.vocabulary)

    def _judge(self, epoch: int) -> None:
        counters = self.progress.counters
        cider = self.judge.greedy_cider(self.model)
        line = {
            "epoch": epoch + 1,
            "step": counters["step"],
            "loss" if epoch < self.config.epochs else "reward": round(counters["shown"] / counters["photographs"], 4),
            "val_cider_greedy": round(cider, 2),
            "time": round(time.time(), 1),
        }
        with (self.output / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        self.say(", ".join(f"{name} {value}" for name, value in line.items() if name != "time"))
        counters |= {"shown": 0.0, "photographs": 0}
        if cider > counters["best"]:
            counters["best"] = cider
            self._save({"epoch": line["epoch"], "val_cider_greedy": line["val_cider_greedy"]})
        self.progress.save(self.output)

    def _save(self, chosen: dict) -> None:
        about = self.about | {"training": asdict(self.config), "chosen": chosen}
        save_model(self.output, SavedModel(self.model, self.vocabulary, about))

    def _finish(self) -> None:
        """Write the scores of the weights that were kept into their ``config.json``."""
        saved = load_model(self.output)
        saved.model.to(self.device)
        generation = GenerationConfig()
        scores = {name: round(score, 2) for name, score in self.judge.scores(saved.model, generation).items()}
        about = saved.about | {"scores": {"split": "val", "beam": generation.beam_size} | scores}
        save_model(self.output, replace(saved, about=about))
        self.say(f"val, beam {generation.beam_size}: {', '.join(f'{name} {score}' for name, score in scores.items())}")
