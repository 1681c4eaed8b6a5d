import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from captioner.distillation import Teachers, distillation_loss
from captioner.examples import Batch
from captioner.hub import save_model
from captioner.reading import read
from captioner.training import imitation_loss
from captioner.training_config import TrainingConfig
from captioner.vocabulary import END, PAD, Vocabulary
from tests.tiny import tiny_model

WORDS = torch.tensor([[5, 7, END], [6, END, PAD], [8, 9, END], [4, END, PAD]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two teachers of one encoder, whose last stages differ."""
    made = []
    for name, scale in (("one", 1.0), ("two", 1.5)):
        saved = tiny_model()
        torch.manual_seed(len(made) + 1)
        with torch.no_grad():
            saved.model.decoder.embedding.weight.normal_()
            saved.model.encoder.body.layer4[1].conv2.weight.mul_(scale)
        made.append(tmp_path_factory.mktemp("teachers") / name)
        save_model(made[-1], saved)
    return made


@pytest.fixture
def student():
    return tiny_model()


@pytest.fixture(scope="module")
def lower():
    return torch.rand(2, 256, 4, 4, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def said(model, lower):
    return read(model.decoder, WORDS, model.decoder.look(model.finish(lower))).logits.softmax(-1)


def test_teachers_say_the_mean_of_what_each_says(folders, student, lower):
    both, *each = [
        Teachers(chosen, student.model, student.vocabulary).probabilities(lower, WORDS)
        for chosen in (folders, folders[:1], folders[1:])
    ]
    torch.testing.assert_close(both, sum(each) / 2)
    assert both.sum(-1) == pytest.approx(1, abs=1e-5)
    assert (each[0] - each[1]).abs().max() > 0.01
    assert not both.requires_grad


def test_a_teacher_is_its_own_saved_self_whatever_the_student_does(folders, student, lower):
    save_model(folders[0].parent / "student", student)
    teachers = Teachers([folders[0].parent / "student"], student.model, student.vocabulary)
    expected = said(student.model, lower)
    student.model.train()
    with torch.no_grad():
        for parameter in student.model.decoder.parameters():
            parameter.add_(0.1)
    first, second = (teachers.probabilities(lower, WORDS) for _ in range(2))
    assert torch.equal(first, second)  # no dropout
    torch.testing.assert_close(first, expected, atol=5e-3, rtol=0.05)  # saved in float16


def test_teachers_are_named_by_folder_and_weights(folders, student, tmp_path):
    first, second = Teachers(folders, student.model, student.vocabulary).names
    assert first.startswith("one ")
    assert second.startswith("two ")
    copy = tmp_path / "one"
    save_model(copy, tiny_model(seed=0))
    (other,) = Teachers([copy], student.model, student.vocabulary).names
    assert other.startswith("one ")
    assert other != first
    assert not Teachers([], student.model, student.vocabulary)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda saved: replace(saved, vocabulary=Vocabulary(saved.vocabulary.words[::-1])), "knows other words"),
        (lambda saved: tiny_model(image_size=96), "sees photographs otherwise"),
        (lambda saved: tiny_model(seed=1), "sees photographs otherwise"),
    ],
)
def test_a_teacher_of_other_words_or_other_eyes_is_refused(student, tmp_path, change, complaint):
    save_model(tmp_path / "teacher", change(tiny_model()))
    with pytest.raises(ValueError, match=complaint):
        Teachers([tmp_path / "teacher"], student.model, student.vocabulary)


def test_a_teacher_may_have_another_decoder(student, tmp_path, lower):
    save_model(tmp_path / "teacher", tiny_model("gated", layers=2))
    student = tiny_model(levels=2)
    teachers = Teachers([tmp_path / "teacher"], student.model, student.vocabulary)
    assert teachers.probabilities(lower, WORDS).shape == (4, 3, len(student.vocabulary))


def test_the_least_loss_is_the_entropy_of_the_teacher_and_padding_counts_nothing():
    taught = torch.tensor([0.5, 0.25, 0.125, 0.125]).expand(2, 3, 4)
    entropy = 1.75 * math.log(2)
    words = torch.tensor([[5, 7, END], [6, END, PAD]])
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert distillation_loss(logits, taught, words) > entropy
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        distillation_loss(logits, taught, words).backward()
        optimizer.step()
    assert distillation_loss(logits, taught, words).item() == pytest.approx(entropy, abs=1e-4)
    spoken = (words != PAD)[..., None]
    torch.testing.assert_close(logits.softmax(-1)[spoken.squeeze(-1)], taught[spoken.squeeze(-1)], atol=1e-2, rtol=0)
    loud = torch.where(spoken, logits, 100 * torch.rand(2, 3, 4))
    assert distillation_loss(loud, taught, words).item() == pytest.approx(entropy, abs=1e-4)


def test_the_loss_is_shared_between_people_and_teachers(student, lower):
    vocabulary = len(student.vocabulary)
    teacher = SimpleNamespace(probabilities=lambda lower, words: torch.full((*words.shape, vocabulary), 1 / vocabulary))
    batch = Batch(lower, WORDS, None, torch.arange(2).numpy(), torch.zeros(2).bool().numpy())

    def losses(share):
        config = TrainingConfig(boxes=0.0, matching=0.0, distillation=share)
        loss, shown = imitation_loss(student.model, batch, config, teachers=teacher if share else None)
        return loss.item(), shown

    people, shown = losses(0.0)
    assert people == pytest.approx(shown)
    taught, still_shown = losses(1.0)
    assert still_shown == shown  # the log stays comparable
    logits = said(student.model, lower).log()
    assert taught == pytest.approx(distillation_loss(logits, teacher.probabilities(lower, WORDS), WORDS).item())
    assert losses(0.25)[0] == pytest.approx(0.75 * people + 0.25 * taught)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match=r"in 0\.\.1"):
        TrainingConfig(distillation=share)
