"""A report: an explained caption as one HTML file that needs no server and no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from html import escape
from typing import Any

import numpy as np

from captioner.explanation import ExplainedCaption, ExplainedWord
from captioner.explorer import explorer_data, script, style

_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 1100px; margin: 0 auto; padding: 1rem; background: light-dark(#ffffff, #0f172a);
  color: light-dark(#1f2937, #f1f5f9); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.3rem; }
header p { margin: 0 0 1rem; }
noscript img { max-width: 100%; }
noscript :is(th, td) { padding: 0.2rem 1rem 0.2rem 0; text-align: left; }
"""
_START = """
const read = name => JSON.parse(document.getElementById(name).textContent);
const {data, findings} = read('shown');
const explorer = new Explorer(document.getElementById('explorer'), {ids: true});
explorer.show(data);
if (findings) explorer.test(0, findings);
"""


def report(
    explained: ExplainedCaption, *, findings: Mapping[str, Any] | None = None, hidden: np.ndarray | None = None
) -> str:
    """An explained caption as the HTML of a page that holds everything, and asks no network for anything.

    It has the photograph, the caption to step through as in the app, the words as a table for those without
    JavaScript, and the explanation's own JSON in the script element ``explanation``, for
    ``ExplainedCaption.from_json``. ``findings`` are those of testing it, ``captioner.explorer.findings``; ``hidden``
    (H, W), bool, are the regions that were blurred before it was captioned.

    Raises ``ValueError`` where the explanation has no photograph.
    """
    data = explorer_data(explained, hidden=hidden)
    today = date.today()
    rows = "".join(_row(word) for word in explained.words)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(explained.text)}</title>
<style>{_STYLE}{style()}</style>
</head>
<body>
<header>
<h1>A caption that shows where it came from</h1>
<p>Model: {escape(explained.model)}. {today.day} {today:%B %Y}.</p>
</header>
<main>
<noscript>
<p><strong>{escape(explained.text)}</strong></p>
<img src="{data["photograph"]["src"]}" alt="The photograph">
<table>
<tr><th>Word</th><th>Probability</th><th>Its score (logit)</th><th>What the regions add to it</th>\
<th>Strongest region</th></tr>
{rows}</table>
<p>With JavaScript, this page steps through the words and shows their regions.</p>
</noscript>
<div id="explorer"></div>
</main>
<script type="application/json" id="explanation">{_embedded(explained.to_json())}</script>
<script type="application/json" id="shown">{_embedded(json.dumps({"data": data, "findings": findings}))}</script>
<script>{script()}{_START}</script>
</body>
</html>
"""


def _row(word: ExplainedWord) -> str:
    row, column = np.unravel_index(word.region_logits.argmax(), word.region_logits.shape)
    return (
        f"<tr><td>{escape(word.text)}</td><td>{word.probability:.1%}</td><td>{word.logit:+.2f}</td>"
        f"<td>{word.region_logits.sum():+.2f}</td><td>row {row + 1}, column {column + 1}</td></tr>\n"
    )


def _embedded(values: str) -> str:
    """JSON that may stand in a script element: nothing in it closes the element or opens a comment."""
    return values.replace("<", "\\u003c")
