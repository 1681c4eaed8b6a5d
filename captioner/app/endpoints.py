"""Named endpoints for programs: for ``gradio_client``, plain HTTP, and MCP where the package ``mcp`` is installed.

Annotations are not postponed here: Gradio reads the endpoints' types from them.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import FileData
from gradio_client.utils import is_file_obj_with_meta
from PIL import Image

from captioner.explanation import ExplainedCaption
from captioner.photographs import PhotographError, open_photograph
from captioner.predictor import Captioner, PrefixError

MAX_BEAM_SIZE = 10
MAX_CHARACTERS = 200  # of first words


class RequestError(ValueError):
    """Values that nothing can be done with; the message says what to give instead."""


def endpoints(model: Captioner) -> None:
    """Offer a loaded model as the named endpoints of the Blocks around: ``/caption``, ``/explain`` and more."""

    @_told()
    def caption(photo: FileData, beam_size: int = 3, first_words: str = "") -> str:
        """Caption a photograph in one English sentence.

        Parameters:
            photo: The photograph, an uploaded file.
            beam_size: How many captions the search follows at once, 1 to 10. More find likelier captions.
            first_words: Words that the caption has to begin with.
        Returns:
            The caption.
        """
        return _explain(model, _open(photo), beam_size, first_words).text

    @_told()
    def explain(photo: FileData, beam_size: int = 3, first_words: str = "") -> dict:
        """Caption a photograph and explain every word: its probability, and what each region added to its score.

        Parameters:
            photo: The photograph, an uploaded file.
            beam_size: How many captions the search follows at once, 1 to 10. More find likelier captions.
            first_words: Words that the caption has to begin with.
        Returns:
            The explanation, the values of captioner.ExplainedCaption.to_json.
        """
        return _plain(_explain(model, _open(photo), beam_size, first_words))

    @_told()
    def continue_caption(photo: FileData, words: str, beam_size: int = 3) -> dict:
        """Caption a photograph with a sentence that goes on from given words, and explain every word.

        Parameters:
            photo: The photograph, an uploaded file.
            words: The first words of the caption, for example "two dogs".
            beam_size: How many captions the search follows at once, 1 to 10. More find likelier captions.
        Returns:
            The explanation, the values of captioner.ExplainedCaption.to_json.
        """
        return _plain(_explain(model, _open(photo), beam_size, words))

    @_told()
    def without_region(photo: FileData, regions: list[list[int]], beam_size: int = 3) -> dict:
        """Caption a photograph as it is and with some of its regions blurred, to see what the caption owes to them.

        Parameters:
            photo: The photograph, an uploaded file.
            regions: The regions to blur, each [row, column] on the model's grid; [0, 0] is at the top left.
            beam_size: How many captions the search follows at once, 1 to 10. More find likelier captions.
        Returns:
            "before" and "after", two explanations, and "probabilities" that the words before have in what is left.
        """
        photograph, hidden = _open(photo), _mask(regions, model.model.config.grid)
        before = _explain(model, photograph, beam_size)
        after = _explain(model, photograph, beam_size, hidden=hidden)
        again = model.explain_caption(photograph, [word.text for word in before.words], hidden=hidden)
        return {
            "before": _plain(before),
            "after": _plain(after),
            "probabilities": [word.probability for word in again.words],
        }

    named = {"caption": caption, "explain": explain, "continue": continue_caption, "without_region": without_region}
    for name, function in named.items():
        gr.api(function, api_name=name, concurrency_id="model", concurrency_limit=1)


def check_settings(beam_size: Any, first_words: Any) -> None:
    """Raise ``RequestError`` for a beam size or first words, from whoever asks, that are of the wrong kind or size."""
    if isinstance(beam_size, bool) or not isinstance(beam_size, int) or not 1 <= beam_size <= MAX_BEAM_SIZE:
        raise RequestError(f"The beam size must be a whole number from 1 to {MAX_BEAM_SIZE}.")
    if not isinstance(first_words, str) or len(first_words) > MAX_CHARACTERS:
        raise RequestError(f"The first words must be text of at most {MAX_CHARACTERS} characters.")


def _open(photo: Any) -> Image.Image:
    # Only what has this form Gradio has checked to be an upload.
    if not is_file_obj_with_meta(photo):
        raise RequestError('Upload the photograph; in gradio_client, give handle_file("photo.jpg").')
    return open_photograph(photo["path"])


def _explain(
    model: Captioner,
    photograph: Image.Image,
    beam_size: int,
    first_words: str = "",
    hidden: np.ndarray | None = None,
) -> ExplainedCaption:
    check_settings(beam_size, first_words)
    return model.explain(photograph, beam_size=beam_size, prefix=first_words, hidden=hidden)


def _mask(regions: Any, grid: tuple[int, int]) -> np.ndarray:
    hidden = np.zeros(grid, dtype=bool)
    if not isinstance(regions, list) or not regions:
        raise RequestError("Give at least one region, as [[row, column], ...].")
    for region in regions:
        match region:
            case [int(row), int(column)] if 0 <= row < grid[0] and 0 <= column < grid[1]:
                hidden[row, column] = True
            case _:
                raise RequestError(
                    f"A region is [row, column], with rows from 0 to {grid[0] - 1} and columns from 0 to {grid[1] - 1}."
                )
    return hidden


def _plain(explained: ExplainedCaption) -> dict[str, Any]:
    return json.loads(explained.to_json())


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with a request reaches the client as a sentence; Gradio keeps all other errors to itself."""
    try:
        yield
    except (PhotographError, PrefixError, RequestError) as error:
        raise gr.Error(str(error), print_exception=False) from error
