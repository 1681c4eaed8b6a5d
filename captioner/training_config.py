"""How a captioner is trained: the settings of a run, and the learning rate they mean."""

from __future__ import annotations

from dataclasses import dataclass, field

from captioner.schedule import half_cosine, warmed_cosine


@dataclass(frozen=True)
class TrainingConfig:
    """How the decoder is trained; the defaults made the bundled model, but for its self-critical epochs."""

    language_epochs: int = field(default=1, metadata={"help": "passes over --text before, the image side absent"})
    language_rate: float = field(default=1e-3, metadata={"help": "peak learning rate in them"})
    epochs: int = field(default=8, metadata={"help": "passes over the training photographs"})
    batch: int = field(default=32, metadata={"help": "photographs a step, each with several captions"})
    captions: int = field(default=5, metadata={"help": "captions of each photograph in a step"})
    learning_rate: float = field(default=8e-4, metadata={"help": "peak learning rate of AdamW"})
    tuned_epochs: int = field(
        default=5, metadata={"help": "last ones of these epochs in which the encoder's last stage learns too"}
    )
    tuned_rate: float = field(default=4e-5, metadata={"help": "peak learning rate of the encoder's last stage"})
    warm_up: float = field(default=0.05, metadata={"help": "share of the steps in which the rate rises"})
    weight_decay: float = field(default=0.01, metadata={"help": "decay of matrices, AdamW"})
    label_smoothing: float = field(default=0.1, metadata={"help": "probability spread over all words"})
    averaging: float = field(default=0.998, metadata={"help": "decay a step of the averaged weights, which are saved"})
    clip: float = field(default=1.0, metadata={"help": "largest gradient norm"})
    flip: bool = field(default=True, metadata={"help": "mirror half the photographs, 'left' and 'right' with them"})
    crops: int = field(
        default=0, metadata={"help": "cropped views of each photograph, its colours lightly changed, beside the whole"}
    )
    least_count: int = field(default=5, metadata={"help": "occurrences that bring a word into the vocabulary"})
    reinforced_epochs: int = field(default=1, metadata={"help": "further passes of self-critical training on CIDEr-D"})
    reinforced_rate: float = field(default=2e-4, metadata={"help": "learning rate at their start"})
    reinforced_temperature: float = field(
        default=0.5,
        metadata={"help": "of what is sampled and learnt in them; below 1 nearer to the likeliest captions"},
    )
    reinforced_dropout: bool = field(
        default=False, metadata={"help": "see photographs through dropout in them, for sampling and learning alike"}
    )
    reinforced_anchor: float = field(
        default=0.2, metadata={"help": "weight of the loss of the first phase in self-critical training"}
    )
    boxes: float = field(default=0.6, metadata={"help": "weight of phrase boxes (entities.json); 0 needs none"})
    matching: float = field(
        default=0.1, metadata={"help": "weight of finding the photograph of a caption by region-word scores"}
    )
    distillation: float = field(
        default=0.0, metadata={"help": "share of the loss that --teachers set, 0 to 1; the rest are people's captions"}
    )
    longest: int = field(default=16, metadata={"help": "words of a caption that are learnt from"})
    cpu_bfloat16: bool = field(
        default=False,
        metadata={
            "help": "multiply in bfloat16 on a CPU too, in training and in encoding what is learnt from: for those "
            "with AVX512-BF16 or AMX"
        },
    )
    checkpoint_seconds: float = field(default=180.0, metadata={"help": "time between two checkpoints"})
    seed: int = field(default=0, metadata={"help": "of weights, order and dropout"})

    def __post_init__(self):
        if self.reinforced_epochs and self.captions < 2:
            raise ValueError("Self-critical training compares captions of a photograph: it needs at least 2 of them.")
        if not 0 <= self.distillation <= 1:
            raise ValueError(f"The share of the loss that teachers set lies in 0..1, not {self.distillation}.")


def learning_rate_at(step: int, steps: int, config: TrainingConfig) -> float:
    """Linear warm-up, then half a cosine down to zero; ``steps`` an epoch. Reinforced epochs have half a cosine too."""
    imitated, reinforced = steps * config.epochs, steps * config.reinforced_epochs
    if step < imitated:
        return config.learning_rate * warmed_cosine(step, imitated, warm=max(1, round(config.warm_up * imitated)))
    return config.reinforced_rate * half_cosine((step - imitated) / reinforced)
