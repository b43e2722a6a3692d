"""The memory of training every network as a line in the number of images at once, and what usual
cards hold by it: predicted once, kept in `book/ledger/speed/predicted.jsonl`.

    .venv/bin/python -m astroformer.speed.memory_lines

predicts again, which takes minutes, and adds to the file; of two predictions the newer one counts.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from astroformer.ledger import records
from astroformer.sizes import IMAGE_SIZE, NAMES
from astroformer.speed import kept

WHAT, FILE = "memory line", "predicted"
DEVICE = "a GPU, predicted"


def line(name: str, image_size: int, *, checkpointed: bool) -> dict[str, float]:
    """Bytes of the fullest moment of AdamW's steps in bfloat16 on n images at once: the larger of
    `least` and `beside + each * n`.

    At every moment memory is affine in n: `least` is the optimizer's step, where one image is
    less than the weights, and the line is the moment that grows the most.
    """
    from astroformer.training import memory_by_card as by_card  # brings torch; readers need none

    first, second = (
        by_card.predicted(name, image_size, number, checkpointed=checkpointed).total
        for number in by_card.FAR
    )
    each = (second - first) / (by_card.FAR[1] - by_card.FAR[0])
    least = by_card.predicted(name, image_size, 1, checkpointed=checkpointed).total
    return {"least": least, "beside": first - each * by_card.FAR[0], "each": each}


def at(row: dict, images: int, image_size: int) -> float:
    """Bytes with so many images at once. Those of an image grow with its area: the networks' own
    sums say the same within 2 %, which the tests hold.
    """
    area = (image_size / row["image_size"]) ** 2
    return max(row["least"], row["beside"] + row["each"] * area * images)


def rows(names: Sequence[str] = NAMES) -> Iterator[dict]:
    """A record for each network at its own image size, with and without gradient checkpointing."""
    from astroformer.training import memory_by_card as by_card

    for name in names:
        size = IMAGE_SIZE[name]
        for checkpointed in (False, True) if by_card.can_checkpoint(name) else (False,):
            most = by_card.largest_micro_batch(name, size, by_card.CARDS, checkpointed=checkpointed)
            yield {
                "what": WHAT,
                "device": DEVICE,
                "versions": records.versions(),
                "git": records.git_state(),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "model": name,
                "image_size": size,
                "contestant": "gradient checkpointing" if checkpointed else "plain",
                "precision": "bfloat16",
                "optimizer": by_card.OPTIMIZER,
                "classes": by_card.CLASSES,
                "cards": [[card, images] for card, images in zip(by_card.CARDS, most)],
                **line(name, size, checkpointed=checkpointed),
            }


def main() -> None:
    for row in rows():
        print(row["model"], row["contestant"], dict(row["cards"]), flush=True)
        kept.keep([row], FILE)


if __name__ == "__main__":
    main()
