"""What a client may name as a file: what it has uploaded, and nothing else on this server or on any other."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import gradio as gr
from gradio.exceptions import InvalidPathError
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_ROUTE = "/file="  # Gradio's, to a file it holds


class UploadsOnly(gr.Blocks):
    """Blocks that take uploaded files only, where Gradio would fetch any public address that a client names."""

    def launch(self, *arguments: Any, **options: Any) -> Any:
        return super().launch(*arguments, app_kwargs={"middleware": [Middleware(_NoProxy)]}, **options)

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> list[Any]:
        uploads = traverse(inputs, _upload, is_file_obj_with_meta)
        try:
            return await super().preprocess_data(block_fn, uploads, *arguments, **options)
        except InvalidPathError as error:
            raise _refused() from error


class _NoProxy:
    """Middleware that gives out no files of other servers, which Gradio would fetch for anyone."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.app
        if is_http_url_like(scope.get("path", "").partition(_ROUTE)[2]):
            answer = PlainTextResponse("Only files of this server are given out.", 403)
        await answer(scope, receive, send)


def _upload(file: dict[str, Any]) -> dict[str, Any]:
    path = file["path"]
    if is_http_url_like(path):  # an MCP client names an upload by its address here
        path = unquote(path.rpartition(_ROUTE)[2])
    if is_http_url_like(path):
        raise _refused()
    return file | {"path": path}


def _refused() -> gr.Error:
    return gr.Error("Upload the photograph itself; paths and addresses are not read.", print_exception=False)
