"""The app: ``python app.py`` serves it; a Hugging Face Space starts this file."""

from contextlib import suppress

with suppress(ModuleNotFoundError):
    import spaces  # noqa: F401 - on ZeroGPU Spaces; it changes PyTorch, and so has to be there before it

from captioner.app import main

if __name__ == "__main__":
    raise SystemExit(main())
