"""A model's card for the Hub, written from its settings and from the JSON files of its results."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from captioner.hub import BUNDLED, LIBRARY, WEIGHTS_FILE, is_hub_id
from captioner.readme import Measured, maps, orders
from captioner.rendering import figure

if TYPE_CHECKING:  # the predictor publishes itself with this module
    from captioner.predictor import Captioner

EXAMPLES = BUNDLED.parent / "examples"
TASK = "image-to-text"
LICENCE_NAME, LICENCE_FILE = "see-data-and-licences", "LICENSE.md"  # the Hub links to a file of this name, no other
# The files of results that a card is made of, as ``evaluate.py --json`` writes them.
SCORES, FAITHFULNESS = "val.json", "val-faithfulness.json"
_METRICS = {f"BLEU-{n}": "bleu" for n in range(1, 5)}
_METRICS |= {"METEOR": "meteor", "ROUGE-L": "rouge", "CIDEr": "cider", "SPICE": "spice"}
# Data by the name that training notes, and where the Hub has it.
_DATASETS = {"flickr8k": "jxie/flickr8k", "flickr30k": "nlphuji/flickr30k"}

_GROUNDING = """\
For the last word of each phrase with boxes, in captions written by people: is the centre of the strongest region in a
box (pointing), and how much of the map lies in the boxes (correctness)? With 95 % intervals; the last column says on
how many phrases.

"""
_FAITHFULNESS = """\
The area under a word's probability, in percent, as regions of the photograph are blurred out in some order (deletion),
or brought back into the blurred photograph (insertion). With 95 % intervals.

"""
_LIMITS = """\
- It learnt from {data}. It knows the words and things of those captions and calls everything else by them. It does
  not count well.
- The maps are a grid of {grid} regions: nothing smaller than a cell can be shown. They say which regions added to a
  word's score, not all of what decided it: the language term has seen the photograph too.
- Words like "is" or "the" are decided by the sentence, so that their maps mean little; image reliance tells.
- A probability says how likely a person was to use this word here, not how likely it is to be true. A guess at a
  person's age or sex comes from weak signs. Do not decide anything about people by these captions."""


class CardError(ValueError):
    """Results that cannot stand on a model's card; the message names the file."""


def model_card(
    captioner: Captioner, *, repo_id: str | None = None, results: Path | None = None, folder: Path | None = None
) -> ModelCard:
    """The card of a model that is to be called ``repo_id`` on the Hub, ``user/model`` where that is not known yet.

    ``results`` is a folder with ``val.json`` and ``val-faithfulness.json``, or one of them; without it the card has
    the scores that training left in the model. ``folder`` is where the model was saved: it gets the pictures of the
    examples and the licence, and what was measured on other weights than those in it is refused.

    Raises ``CardError``, and ``ReadmeError`` for a file of results that lacks what a table needs.
    """
    files = {name: results / name for name in (SCORES, FAITHFULNESS) if results and (results / name).is_file()}
    if results and not files:
        raise CardError(f"{results} holds neither {SCORES} nor {FAITHFULNESS}: evaluate.py --json writes them.")
    if folder:
        _refuse_other_models(files.values(), folder / WEIGHTS_FILE)
    scores = Measured(files[SCORES]).value() if SCORES in files else {}
    split, captions = _caption_scores(captioner, scores)
    name = repo_id if repo_id and is_hub_id(repo_id) else f"user/{repo_id or 'model'}"
    data = _data(captioner)
    if folder:
        (folder / LICENCE_FILE).write_text(f"# Data and licences\n\n{data}\n", encoding="utf-8")
    parts = {
        "": _introduction(name),
        "How it works": _architecture(captioner),
        "Examples": _examples(captioner, folder) if folder else None,
        "Data and licences": data,
        "Captions": captions and _table_of_captions(split, captions),
        "Do the maps lie where the word says?": "grounding" in scores and _GROUNDING + maps(results),
        "Do the words hang on those regions?": FAITHFULNESS in files and _FAITHFULNESS + orders(results),
        "Limits": _LIMITS.format(
            data=captioner.about.get("data", "data that is not recorded"),
            grid="{} x {}".format(*captioner.model.config.grid),
        ),
    }
    sections = [f"## {title}\n\n{text}" if title else text for title, text in parts.items() if text]
    metadata = _metadata(name, captioner, split, captions, scores.get("grounding", {}))
    return ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def _refuse_other_models(files: Any, weights: Path) -> None:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    for file in files:
        measured = Measured(file).value().get("run", {}).get("model", {})
        if measured.get(WEIGHTS_FILE) != digest:
            raise CardError(f"{file} was not measured on these weights: run evaluate.py --json again, or leave it out.")


