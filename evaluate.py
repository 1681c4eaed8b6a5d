"""Evaluate a captioner: ``python evaluate.py --data FOLDER --split val --json FILE``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import captioner
from captioner.boxes import Box
from captioner.coco import INSTANCES, read_data, read_instances
from captioner.data import CaptionedPhotograph, DataError, of_split
from captioner.entities import ENTITIES_FILE, GroundedCaption, read_entities
from captioner.evaluation import METRICS, TESTED, evaluate
from captioner.generation import GenerationConfig
from captioner.named_words import coco_grounded


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Score a captioner on photographs with reference captions.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with dataset*.json or annotations/ (COCO), and images/"
    )
    parser.add_argument("--split", default="val", help="split to score (default: %(default)s)")
    parser.add_argument("--model", help="Hub id or folder (default: CAPTIONER_MODEL, else the bundled model)")
    parser.add_argument("--metrics", default="captions", help=f"comma-separated, of: {', '.join(METRICS)}")
    parser.add_argument("--json", type=Path, help="file to write the scores to")
    parser.add_argument("--limit", type=int, help="score only the first photographs, for a quick look")
    parser.add_argument(
        "--tested",
        type=int,
        default=TESTED,
        help="photographs for faithfulness and for maps by gradients, which take long (default: %(default)s)",
    )
    search = parser.add_argument_group("generation")
    search.add_argument("--beam", type=int, default=GenerationConfig.beam_size, help="beam size (default: %(default)s)")
    search.add_argument(
        "--length-penalty",
        type=float,
        default=GenerationConfig.length_penalty,
        help="0 favours short captions, 1 ranks by probability a word (default: %(default)s)",
    )
    search.add_argument(
        "--no-repeat-trigrams", action="store_true", help="never say the same three words in a row twice"
    )
    return parser


def _phrases(
    data: Path, records: Sequence[CaptionedPhotograph], instances: dict[str, dict[str, tuple[Box, ...]]] | None
) -> dict[str, tuple[GroundedCaption, ...]] | None:
    """Captions with boxes: from phrases that people tied to them, else from COCO's objects, else None."""
    if (data / ENTITIES_FILE).exists():
        return read_entities(data)
    if instances is None:
        return None
    return {r.path.name: coco_grounded(r.tokens, instances.get(r.path.name, {})) for r in records}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        generation = GenerationConfig(
            beam_size=arguments.beam,
            length_penalty=arguments.length_penalty,
            repeat_trigrams=not arguments.no_repeat_trigrams,
        )
        records = of_split(read_data(arguments.data), arguments.split)[: arguments.limit]
        metrics = arguments.metrics.split(",")
        # Boxes are many: they are read only for what needs them.
        annotated = {"grounding", "hallucination"} & set(metrics) and any(arguments.data.glob(INSTANCES))
        instances = read_instances(arguments.data) if annotated else None
        phrases = _phrases(arguments.data, records, instances) if "grounding" in metrics else None
        loaded = captioner.load(arguments.model)
        if loaded.notice:
            # Scores under another model's name would be wrong, so there is no falling back here.
            raise captioner.ModelError(loaded.notice)
        results = evaluate(
            loaded,
            records,
            metrics=metrics,
            generation=generation,
            phrases=phrases,
            instances=instances,
            tested=arguments.tested,
        )
    except (DataError, ValueError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    report = {
        "model": loaded.name,
        "data": arguments.data.resolve().name,
        "split": arguments.split,
        "photographs": len(records),
        "generation": asdict(generation),
    } | results
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
