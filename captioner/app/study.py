"""The study tab: reviewers rate maps without knowing which is which, and see what all of them found.

The results name the sources of the maps, so they are kept from a reviewer with tasks left, and others are told before
they ask for them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import combinations
from secrets import token_hex
from typing import Any

import gradio as gr
from PIL import Image

from captioner.app.messages import alert
from captioner.explorer import ASSETS
from captioner.predictor import Captioner
from captioner.rendering import data_url, drawn_bytes, overlay, picture_url
from captioner.study import NAME_LENGTH, PAIR_ANSWERS, UNKNOWN, Rating, Study, checked_name, to_csv
from captioner.study_results import LABELS, Results, Share, analyse, figure
from captioner.study_tasks import CHANCE, PAIR, SOURCES, Pool, StudyError, Task, prepare

FORGET_AFTER = 3600  # seconds; a reviewer who comes back later enters the name again
INTRODUCTION = """
<p>Help to find out which maps explain a caption: choose between two maps whose kind you are not told, and guess words
from a map; it takes about ten minutes. Your answers, the name you enter and the time each answer takes are kept on the
computer that runs this app, nothing else; any name will do, and the same name brings you back to where you were.</p>
"""
SPOILER = "<p>The results show which kind of map people prefer: whoever takes part does so before looking.</p>"
UNFINISHED = "Answer the remaining tasks first: the results would show which map is which."
FAILED = "Something went wrong. Try again in a moment."
NOT_STARTED = "Enter your name again to go on."
_PRIVATE = {"api_visibility": "private"}


@dataclass
class _Reviewer:
    """Where one reviewer is. ``token`` names what is shown, so that an answer to anything else does not count."""

    number: int
    pool: Pool
    tasks: list[Task]
    shown: Task | None = None
    token: str = ""
    since: float = 0.0  # when it was shown

    def next(self, study: Study) -> dict[str, Any]:
        """What to show next, as the page takes it: nothing in it tells the sources or the right answer."""
        answered = study.answered(self.number)
        self.shown = next((task for task in self.tasks if task.number not in answered), None)
        self.token, self.since = token_hex(8), time.monotonic()
        place = {"token": self.token, "number": len(answered) + 1, "total": len(self.tasks)}
        return place | ({"kind": "finished"} if self.shown is None else _question(self.pool, self.shown))

    def answer(self, study: Study, token: Any, choice: Any) -> None:
        """Keep the answer of this button, unless something else is shown by now. Raises ``StudyError``."""
        if self.shown is None or token != self.token:
            return
        answers = PAIR_ANSWERS if self.shown.kind == PAIR else (*self.shown.choices, UNKNOWN)
        if not isinstance(choice, int) or not 0 <= choice < len(answers):
            raise StudyError("This is no answer to this question. Choose one of the buttons.")
        study.rate(self.number, self.pool, self.shown, answers[choice], time.monotonic() - self.since)


def study_page(model: Captioner, study: Study) -> None:
    """Lay out the tab. The study's photographs are explained when the first reviewer starts."""
    style = (ASSETS / "study.css").read_text(encoding="utf-8")
    reviewer = gr.State(None, time_to_live=FORGET_AFTER)
    prepared: list[Pool] = []  # one, once it is made

    with gr.Column(elem_id="study-begin") as begin:
        gr.HTML(INTRODUCTION, elem_id="study-introduction")
        with gr.Row(equal_height=True):
            name = gr.Textbox(label="Your name", max_length=NAME_LENGTH, min_width=200, elem_id="study-name")
            start = gr.Button("Start", variant="primary", min_width=120, scale=0, elem_id="study-start")
    task = gr.HTML(
        html_template="",
        css_template=style,
        js_on_load=(ASSETS / "study.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="study-task",
    )
    message = gr.HTML(css_template=style, elem_id="study-message")
    with gr.Accordion("Results", open=False, elem_id="study-results"):
        gr.HTML(SPOILER)
        show = gr.Button("Show the results", size="md", elem_id="study-show")
        results = gr.HTML(css_template=style, elem_id="study-found")

    def on_start(entered: str, progress: gr.Progress = gr.Progress()) -> dict[Any, Any]:  # noqa: B008 (gradio's way)
        def started() -> dict[Any, Any]:
            checked_name(entered or "")  # before the photographs are explained, which takes a while
            if not prepared:
                prepared.append(prepare(model, study.photographs, track=partial(progress.tqdm, unit="photographs")))
            (pool,) = prepared
            number = study.start(entered, pool)
            new = _Reviewer(number, pool, pool.tasks_of(number))
            question = new.next(study)
            return {reviewer: new, task: question, begin: gr.update(visible=False), message: "", results: ""}

        return _attempt(started, message)

    def on_answer(current: _Reviewer | None, event: gr.EventData) -> dict[Any, Any]:
        def answered() -> dict[Any, Any]:
            current.answer(study, getattr(event, "token", None), getattr(event, "choice", None))
            return {task: current.next(study), reviewer: current, message: ""}

        if current is None:
            return {task: None, begin: gr.update(visible=True), message: alert(NOT_STARTED)}
        return _attempt(answered, message)

    def on_show(current: _Reviewer | None) -> dict[Any, Any]:
        def shown() -> dict[Any, Any]:
            if current is not None and current.shown is not None:
                raise StudyError(UNFINISHED)
            return {results: _results(study.ratings())}

        return _attempt(shown, results)

    starting = {
        "fn": on_start,
        "inputs": [name],
        "outputs": [reviewer, task, begin, message, results],
        "show_progress_on": name,
        # Explaining the photographs takes its turn with everyone's captions.
        "concurrency_id": "model",
        "concurrency_limit": 1,
    } | _PRIVATE
    start.click(**starting)
    name.submit(**starting)
    answering = {"show_progress": "hidden", "concurrency_limit": 4} | _PRIVATE
    task.select(on_answer, [reviewer], [reviewer, task, begin, message], **answering)
    show.click(on_show, [reviewer], [results], concurrency_limit=1, **_PRIVATE)  # matplotlib draws one at a time


def _attempt(action: Callable[[], dict[Any, Any]], where: gr.HTML) -> dict[Any, Any]:
    """What an action answers; what goes wrong is told in the place given."""
    try:
        return action()
    except StudyError as error:
        return {where: alert(str(error))}
    except Exception:
        logging.getLogger(__name__).exception("the study failed")
        return {where: alert(FAILED)}


def _question(pool: Pool, task: Task) -> dict[str, Any]:
    """A task without its answer: pictures, and words to mark or to choose from."""
    subject = pool.subjects[task.subject]
    maps = [_shown(overlay(subject.picture, region_map)) for region_map in pool.maps(task)]
    if task.kind == PAIR:
        words = {"words": list(subject.words), "marked": task.position, "photograph": _shown(subject.picture)}
    else:
        words = {"choices": list(task.choices)}
    return {"kind": task.kind, "maps": maps} | words


def _shown(picture: Image.Image) -> dict[str, Any]:
    return {"src": picture_url(picture), "width": picture.width, "height": picture.height}


def _results(ratings: Sequence[Rating]) -> str:
    """What the study found, as HTML."""
    found = analyse(ratings)
    if not found.reviewers:
        return "<p>Nobody has answered yet.</p>"
    counts = {"reviewer": found.reviewers, "comparison": found.pairs, "guess": found.guesses}
    seconds = _counted(round(found.seconds), "second")
    wins = [[LABELS[source], *_cells(share)] for source, share in found.wins.items()]
    guessed = [[LABELS[source], *_cells(share)] for source, share in found.guessed.items()]
    against = [
        [f"{LABELS[one]} over {LABELS[other]}", *_cells(found.against[one, other])]
        for one, other in combinations(SOURCES, 2)
        if (one, other) in found.against
    ]
    table = data_url(to_csv(ratings), "text/csv;charset=utf-8")
    return f"""
<p>{", ".join(_counted(number, of) for of, number in counts.items())}, {seconds} an answer (median).</p>
<div class="study-results"><div tabindex="0" role="region" aria-label="Tables of the results">
<h3>Which map explains the word better?</h3>{_table(["Map", "Preferred", "95 % interval", "Answers"], wins)}
<h3>One map against another</h3>{_table(["Maps", "Preferred", "95 % interval", "Answers"], against)}
<h3>Guess the word from the map</h3>{_table(["Map", "Right", "95 % interval", "Answers"], guessed)}
</div><div><img src="{_figure(found)}" alt="The shares in the tables with their intervals"></div></div>
<p class="study-note">A map that was preferred counts 1; where both or neither explain the word, each counts a half.
A shuffled map is that of a word said of another photograph. Chance guesses {CHANCE:.0%}; “cannot tell” counts as not
right. The intervals are Wilson's and take answers as independent.</p>
<p><a id="study-csv" download="study.csv" href="{table}">Download all answers (CSV)</a></p>"""


def _counted(number: int, of: str) -> str:
    """A number of things in words: "1 guess", "2 guesses"."""
    return f"{number} {of}" if number == 1 else f"{number} {of}{'es' if of.endswith('s') else 's'}"


def _cells(share: Share) -> list[str]:
    return [f"{share.share:.0%}", f"{100 * share.low:.0f}–{100 * share.high:.0f}%", str(share.answers)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    header = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def _figure(found: Results) -> str:
    return data_url(drawn_bytes(lambda: figure(found), "png"), "image/png")
