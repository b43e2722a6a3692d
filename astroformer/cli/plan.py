"""The verb `plan`: what a batch over many nodes takes, before anything starts."""

import json
import sys

from astroformer.batch.__main__ import add_arguments
from astroformer.cli.common import add_verb, print_table


def _plan(verbs) -> None:
    verb = add_verb(
        verbs,
        "plan",
        plan,
        "what the workflow over many nodes would make, and what it takes: runs, hours, energy, "
        "disk; nothing is started",
        table=True,
    )
    add_arguments(verb)


def plan(options) -> None:
    from astroformer.batch.plan import asked_of, estimator_of, lines, options_of, summary, table

    found, estimator, how = asked_of(options), estimator_of(options), options_of(options)
    if kinds := len({(one.run.model, one.run.options) for one in found.missing}):
        print(
            f"counting memory and hours of {len(found.missing):,} runs of {kinds} networks; the "
            "first time this takes seconds for each",
            file=sys.stderr,
            flush=True,
        )
    rows = table(found, estimator)
    told = summary(found, rows, estimator, how)
    plain = [
        {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}
        for row in rows.to_dict("records")
    ]
    if options.json:
        print(json.dumps(told | {"rows": plain}, indent=1))
        return
    short = ("page", "study", "stage", "runs", "in_ledger", "missing", "hours", "kwh", "disk_gb")
    if plain:
        print_table([{key: row[key] for key in short} for row in plain], False)
    else:
        print("No run is asked for: the pages make theirs themselves. --study names more.")
    for line in lines(told):
        print(line, file=sys.stderr)


VERBS = (_plan,)
