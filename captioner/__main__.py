"""Command line: ``python -m captioner PHOTO... [--model M] [--beam N] [--json FILE] [--figure FILE.png]``.

``python -m captioner push``, ``deploy`` and ``export`` have command lines of their own.
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

from captioner import Captioner, ExplainedCaption, ModelError, PhotographError, PrefixError, load
from captioner.rendering import figure

# Words that stand where photographs would, and the modules whose ``main`` they call.
COMMANDS = {"push": "captioner.publishing", "deploy": "captioner.deployment", "export": "captioner.onnx_export"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner",
        description="Caption photographs and explain the words.",
        epilog=f"Other commands: {', '.join(COMMANDS)}; each has its own --help.",
    )
    parser.add_argument("photographs", nargs="+", metavar="PHOTO", type=Path, help="photographs to caption")
    parser.add_argument("--model", help="Hub id or folder (default: CAPTIONER_MODEL, else the bundled model)")
    parser.add_argument("--beam", type=int, default=3, help="beam size (default: %(default)s)")
    parser.add_argument("--prefix", help="words the captions begin with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all explanations as one JSON list")
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw photograph and words, .png or .pdf; several photos are numbered",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Caption every photograph; one that cannot be used does not stop the rest, but the status is then 1."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        return import_module(COMMANDS[argv[0]]).main(argv[1:])
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.beam < 1:
        parser.error("--beam must be at least 1.")
    try:
        captioner = load(arguments.model)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    if captioner.notice:
        print(captioner.notice, file=sys.stderr)
    explained = {path: _explain(captioner, path, arguments) for path in arguments.photographs}
    done = {path: caption for path, caption in explained.items() if caption}
    for number, (path, caption) in enumerate(done.items()):
        print(f"{path}: {caption.text}" if len(explained) > 1 else caption.text)
        if arguments.figure:
            file = arguments.figure
            figure(caption).savefig(file.with_stem(f"{file.stem}-{number + 1}") if len(done) > 1 else file, dpi=150)
    if arguments.json:
        entries = [{"photograph": str(path)} | json.loads(caption.to_json()) for path, caption in done.items()]
        arguments.json.write_text(json.dumps(entries) + "\n", encoding="utf-8")
    return 0 if len(done) == len(explained) else 1


def _explain(captioner: Captioner, path: Path, arguments: argparse.Namespace) -> ExplainedCaption | None:
    try:
        return captioner.explain(path, beam_size=arguments.beam, prefix=arguments.prefix)
    except (PhotographError, PrefixError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())
