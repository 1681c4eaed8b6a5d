"""The named endpoints, as programs use them, and what they refuse."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio import processing_utils
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from captioner.app.endpoints import endpoints
from captioner.app.uploads import UploadsOnly
from captioner.predictor import Captioner
from tests.browser import served
from tests.tiny import tiny_model

FILE = {"meta": {"_type": "gradio.FileData"}}


def offered(model: Captioner) -> gr.Blocks:
    with UploadsOnly() as blocks:
        endpoints(model)
    return blocks


@pytest.fixture(scope="module")
def address(captioner):
    with served(offered(captioner)) as address:
        yield address


@pytest.fixture(scope="module")
def client(address) -> Client:
    return Client(address, verbose=False)


@pytest.fixture
def path(tmp_path, photograph) -> str:
    photograph.save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def posted(address: str, photo) -> str:
    """What ``/caption`` answers to a photograph as it is sent, without a client that uploads it first."""
    event = httpx.post(f"{address}gradio_api/call/caption", json={"data": [photo, 3, ""]}).json()["event_id"]
    return httpx.get(f"{address}gradio_api/call/caption/{event}", timeout=30).text


def uploaded(address: str, path: str | Path) -> str:
    """The path that an upload has on the server."""
    with open(path, "rb") as file:
        return httpx.post(f"{address}gradio_api/upload", files={"files": file}).json()[0]


def test_the_example_of_the_readme_runs(address, path, captioner):
    client = Client(address, verbose=False)
    caption = client.predict(handle_file(path), api_name="/caption")
    explained = client.predict(handle_file(path), beam_size=5, api_name="/explain")
    weakest = min(explained["words"], key=lambda word: word["image_reliance"])
    assert caption == captioner.explain(path).text
    assert weakest["text"] in explained["text"]


def test_a_caption_follows_its_settings(client, path, captioner):
    said = client.predict(photo=handle_file(path), beam_size=1, first_words="two dog", api_name="/caption")
    assert said == captioner.explain(path, beam_size=1, prefix="two dog").text
    assert said.startswith("two dog")


def test_an_explanation_is_the_one_that_the_package_gives(client, path, captioner):
    explained = client.predict(handle_file(path), api_name="/explain")
    assert explained == json.loads(captioner.explain(path).to_json())
    greedy = client.predict(handle_file(path), beam_size=1, first_words="a", api_name="/explain")
    assert greedy == json.loads(captioner.explain(path, beam_size=1, prefix="a").to_json())


def test_a_caption_goes_on_from_given_words(client, path, captioner):
    explained = client.predict(handle_file(path), "red ball", beam_size=2, api_name="/continue")
    assert explained == json.loads(captioner.explain(path, beam_size=2, prefix="red ball").to_json())


def test_a_photograph_is_compared_with_itself_without_some_regions(client, path, captioner):
    answer = client.predict(handle_file(path), [[1, 2], [0, 0]], beam_size=2, api_name="/without_region")
    hidden = np.zeros((3, 3), dtype=bool)
    hidden[1, 2] = hidden[0, 0] = True
    before = captioner.explain(path, beam_size=2)
    again = captioner.explain_caption(path, [word.text for word in before.words], hidden=hidden)
    assert answer["before"] == json.loads(before.to_json())
    assert answer["after"] == json.loads(captioner.explain(path, beam_size=2, hidden=hidden).to_json())
    assert answer["probabilities"] == [word.probability for word in again.words]
    assert answer["probabilities"] != [word.probability for word in before.words]


@pytest.mark.parametrize(
    ("endpoint", "values", "message"),
    [
        ("/caption", {"beam_size": 0}, "from 1 to 10"),
        ("/caption", {"beam_size": 11}, "from 1 to 10"),
        ("/explain", {"beam_size": "3"}, "from 1 to 10"),
        ("/explain", {"beam_size": True}, "from 1 to 10"),
        ("/caption", {"first_words": "unheard"}, "does not know “unheard”"),
        ("/caption", {"first_words": "a" * 201}, "at most 200 characters"),
        ("/continue", {"words": ["a", "dog"]}, "must be text"),
        ("/continue", {"words": "a dog " * 15}, "at most 19 words"),
        ("/without_region", {"regions": []}, "at least one region"),
        ("/without_region", {"regions": [[0, 3]]}, "columns from 0 to 2"),
        ("/without_region", {"regions": [[-1, 0]]}, "rows from 0 to 2"),
        ("/without_region", {"regions": [4]}, r"\[row, column\]"),
        ("/without_region", {"regions": [[0, 0]], "beam_size": 1.5}, "from 1 to 10"),
    ],
)
def test_a_bad_request_is_answered_with_a_sentence(client, path, endpoint, values, message, capfd):
    with pytest.raises(AppError, match=message):
        client.predict(photo=handle_file(path), **values, api_name=endpoint)
    assert "Traceback" not in capfd.readouterr().err


def test_a_file_that_is_no_photograph_is_answered_with_a_sentence(client, tmp_path, capfd):
    (tmp_path / "photo.jpg").write_bytes(b"no photograph at all " * 20)
    with pytest.raises(AppError, match="not a photograph"):
        client.predict(handle_file(tmp_path / "photo.jpg"), api_name="/caption")
    assert "Traceback" not in capfd.readouterr().err


def test_a_file_of_the_server_cannot_be_named(address, path, captioner):
    caption = captioner.explain(path).text
    upload = uploaded(address, path)
    assert caption in posted(address, {"path": upload, **FILE})
    for photo in (path, {"path": path}, {"path": path, **FILE}, {"path": f"{address}gradio_api/file={path}", **FILE}):
        answer = posted(address, photo)
        assert "Upload the photograph" in answer
        assert caption not in answer
    assert "Upload the photograph" in posted(address, {"path": f"{upload}/../../../{path}", **FILE})


def test_nothing_is_fetched_for_a_client(address, monkeypatch):
    asked = []

    async def get(url: str):
        asked.append(url)
        raise ValueError("This test fetches nothing.")

    monkeypatch.setattr(processing_utils, "async_ssrf_protected_get", get)
    for path in (
        "http://example.org/a.jpg",
        "https://example.org/gradio_api/file=http://example.org/a.jpg",
        "http://example.org/gradio_api/file=http%3A//example.org/a.jpg",
    ):
        photo = {"path": path, **FILE}
        for sent in (photo, {**photo, "url": path}, {"nested": [photo]}):
            assert "Upload the photograph" in posted(address, sent)
    assert asked == []


def test_the_server_passes_on_no_files_of_others(address, path, monkeypatch):
    async def reach(hostname: str):
        pytest.fail(f"{hostname} was to be reached")

    monkeypatch.setattr("safehttpx.async_validate_url", reach)
    for named in ("http://example.org/", "https%3A%2F%2Fexample.org%2F"):
        assert httpx.get(f"{address}gradio_api/file={named}").status_code == 403
    assert httpx.get(f"{address}gradio_api/file={uploaded(address, path)}").status_code == 200


def test_an_upload_may_be_named_by_its_address(address, tmp_path, photograph, captioner):
    photograph.save(tmp_path / "my photo.png")
    upload = uploaded(address, tmp_path / "my photo.png")
    assert " " in upload
    photo = {"path": f"{address}gradio_api/file={quote(upload)}", **FILE}
    assert captioner.explain(photograph).text in posted(address, photo)


def test_every_endpoint_and_parameter_is_described(client):
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/caption", "/explain", "/continue", "/without_region"}
    for endpoint in named.values():
        assert "photograph" in endpoint["description"]
        photo, *others = endpoint["parameters"]
        assert photo["python_type"]["type"] == "filepath"
        assert all(other["python_type"]["type"] != "Any" for other in others)
        beam_size = next(other for other in others if other["parameter_name"] == "beam_size")
        assert beam_size["parameter_default"] == 3


def test_the_model_says_one_caption_at_a_time(path):
    class Watched(Captioner):
        met = threading.Barrier(2)
        together = False

        def explain(self, *arguments, **options):
            try:
                self.met.wait(timeout=0.5)
                self.together = True
            except threading.BrokenBarrierError:
                pass
            return super().explain(*arguments, **options)

    model = Watched(tiny_model(image_size=96), name="tiny")
    with served(offered(model)) as address:
        client = Client(address, verbose=False)
        jobs = [client.submit(handle_file(path), api_name=endpoint) for endpoint in ("/caption", "/explain")]
        for job in jobs:
            job.result()
    assert not model.together
