"""METEOR and SPICE on the percent scale, by the Java programs that come with ``pycocoevalcap``.

Captions are tokenised as the COCO evaluation does. SPICE needs the jars of ``JARS`` too, which ``setup_spice`` puts
into a folder of the user's cache: nothing is written into the installed package.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from zipfile import is_zipfile

from tqdm import tqdm

from captioner.metrics import check_captions, ptb_tokenize

# Maven's coordinates by file name. SPICE writes its results through a JavaScript engine, which Java has none of since
# version 15: Rhino is one.
JARS = {
    "stanford-corenlp-3.6.0.jar": "edu.stanford.nlp:stanford-corenlp:3.6.0:jar",
    "stanford-corenlp-3.6.0-models.jar": "edu.stanford.nlp:stanford-corenlp:3.6.0:jar:models",
    "rhino-1.7.15.jar": "org.mozilla:rhino:1.7.15:jar",
    "rhino-engine-1.7.15.jar": "org.mozilla:rhino-engine:1.7.15:jar",
}
# Numbers and text must not depend on the machine's language.
_LOCALE = ("-Duser.language=en", "-Duser.country=US", "-Dfile.encoding=UTF-8")
# SPICE's cache serialises Java's own classes, which Java has closed since version 16. Java 8 ignores this variable.
_OPEN = " ".join(
    f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in "lang math net text util util.concurrent".split()
)


class JavaError(RuntimeError):
    """A Java metric that cannot be computed; the message says what to install or what went wrong."""


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """METEOR 1.5 (Denkowski and Lavie, WMT 2014) of N candidates, given as plain text, in percent.

    ``references[i]`` are the captions people gave photograph i. An empty candidate scores 0.
    Raises ``JavaError`` where it cannot run, ``ValueError`` for captions that ``score_captions`` refuses.
    """
    check_captions(candidates, references)
    require(["meteor"])
    command = ["java", *_LOCALE, "-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        _talking(command, _package() / "meteor", log) as ask,
    ):
        # Tokens hold neither a line break nor |||, with which the program parts lines and captions.
        lines = (
            " ||| ".join(("SCORE", *map(_tokenized, captions), _tokenized(candidate)))
            for candidate, captions in zip(candidates, references)
        )
        statistics = [ask(line, answers=1) for line in tqdm(lines, total=len(candidates), desc="METEOR", leave=False)]
        # A score for every caption, and then that of all together.
        return 100 * float(ask(" ||| ".join(("EVAL", *statistics)), answers=len(statistics) + 1))


def spice(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean SPICE (Anderson et al., ECCV 2016) of N candidates, given as plain text, in percent.

    ``references[i]`` are the captions people gave photograph i. An empty candidate scores 0. Parsing takes minutes
    for a thousand photographs; what was parsed is kept, so that the next evaluation is faster.
    Raises ``JavaError`` where it cannot run, ``ValueError`` for captions that ``score_captions`` refuses.
    """
    check_captions(candidates, references)
    require(["spice"])
    program, jars = _package() / "spice", _jars()
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "captions.json", Path(scratch) / "scores.json"
        entries = [
            {"image_id": index, "test": _tokenized(candidate), "refs": [*map(_tokenized, captions)]}
            for index, (candidate, captions) in enumerate(zip(candidates, references))
        ]
        asked.write_text(json.dumps(entries))
        path = os.pathsep.join(map(str, (program / "spice-1.0.jar", program / "lib" / "*", jars / "*")))
        command = ["java", *_LOCALE, "-Xmx4G", "-cp", path, "edu.anu.spice.SpiceScorer", str(asked)]
        command += ["-out", str(answered), "-silent", "-threads", str(min(4, os.cpu_count() or 1)), *_cache(jars)]
        options = f"{os.environ.get('JDK_JAVA_OPTIONS', '')} {_OPEN}"
        print("SPICE parses the captions, which takes minutes.", file=sys.stderr)
        ran = subprocess.run(
            command, env=os.environ | {"JDK_JAVA_OPTIONS": options}, capture_output=True, text=True, errors="replace"
        )
        if ran.returncode != 0:
            raise _failure("SPICE", ran.stderr)
        scores = [entry["scores"]["All"]["f"] for entry in json.loads(answered.read_text())]
    return 100 * sum(scores) / len(scores)


# By the name they are asked for: the name in results, and what computes them.
JAVA_METRICS = {"meteor": ("METEOR", meteor), "spice": ("SPICE", spice)}


