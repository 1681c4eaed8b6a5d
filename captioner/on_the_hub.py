"""The methods by which Hub users load, save and push a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCard, PyTorchModelHubMixin

from captioner.fetching import HubFailure
from captioner.hub import LIBRARY, ModelError, SavedModel, folder_from_hub, is_hub_id, load_explainable, save_model
from captioner.waiting import within_bounds

CARD_FILE = "README.md"


class OnTheHub(PyTorchModelHubMixin, library_name=LIBRARY):
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` as ``huggingface_hub`` documents them.

    They read and write the one format of ``captioner.hub``, with a model card; ``model_card_kwargs`` are the keywords
    of ``captioner.model_card.model_card``. Unlike ``captioner.load`` they never take another model in place of one
    that cannot be fetched.
    """

    def __new__(cls, *_: Any, **__: Any):
        # The mixin's own would copy all weights to note what an instance was made with; config.json says that here.
        return object.__new__(cls)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        device: torch.device | str | None = None,
        map_location: torch.device | str = "cpu",
        strict: bool = True,
    ) -> OnTheHub:
        """Load a model of the Hub (``user/model``) or a folder, checked and within bounds of time.

        ``device``, or else ``map_location``, is where the model goes. Loading is always strict, whatever ``strict``
        says. A copy fetched earlier is used where the Hub fails.

        Raises ``ModelError`` for a model that does not exist, is broken, cannot be fetched, or is not for this person.
        """
        name = str(pretrained_model_name_or_path)
        folder = Path(name)
        if not folder.is_dir():
            if not is_hub_id(name):
                raise ModelError(f"There is no folder {name}, and it is no Hub id like user/name.")
            try:
                folder, _ = folder_from_hub(
                    name,
                    revision,
                    token=token,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                )
            except HubFailure as error:
                raise ModelError(f"{name} could not be fetched from the Hub ({error}).") from error
        return cls(load_explainable(folder, name), name=name, device=device or map_location)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        *,
        config: Any = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write model and card to a folder, each file whole or not at all; a ``README.md`` that is there is kept.

        ``repo_id`` is the name on the card. ``config`` is not looked at: the model knows its settings. With
        ``push_to_hub`` the model is pushed, too, and the commit's address returned.
        """
        folder = Path(save_directory)
        save_model(folder, SavedModel(self.model, self.vocabulary, self.about, self.familiarity))
        if not (folder / CARD_FILE).exists():
            given = {"repo_id": repo_id} | (model_card_kwargs or {}) | {"folder": folder}
            self.generate_model_card(**given).save(folder / CARD_FILE)
        if push_to_hub:
            return self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **push_to_hub_kwargs)
        return None

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        model_card_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Make the repository where it is missing, and commit model and card to it; returns the commit's address.

        A Hub that falls silent is given up, see ``captioner.waiting``.
        """
        with within_bounds():
            # Only the Hub knows whose ``mymodel`` is.
            repo_id = HfApi(token=token).create_repo(repo_id, private=private, exist_ok=True).repo_id
            given = (model_card_kwargs or {}) | {"repo_id": repo_id}
            return super().push_to_hub(repo_id, private=private, token=token, model_card_kwargs=given, **options)

    def generate_model_card(self, **options: Any) -> ModelCard:
        """The card, see ``captioner.model_card.model_card``."""
        from captioner.model_card import model_card  # all the tables of the README: for those who push alone

        return model_card(self, **options)
