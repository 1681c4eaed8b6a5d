"""The app: ``python app.py`` serves it; a Hugging Face Space starts this file."""

from captioner.app import main

if __name__ == "__main__":
    raise SystemExit(main())