def require(metrics: Collection[str]) -> None:
    """Raise ``JavaError`` saying what to install, where a Java metric among ``metrics`` cannot run."""
    asked = [name for key, (name, _) in JAVA_METRICS.items() if key in metrics]
    if not asked:
        return
    needs = f"{' and '.join(asked)} {'needs' if len(asked) == 1 else 'need'}"
    if find_spec("pycocoevalcap") is None:
        raise JavaError(f"{needs} pycocoevalcap: pip install -r requirements-dev.txt.")
    if not _runs("java"):
        raise JavaError(f"{needs} Java: install a Java runtime, 8 or newer, so that `java` runs.")
    if "spice" in metrics and (absent := _absent(_jars())):
        raise JavaError(f"SPICE needs {', '.join(absent)} in {_jars()}: run python evaluate.py --setup-spice.")


def versions() -> dict[str, str]:
    """The versions of ``java`` and ``pycocoevalcap``, by which METEOR and SPICE run; both must be there."""
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, errors="replace").stderr
    named = re.search(r'version "([^"]+)"', said)
    return {"java": named[1] if named else said.strip(), "pycocoevalcap": version("pycocoevalcap")}


def setup_spice(folder: Path | None = None) -> Path:
    """Put the jars that SPICE needs into the user's cache, from ``folder`` or else by Maven; returns where they are.

    Raises ``JavaError`` where the folder lacks one, or Maven is missing or fails.
    """
    jars = _jars()
    jars.mkdir(parents=True, exist_ok=True)
    # What was stopped half-way is never taken for a jar.
    with tempfile.TemporaryDirectory(dir=jars) as scratch:
        if folder is None:
            _fetch(_absent(jars), Path(scratch))
        else:
            if absent := _absent(folder):
                raise JavaError(f"{folder} lacks {', '.join(absent)}; Maven knows them as {_coordinates(absent)}.")
            for name in JARS:
                shutil.copyfile(folder / name, Path(scratch) / name)
        for file in Path(scratch).iterdir():
            file.replace(jars / file.name)
    return jars


def _fetch(names: Sequence[str], target: Path) -> None:
    maven = shutil.which("mvn")
    if names and maven is None:
        raise JavaError(
            f"SPICE needs {', '.join(names)}: install Maven (`mvn`) and run --setup-spice again, or give a folder that "
            f"holds them, --setup-spice FOLDER. Maven knows them as {_coordinates(names)}."
        )
    for name in names:
        command = [maven, "dependency:copy", f"-Dartifact={JARS[name]}", f"-DoutputDirectory={target}"]
        if subprocess.run(command).returncode != 0 or not is_zipfile(target / name):
            raise JavaError(f"Maven could not fetch {JARS[name]}; what it said is above.")


def _coordinates(names: Sequence[str]) -> str:
    return ", ".join(JARS[name] for name in names)


def _absent(folder: Path) -> list[str]:
    """The jars that a folder lacks, broken ones among them."""
    return [name for name in JARS if not is_zipfile(folder / name)]


def _jars() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "captioner" / "spice"


def _cache(jars: Path) -> list[str]:
    """Where SPICE keeps what it parsed: in a native library that there is for these processors only."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    folder = jars / "parsed"
    folder.mkdir(exist_ok=True)
    return ["-cache", str(folder)]


def _package() -> Path:
    return Path(find_spec("pycocoevalcap").submodule_search_locations[0])


def _runs(program: str) -> bool:
    """Whether a program is there and starts: a ``java`` may be a stub that only says where to get one."""
    found = shutil.which(program)
    return found is not None and subprocess.run([found, "-version"], capture_output=True).returncode == 0


def _tokenized(caption: str) -> str:
    return " ".join(ptb_tokenize(caption))


@contextmanager
def _talking(command: list[str], folder: Path, log: IO[str]) -> Iterator[Callable[..., str]]:
    """A program that answers every line with lines, as a function: it takes a line and returns the last answer."""
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        errors="replace",
    ) as process:

        def ask(line: str, *, answers: int) -> str:
            try:
                process.stdin.write(line + "\n")
                process.stdin.flush()
                lines = [process.stdout.readline() for _ in range(answers)]
            except BrokenPipeError:
                lines = [""]
            if "" in lines:
                log.seek(0)
                raise _failure("METEOR", log.read())
            return lines[-1].strip()

        try:
            yield ask
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.stdin.close()


def _failure(metric: str, said: str) -> JavaError:
    """The last of what a program said on standard error, without the places in its code."""
    last = [line for line in said.splitlines() if not line.startswith("\t")][-3:]
    return JavaError("\n".join((f"{metric} failed. Java's last words were:", *last)))
