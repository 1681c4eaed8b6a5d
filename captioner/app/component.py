"""The explorer as a component of the app: what it is told, and how that reaches it.

Everything it is told is a string of JSON in one of the component's properties, so that Gradio makes no reactive
objects of long lists of numbers. The class ``Explorer`` comes with the page, see ``captioner.app.launch``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Any

import gradio as gr

from captioner.exports import Exported

# Gradio builds the element anew after it was hidden and after a progress overlay. The explorer itself is kept and put
# into the new element, with all that a person has chosen in it.
_SCRIPT = """
const options = OPTIONS;
const busy = {choose: 'Captioning again…', erase: 'Captioning again…', export: 'Preparing the file…'};
const PATIENCE = 90000; // milliseconds after which a person is told that no answer came
const memory = (window.explorers ??= {})[options.name] ??= {heard: {}};
memory.trigger = trigger;
const view = memory.view ??= new Explorer(document.createElement('div'), {
  ids: options.ids,
  actions: options.actions,
  on: (name, detail) => {
    if (busy[name]) wait(busy[name]);
    memory.trigger(name, {photograph: memory.photograph, ...detail});
  },
});
element.firstElementChild.replaceChildren(view.root);

// The connection may be lost, or the server too busy to take what is asked.
function wait(text) {
  clearTimeout(memory.waiting);
  view.busy(text);
  if (!text) return;
  memory.waiting = setTimeout(() => {
    view.busy(null);
    view.tell('No answer has come from the server. Try again in a moment.');
  }, PATIENCE);
}

const hear = {
  waiting(message) {
    wait(message.text);
  },
  value(message) {
    memory.photograph = message.photograph;
    wait(null);
    if (message.number) view.add(message.data, message);
    else view.show(message.data, message);
  },
  findings(message) {
    if (message.photograph !== memory.photograph) return;
    for (const [number, findings] of Object.entries(message.findings)) view.test(Number(number), findings);
  },
  error(message) {
    wait(null);
    view.tell(message.text);
  },
  download(message) {
    wait(null);
    const bytes = Uint8Array.from(atob(message.data), character => character.charCodeAt(0));
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([bytes], {type: message.type}));
    link.download = message.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  },
};

function listen() {
  for (const name of Object.keys(hear)) {
    const text = props[name];
    if (!text || text === memory.heard[name]) continue;
    memory.heard[name] = text;
    hear[name](JSON.parse(text));
  }
}

listen();
watch(Object.keys(hear), listen);
"""


def explorer(elem_id: str, *, ids: bool = False, actions: Sequence[str] = ()) -> gr.HTML:
    """The explorer, ready for what ``waiting``, ``shown``, ``found``, ``failed`` and ``downloaded`` give to tell it.

    With ``ids`` its parts have ids, which one explorer of a page may have. ``actions``, some of "choose", "erase" and
    "export", are what a person can ask for; each is an event of the component, ``component.choose(...)``, with the
    details and the photograph's name in its ``gr.EventData``. It says that it is busy until it is told something.
    """
    options = json.dumps({"name": elem_id, "ids": ids, "actions": list(actions)})
    return gr.HTML(
        html_template="<div></div>",
        js_on_load=_SCRIPT.replace("OPTIONS", options),
        apply_default_css=False,
        elem_id=elem_id,
    )


def shown(
    photograph: str,
    data: dict[str, Any],
    *,
    number: int = 0,
    label: str = "",
    comparison: dict[str, Any] | None = None,
    word: int | None = None,
) -> dict[str, Any]:
    """Show a caption, ``data`` as ``captioner.explorer.explorer_data`` makes it.

    ``photograph`` is any name for the photograph, and ``number`` counts the versions of its caption from 0: the first
    drops what was shown before. ``label`` says how a further version came about, ``comparison`` what the words of
    another version became; ``word`` is the word to begin with.
    """
    values = {"photograph": photograph, "number": number, "label": label, "comparison": comparison, "word": word}
    return gr.update(value=_message(**values, data=data))


def waiting(text: str) -> dict[str, Any]:
    """Say what is being computed, until it is told something else."""
    return gr.update(waiting=_message(text=text))


def found(photograph: str, findings: Mapping[int, dict[str, Any] | None]) -> dict[str, Any]:
    """Add what testing versions found, ``captioner.explorer.findings`` by their numbers; None for one that failed.

    Forgotten if another photograph is shown.
    """
    return gr.update(findings=_message(photograph=photograph, findings=findings))


def failed(text: str) -> dict[str, Any]:
    """Say why what was asked for cannot be done; nothing where that is said elsewhere."""
    return gr.update(error=_message(text=text))


def downloaded(file: Exported) -> dict[str, Any]:
    """Save a file in the browser, without a further click."""
    data = base64.b64encode(file.data).decode()
    return gr.update(download=_message(name=file.name, type=file.media_type, data=data))


def _message(**values: Any) -> str:
    # Gradio passes on what has changed only; the same message may have to be told twice.
    return json.dumps({"message": token_hex(4)} | values)
