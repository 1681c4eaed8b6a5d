"""METEOR against ``pycocoevalcap``, SPICE by its properties, and what is said where either cannot run."""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from captioner import java_metrics
from captioner.data import of_split, read_karpathy
from captioner.java_metrics import JARS, JavaError, meteor, require, setup_spice, spice
from captioner.metrics import ptb_tokenize

FLICKR8K = Path(__file__).resolve().parents[2] / "shared" / "flickr8k"


def runs(metric: str) -> pytest.MarkDecorator:
    """Skip, saying what is missing, where a metric cannot run."""
    try:
        require([metric])
        reason = ""
    except JavaError as error:
        reason = str(error)
    return pytest.mark.skipif(bool(reason), reason=reason)


AWKWARD = [
    "",
    " ... !",
    "a ||| dog",
    "||| |||",
    "a café — naïve ☕ 狗",
    "two\nlines\r\nhere",
    "a | b || c 1,5 (d)",
    "\ud800",
]
WORDS = "a the man men dog two red ball on in running runs , don't quickly beside water".split()


def random_captions(count: int) -> list[str]:
    dice = random.Random(3)
    return [" ".join(dice.choices(WORDS, k=dice.randint(1, 12))) for _ in range(count)]


def as_sent(caption: str) -> str:
    """The text that a program without half characters can be sent."""
    return " ".join(ptb_tokenize(caption)).encode(errors="replace").decode()


def reference_meteor(references: dict[int, list[str]], candidates: dict[int, list[str]]) -> float:
    """What ``pycocoevalcap`` says, in percent, of captions that are tokenised."""
    reference = Meteor()
    score = reference.compute_score(references, candidates)[0]
    reference.meteor_p.stdout.close()
    reference.meteor_p.stderr.close()
    return 100 * score


def reference_tokens(captions: dict[int, Sequence[str]]) -> dict[int, list[str]]:
    """What ``pycocoevalcap`` makes of captions, with the Stanford tokenizer."""
    return PTBTokenizer().tokenize({i: [{"caption": one} for one in several] for i, several in captions.items()})


@runs("meteor")
def test_meteor_equals_the_reference_implementation_whatever_the_language_of_the_machine(monkeypatch):
    captions = AWKWARD + random_captions(40)
    candidates = captions + AWKWARD
    references = [[captions[-index], captions[index - 1]] for index in range(len(captions))] + [["A dog ."]] * len(
        AWKWARD
    )
    expected = reference_meteor(
        {index: [as_sent(caption) for caption in captions] for index, captions in enumerate(references)},
        {index: [as_sent(caption)] for index, caption in enumerate(candidates)},
    )
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.language=de -Duser.country=DE -Dfile.encoding=ISO-8859-1")
    assert meteor(candidates, references) == pytest.approx(expected, abs=1e-6)


@runs("meteor")
@pytest.mark.skipif(not FLICKR8K.is_dir(), reason=f"There is no Flickr8k at {FLICKR8K}.")
def test_meteor_of_flickr8k_equals_the_reference_implementation():
    records = of_split(read_karpathy(FLICKR8K), "val")
    assert len(records) == 1000
    said, references = [record.raw[0] for record in records], [record.raw[1:] for record in records]
    expected = reference_meteor(
        reference_tokens(dict(enumerate(references))), reference_tokens({i: [one] for i, one in enumerate(said)})
    )
    assert meteor(said, references) == pytest.approx(expected, abs=1e-4)


@runs("meteor")
def test_the_versions_are_those_of_java_and_of_the_reference_implementation():
    found = java_metrics.versions()
    assert set(found) == {"java", "pycocoevalcap"}
    assert all(part[:1].isdigit() for part in found.values())


@runs("spice")
def test_spice_is_all_for_the_same_things_and_nothing_for_others_or_for_nothing():
    same = "A black dog runs through the grass ."
    others = ["Two men sit on a bench .", "A café at the beach"]
    assert spice([same, "a red car", ""], [[same], others, others]) == pytest.approx(100 / 3)