def _caption_scores(captioner: Captioner, results: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """The split and the scores in percent, measured, or else left by training."""
    found = results | results.get("captions", {}) if "captions" in results else captioner.about.get("scores", {})
    return found.get("split", "val"), {name: found[name] for name in _METRICS if name in found}


def _metadata(
    name: str, captioner: Captioner, split: str, captions: dict[str, float], grounding: dict[str, Any]
) -> ModelCardData:
    data = captioner.about.get("data", "unknown data").partition(",")[0]
    measured = [(score, kind, captions[score]) for score, kind in _METRICS.items() if score in captions]
    if grounding:
        measured.append(("Pointing accuracy", "pointing_accuracy", grounding["pointing"]["region_word"]))
        measured.append(("Attention correctness", "attention_correctness", grounding["correctness"]["region_word"]))
    evaluated = [
        EvalResult(
            task_type=TASK,
            dataset_type=data.lower().replace(" ", "-"),
            dataset_name=data,
            dataset_split=split,
            metric_type=kind,
            metric_name=score,
            metric_value=round(value, 2),
        )
        for score, kind, value in measured
    ]
    licence = {"license": "unknown"}
    if "licence" in captioner.about:
        licence = {"license": "other", "license_name": LICENCE_NAME, "license_link": LICENCE_FILE}
    known = _DATASETS.get(data.lower())
    return ModelCardData(
        language="en",
        **licence,
        datasets=[known] if known else None,
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=["image-captioning", "explainability", "pytorch_model_hub_mixin"],
        model_name=name.rpartition("/")[2],
        eval_results=evaluated or None,
    )


def _introduction(name: str) -> str:
    return f"""\
# {name.rpartition("/")[2]}

A photograph goes in, a caption comes out, and every word says which regions of the photograph it came from, how sure
the model was, and how its score adds up.

The code is the files of any Space that shows this model: fetch them with
`hf download user/space --repo-type space --local-dir app`, run `pip install -r requirements.txt` in that folder, and
there

```python
import captioner
explained = captioner.load("{name}").explain("photo.jpg")
print(explained.text, explained.words[-1].region_map)
```

`captioner` is the folder of this name there, not a package to install by its name. By the Hub's conventions,
`captioner.Captioner.from_pretrained("{name}")` loads the model too, with `save_pretrained` and `push_to_hub`."""


def _architecture(captioner: Captioner) -> str:
    config, words = captioner.model.config, len(captioner.vocabulary)
    encoder, decoder = config.encoder, config.decoder
    stages = "last stage" if encoder.levels == 1 else f"last {encoder.levels} stages"
    side = config.preprocessing.image_size
    steps = [
        (f"{encoder.name}, its {stages}", "{} x {} regions".format(*config.grid)),
        (f"hierarchical attention ({decoder.attention})", f"in each of {decoder.layers} layers"),
        ("causal convolutions over the words", f"kernel {decoder.kernel}, width {decoder.width}"),
        ("region-word head", f"a sum over the regions, for {words:,} words"),
    ]
    if decoder.feedback:
        steps.append(("feedback", "the next word is told where the last one was"))
    chain = "\n".join(f"  -> {what:<40} {how}" for what, how in steps)
    return f"""\
```
photograph, squashed to {side} x {side}
{chain}

logit = bias_w + language_t . E_w + sum over regions r of alpha_tr (value_r . E_w)
```

The score of a word is a sum with nothing non-linear after it, and the map of a word is the positive part of its last
terms: what each region added to this word. The system is that of Mohan et al. 2024 (arXiv 2407.09556)."""


def _data(captioner: Captioner) -> str:
    about = captioner.about
    lines = [f"Trained on: {about.get('data', 'not recorded')}.", about.get("licence", "No licence is recorded.")]
    if "mean of" in about:
        lines.append(f"The mean of {len(about['mean of'])} models; how each was trained stands in `config.json`.")
    elif "recipe" in about:
        lines.append(f"Recipe `{about['recipe']}`; all settings stand in `config.json`.")
    return "\n".join(lines)


def _table_of_captions(split: str, captions: dict[str, float]) -> str:
    rows = (" | ".join(captions), "|".join(["---"] * len(captions)), " | ".join(f"{s:.1f}" for s in captions.values()))
    return f"In percent, split `{split}`, beam search:\n\n" + "\n".join(f"| {row} |" for row in rows)


def _examples(captioner: Captioner, folder: Path) -> str:
    """Caption the example photographs, draw what each word came from, and show it with the photographs' licences."""
    (folder / EXAMPLES.name).mkdir(exist_ok=True)
    shown = []
    for photograph in sorted(EXAMPLES.glob("*.jpg")):
        explained = captioner.explain(photograph)
        picture = Path(EXAMPLES.name) / photograph.name
        figure(explained).savefig(folder / picture, dpi=80)
        shown.append(f"![{explained.text}]({picture.as_posix()})")
    licences = (EXAMPLES / "LICENSES.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in licences.splitlines() if line.startswith("|"))
    return "\n\n".join([*shown, "The overlays are made from these photographs:", table])
