"""Verbs about the book and what it is made from: ledger, claims, reproduce."""

from pathlib import Path

from astroformer import paths
from astroformer.cli.common import add_verb, print_table


def _ledger(verbs) -> None:
    verb = add_verb(
        verbs, "ledger", ledger, "the records: committed and made on this machine", table=True
    )
    verb.add_argument("runs", nargs="*", metavar="RUN", help="these alone, by their beginnings")
    kept = verb.add_mutually_exclusive_group()
    kept.add_argument(
        "--keep",
        nargs=2,
        metavar=("RUN", "NAME"),
        help="copy a local record to book/ledger/NAME.jsonl",
    )
    kept.add_argument(
        "--filters",
        nargs=2,
        metavar=("CHECKPOINT", "NAME"),
        help="copy the spectral gates of trained weights to book/ledger/filters/NAME-RUN.npz",
    )
    kept.add_argument(
        "--check",
        nargs="+",
        metavar="FILE",
        help="verify records that somebody else made, before they are committed: each against the "
        "schema, itself, its predictions beside the file, the ledger, and what its device can do; "
        "exit status 1 if something is wrong",
    )


def ledger(options) -> int | None:
    from astroformer.ledger import identity, records

    if options.check:
        return _check(options.check, as_json=options.json)
    if options.keep or options.filters:
        paths.need_checkout(f"ledger {'--keep' if options.keep else '--filters'}")
    if options.keep:
        print(f"kept in {records.keep(*options.keep)}")
        return None
    if options.filters:
        from astroformer.reading import filters

        print(f"kept in {filters.keep(*options.filters)}")
        return None
    found = records.read()
    if options.runs:
        found = [one for one in found if one["run"].startswith(tuple(options.runs))]
        unknown = [
            name for name in options.runs if not any(one["run"].startswith(name) for one in found)
        ]
        if unknown:
            raise ValueError(
                f"no run in the ledger begins with {unknown[0]!r}; `astroformer ledger` lists all"
            )
    short = [
        {
            "run": r["run"],
            "status": r["status"],
            "model": r.get("model"),
            "data": (r.get("dataset") or {}).get("title"),
            "recipe": (r.get("recipe") or {}).get("name"),
            "revision": identity.revision(r),
            "seed": r.get("seed"),
            "top1": (r.get("metrics") or {}).get("top1"),
            "balanced": (r.get("metrics") or {}).get("balanced_accuracy"),
            "minutes": round((r.get("seconds") or 0.0) / 60, 1),
            "device": r.get("device"),
            "origin": r["origin"],
        }
        for r in found
    ]
    print_table(found if options.json else short, options.json)
    return None


def _check(files: list[str], *, as_json: bool) -> int:
    from astroformer.verdicts import foreign

    checked = foreign.check([Path(file) for file in files])
    if as_json:
        print_table([finding._asdict() for finding in checked.findings], as_json)
    else:
        print(*checked.findings, checked, sep="\n")
    return 1 if checked.errors else 0


def _claims(verbs) -> None:
    verb = add_verb(
        verbs,
        "claims",
        claims,
        "every number that the papers report, with its source and verdict",
        table=True,
    )
    verb.add_argument(
        "--system", metavar="NAME", help="only the claims about one system, such as Astroformer"
    )


def claims(options) -> None:
    from astroformer.audit import audit as counted
    from astroformer.ledger import claims as reported
    from astroformer.ledger import records
    from astroformer.verdicts import verdicts

    found = verdicts.verdicts(reported.read(), records.frame(), counted.read())
    if options.system is not None:
        found = reported.about(found, options.system)
    rows = found.to_dict("records")
    short = [
        {
            "model": row["model"] or row["system"],
            "data": row["dataset"] or "-",
            "metric": row["metric"],
            "reported": reported.written(row["value"], row["unit"]),
            "verdict": row["verdict"],
            "source": row["source"],
        }
        for row in rows
    ]
    print_table(rows if options.json else short, options.json)


def _reproduce(verbs) -> None:
    verb = add_verb(verbs, "reproduce", reproduce, "execute the pages and build the book")
    verb.add_argument("--profile", default="smoke", choices=("smoke", "gpu", "paper"))
    verb.add_argument("--force", action="store_true", help="execute every page, changed or not")
    verb.add_argument(
        "--yes", action="store_true", help="begin with the profile paper, whose price is said first"
    )
    verb.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="DIR|ARCHIVE",
        help="execute nothing: hold the numbers of built pages (default: _build/html) or of an "
        "archive of `make release` against the ledger, the claims and what the pages computed; "
        "exit status 1 if one does not fit",
    )
    verb.add_argument("pages", nargs="*", help="only these pages, such as training")


def reproduce(options) -> int:
    paths.need_checkout("reproduce")
    if options.check is not None:
        return _check_pages(options)
    from astroformer.reproduce import reproduce as run_book

    return run_book(
        options.profile, only=tuple(options.pages), force=options.force, yes=options.yes
    )


def _check_pages(options) -> int:
    from astroformer.reproduce import BookError, check

    try:
        found = check.check(Path(options.check) if options.check else None, options.profile)
    except BookError as error:
        raise ValueError(str(error)) from error
    print(*found.complaints, found, sep="\n")
    return 1 if found.complaints else 0


VERBS = (_ledger, _claims, _reproduce)