@pytest.mark.parametrize("metric", [meteor, spice])
def test_unusable_captions_are_refused(metric):
    with pytest.raises(ValueError, match="Photograph 0 has no reference"):
        metric(["a dog"], [[]])


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """A folder that is all of the PATH, beside an empty cache."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    monkeypatch.setenv("XDG_CACHE_HOME", f"{tmp_path / 'cache'}")
    return tmp_path / "bin"


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def make_jars(folder: Path) -> Path:
    folder.mkdir()
    for name in JARS:
        with ZipFile(folder / name, "w") as jar:
            jar.writestr("about", name)
    return folder


def test_a_missing_java_is_named_with_the_metrics_that_need_it(programs):
    with pytest.raises(JavaError, match=r"METEOR and SPICE need Java"):
        require(["captions", "spice", "meteor"])
    require(["captions"])


def test_a_java_that_does_not_start_is_missing(programs):
    install(programs, "java", "exit 1")
    with pytest.raises(JavaError, match="METEOR needs Java"):
        meteor(["a dog"], [["a dog"]])


def test_missing_jars_are_named_with_the_command_that_gets_them(programs):
    install(programs, "java", "exit 0")
    require(["meteor"])
    with pytest.raises(JavaError, match=r"stanford-corenlp-3\.6\.0\.jar.*--setup-spice"):
        require(["spice"])


def test_jars_are_taken_from_a_folder(programs, tmp_path):
    install(programs, "java", "exit 0")
    given = make_jars(tmp_path / "given")
    found = setup_spice(given)
    assert {file.name: file.read_bytes() for file in found.iterdir()} == {
        file.name: file.read_bytes() for file in given.iterdir()
    }
    require(["spice"])


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:20])])
def test_a_folder_that_lacks_a_whole_jar_is_refused_naming_it(programs, tmp_path, damage):
    given = make_jars(tmp_path / "given")
    damage(given / "stanford-corenlp-3.6.0-models.jar")
    with pytest.raises(JavaError, match=r"lacks stanford-corenlp-3\.6\.0-models\.jar; .*:3\.6\.0:jar:models"):
        setup_spice(given)


def test_maven_is_asked_for_what_is_absent(programs, tmp_path):
    given = make_jars(tmp_path / "given")
    asked = tmp_path / "asked"
    install(programs, "mvn", f'echo "$*" >> {asked}\n/bin/cp {given}/*.jar "${{3#-DoutputDirectory=}}"')
    found = setup_spice()
    lines = asked.read_text().splitlines()
    assert [line.split()[1] for line in lines] == [f"-Dartifact={coordinate}" for coordinate in JARS.values()]
    (found / "rhino-1.7.15.jar").unlink()
    setup_spice()
    assert [line.split()[1] for line in asked.read_text().splitlines()[4:]] == [
        "-Dartifact=org.mozilla:rhino:1.7.15:jar"
    ]
    setup_spice()
    assert len(asked.read_text().splitlines()) == 5


def test_without_maven_or_where_it_fails_the_message_says_what_to_do(programs):
    with pytest.raises(JavaError, match=r"install Maven .* --setup-spice FOLDER"):
        setup_spice()
    install(programs, "mvn", "exit 1")
    with pytest.raises(JavaError, match=r"Maven could not fetch edu\.stanford\.nlp"):
        setup_spice()


@pytest.mark.parametrize("metric", [meteor, spice])
def test_what_java_said_last_is_told(programs, tmp_path, metric):
    install(programs, "java", '[ "$1" = -version ] && exit 0\necho "no heap" >&2\nexit 1')
    setup_spice(make_jars(tmp_path / "given"))
    with pytest.raises(JavaError, match=r"failed[^$]*no heap"):
        metric(["a dog"] * 3, [["a dog"]] * 3)


def test_spice_takes_the_score_of_every_photograph(programs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}/bin{os.pathsep}/usr/bin")
    scores = json.dumps([{"image_id": number, "scores": {"All": {"f": number / 4}}} for number in range(2)])
    wanted = tmp_path / "wanted"
    install(
        programs,
        "java",
        f'echo "$*" > {wanted}\nwhile [ $# -gt 0 ]; do [ "$1" = -out ] && echo \'{scores}\' > "$2"; shift; done',
    )
    setup_spice(make_jars(tmp_path / "given"))
    assert spice(["a dog", "two dogs"], [["a dog"], ["dogs"]]) == 12.5
    assert "-Xmx4G" in wanted.read_text()
    assert str(java_metrics._jars()) in wanted.read_text()
