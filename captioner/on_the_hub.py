"""The methods by which Hub users load, save and push a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download

from captioner.hub import CONFIG_FILE, LIBRARY, WEIGHTS_FILE, SavedModel, load_explainable, save_model


class OnTheHub(PyTorchModelHubMixin, library_name=LIBRARY):
    """``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` as ``huggingface_hub`` documents them.

    They read and write the one format of ``captioner.hub``, with a model card; ``model_card_kwargs`` are the keywords
    of ``captioner.model_card.model_card``. Unlike ``captioner.load`` they never take another model in place of one
    that cannot be fetched.
    """

    def __new__(cls, *_: Any, **__: Any):
        # The mixin's own would copy all weights to note what an instance was made with; config.json says that here.
        return object.__new__(cls)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(save_directory, SavedModel(self.model, self.vocabulary, self.about, self.familiarity))

    @classmethod
    def _from_pretrained(cls, *, model_id: str, map_location: str = "cpu", **options: Any) -> OnTheHub:
        folder = Path(model_id)
        if not folder.is_dir():
            folder = Path(snapshot_download(model_id, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE], **options))
        return cls(load_explainable(folder, model_id), name=model_id, device=map_location)

    def save_pretrained(
        self, save_directory: str | Path, *, model_card_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> str | None:
        """Write model and card to a folder; a ``README.md`` that is there already is kept."""
        given = (model_card_kwargs or {}) | {"folder": Path(save_directory)}
        return super().save_pretrained(save_directory, model_card_kwargs=given, **options)

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: dict[str, Any] | None = None, **options: Any) -> str:
        """Make the repository where it is missing, and commit model and card to it; returns the commit's address."""
        given = {"repo_id": repo_id} | (model_card_kwargs or {})
        return super().push_to_hub(repo_id, model_card_kwargs=given, **options)

    def generate_model_card(self, **options: Any) -> ModelCard:
        """The card, see ``captioner.model_card.model_card``."""
        from captioner.model_card import model_card  # all the tables of the README: for those who push alone

        return model_card(self, **options)
