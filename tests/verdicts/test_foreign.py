"""Records that somebody else sends: what runs leave passes, and what was tampered with is found."""

import json
import math
import re
from collections import Counter
from dataclasses import MISSING, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from many_records import made
from small_run import CPU, EVERYTHING, small_run

from astroformer import cli, paths
from astroformer.counting.cards import CARDS, peak
from astroformer.ledger import identity, predictions, records
from astroformer.recipes import Recipe, get_recipe
from astroformer.recipes.recipe import BEFORE
from astroformer.training import Execution, fit
from astroformer.verdicts import foreign
from astroformer.verdicts.consistent import ERROR, complaints

COMMITTED = sorted(paths.LEDGER.glob("*.jsonl"))


def plain(record):
    """A copy without any part in common."""
    return {name: one for name, one in json.loads(json.dumps(record)).items() if name != "origin"}


GENUINE = [plain(one) for one in records.read(paths.LEDGER)]
OLD = [one for one in GENUINE if "identity" not in one]
NEW = [one for one in GENUINE if "identity" in one]


@pytest.fixture
def alone(own_runs, monkeypatch):
    """An empty ledger; a function that writes records beside it and gives what is found of them."""
    monkeypatch.setattr(paths, "LEDGER", own_runs / "committed")

    def found(*sent, name="sent.jsonl"):
        path = own_runs / name
        path.write_text("".join(json.dumps(one) + "\n" for one in sent))
        return foreign.check([path]).findings

    return found


def errors(record):
    return [one for one in complaints(record) if one.level == ERROR]


# What runs leave


def test_committed_records_pass_and_none_is_held_against_itself():
    checked = foreign.check(COMMITTED)
    assert checked.records == len(GENUINE) and checked.errors == 0
    named = Counter(one.field for one in checked.findings)
    assert named.pop("run") == len(OLD), "names of revision 1"
    assert set(named) <= {"git.commit"}, "of a clone without all its history"


def test_the_command_tells_what_it_found_and_whether_all_holds(alone, own_runs, capsys):
    alone(NEW[0])
    words = ["ledger", "--check", str(own_runs / "sent.jsonl")]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.endswith("1 records: 0 errors, 0 warnings\n")
    alone(NEW[0], NEW[1] | {"seed": 99}, name="wrong.jsonl")
    words += [str(own_runs / "wrong.jsonl")]
    assert cli.main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(" line 1: " in line or " line 2: " in line for line in lines[:-1])
    named = f"{own_runs / 'wrong.jsonl'}, line 2: run {NEW[1]['run']}: error: identity.seed: "
    assert any(line.startswith(named) for line in lines)
    assert cli.main([*words, "--json"]) == 1
    table = json.loads(capsys.readouterr().out)
    assert [f"{row['file']}, line {row['line']}" for row in table] == [
        line.partition(": ")[0] for line in lines[:-1]
    ]
    assert set(table[0]) == {"file", "line", "run", "level", "field", "what"}


@pytest.mark.parametrize("sent", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(own_runs, capsys, sent):
    assert cli.main(["ledger", "--check", str(own_runs / sent)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.fixture(scope="module")
def trained(tiny_folder, shared_runs):
    """The local ledger after a few kinds of runs, with their predictions."""
    quiet = dict(device=CPU, report=lambda line: None)
    fit(small_run(tiny_folder), **quiet)
    everything = small_run(tiny_folder, **EVERYTHING)
    fit(everything, stop_after=7, **quiet)
    fit(everything, **quiet)
    checkpoint = everything.folder / "last.pt"
    fit(replace(small_run(tiny_folder, seed=1), init=str(checkpoint), validation=0.25), **quiet)
    fit(small_run(tiny_folder, seed=2, learning_rate=1e12), **quiet)
    counted = small_run(tiny_folder, seed=3)
    recipe = get_recipe("lowdata", steps=9, batch_size=8, precision="float32", preprocessing="data")
    counted = replace(counted, recipe=recipe, validation=0.25, options=(("stack", "CCTT"),))
    study = dict.fromkeys(("name", "design", "stage", "task", "arm", "profile"), "made up")
    fit(counted, evaluations=3, study=study, execution=Execution(grad_checkpointing=True), **quiet)
    (path,) = paths.local_ledger().glob("*.jsonl")
    return path


def test_what_a_run_leaves_passes_whatever_became_of_it(trained):
    checked = foreign.check([trained])
    assert [one for one in checked.findings if one.level == ERROR] == []
    kept = [json.loads(line) for line in trained.read_text().splitlines()]
    assert Counter(one["status"] for one in kept) == {
        "completed": 4,
        "interrupted": 1,
        "failed": 1,
    }
    assert sum(predictions.present(one["run"]) for one in kept) >= 4


# What was tampered with


def leaves(value, path=()):
    """Every value that holds no others, with the way to it."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, part in inner:
        yield from leaves(part, (*path, name))
    if not inner:
        yield path, value


def changed(record, path, value):
    copied = plain(record)
    part = copied
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return copied


def others(value):
    """Plausible ones of the same kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value + 1, -1, value - 1 if value else 7]
    if isinstance(value, float):
        return [value * 1.01 + 1e-3, 2 * value + 0.5, -1.0]
    if isinstance(value, str):
        digit = re.sub(r"\d", lambda found: f"{(int(found[0]) + 1) % 10}", value, count=1)
        return [f"{value}x", value[:-1] or "y", digit if digit != value else f"{value}0"]
    return [3] if value is None else []


def name_of(path):
    return ".".join("[]" if isinstance(name, int) else name for name in path)


# What nothing else in a record depends on: words, measurements of other images than the final ones,
# and images that are too few for another step. Of these, too, what is out of its range is found.
UNTOLD = re.compile(
    r"dataset\.(note|title|train)|recipe\.source|study\.\w+|peak_memory"
    r"|history\.\[\]\.(train_loss|(train_)?(top1|top5|balanced_accuracy|nll|ece))"
    r"|metrics\.(train_)?(top1|top5|balanced_accuracy|nll|ece)"
    r"|attempts\.\[\]\.cpu_seconds"
)
# Of a recipe's fields those that have no effect beside the others are no part of the identity.
WITHOUT_EFFECT = re.compile(r"recipe\.(epochs|warmup_\w+|crop_scale\.\[\]|cutout_side)")
SAMPLES = [
    next(one for one in NEW if one["dataset"]["evaluated_on"] == where)
    for where in ("validation", "test")
]


@pytest.mark.parametrize("record", SAMPLES, ids=["on validation images", "on test images"])
def test_whatever_is_tampered_with_is_found(record):
    """But for what `UNTOLD` lists, of which what is out of range is found."""
    assert errors(record) == [] and len(record["attempts"]) == 1
    missed, tried = Counter(), Counter()
    for path, value in leaves(record):
        for other in others(value):
            tried[name_of(path)] += 1
            sent = changed(record, path, other)
            if sent["status"] in records.STATUS and not errors(sent):
                missed[name_of(path)] += 1
                assert not isinstance(other, float | int) or other >= 0, path
    assert sum(tried.values()) > 500
    wrong = [
        name for name in missed if not UNTOLD.fullmatch(name) and not WITHOUT_EFFECT.fullmatch(name)
    ]
    # a commit that nobody has is told apart by the repository alone
    assert set(wrong) <= {"git.commit", "git.dirty"}, missed


@pytest.mark.parametrize("name", sorted(NEW[0]))
def test_a_field_that_is_missing_null_or_of_another_kind_is_found(alone, name):
    record = NEW[0]
    for value in (None, [], {}, "x", 1.5, True, "missing"):
        sent = record | {name: value}
        if value == "missing":
            del sent[name]
        kept = type(value) is type(record[name]) or (value is None and record[name] is None)
        optional = value == "missing" and name in records.OPTIONAL
        found = [one for one in alone(sent) if one.level == ERROR]
        assert found or optional or (kept and sent[name] == record[name]), value
        assert all(one.line == 1 and "\n" not in str(one) for one in found)


DEFAULTS = {one.name: one.default for one in fields(Recipe) if one.default != MISSING}
DEFAULTS = plain(DEFAULTS | BEFORE)


@pytest.mark.parametrize("name", ["dataset", "git", "versions", "recipe", "identity", "metrics"])
def test_a_part_that_lacks_a_field_or_has_another_is_found(name):
    record = SAMPLES[1]
    for part in record[name]:
        less = {one: value for one, value in record[name].items() if one != part}
        # a recipe has younger fields than some records, which mean what was done before
        usual = name == "recipe" and record[name][part] == DEFAULTS.get(part)
        assert errors(record | {name: less}) or usual, part
    more = record[name] | {"surely": 1}
    assert errors(record | {name: more})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=4), part, max_size=3)
    ),
    max_leaves=6,
)


@given(st.data())
def test_any_record_is_answered_and_never_stumbled_over(data):
    record = data.draw(st.sampled_from([*SAMPLES, OLD[0]]))
    paths_of = [path for path, _ in leaves(record)]
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths_of))
        path = path[: data.draw(st.integers(1, len(path)))]
        try:
            record = changed(record, path, data.draw(JSON))
        except (KeyError, IndexError, TypeError):
            continue  # what held it was changed before
    try:
        records._check_record(record, records.CORE)
    except ValueError:
        return  # which is told of the line
    for one in complaints(record):
        assert str(one.what) and "\n" not in one.what


def test_lines_that_are_no_records_are_found_with_their_numbers(alone, own_runs):
    path = own_runs / "sent.jsonl"
    path.write_text(f"{json.dumps(NEW[0])}\n\n[1]\n{json.dumps(NEW[1])[:100]}\n")
    found = foreign.check([path])
    assert [(one.line, one.level, one.run) for one in found.findings] == [
        (3, "error", ""),
        (4, "error", ""),
    ]
    assert found.records == 1


# Speed


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_run_is_faster_than_its_device(card, precision):
    for share in (0.5, 0.99, 1.01, 20):
        for devices in (1, 4):
            record = made_on(card.devices[0], precision, devices, share * card.rate(precision))
            named = {one.field for one in errors(record)}
            assert named == ({"images_per_second"} if share > 1 else set())


def made_on(device, precision, devices, rate):
    """A run as it would be at so many operations a second on each of some devices."""
    record = plain(made(next(n for n in range(99) if made(n)["model"] == "vit_cifar")))
    (attempt,) = record["attempts"]
    own = record["identity"] | {"precision": precision}
    seconds = 6 * record["macs"] * attempt["images"] / rate / devices
    attempt |= {"device": device, "seconds": seconds, "cpu_seconds": seconds}
    attempt["execution"] |= {"world_size": devices}
    return record | {
        "run": identity.digest(own),
        "identity": own,
        "device": device,
        "precision": precision,
        "recipe": record["recipe"] | {"precision": precision},
        "execution": attempt["execution"],
        "world_size": devices,
        "seconds": round(seconds, 2),
        "images_per_second": round(attempt["images"] / seconds, 1),
    }


def test_a_processor_has_a_peak_by_its_threads_and_an_unknown_device_is_said():
    one, two = (peak(f"AMD EPYC, {number} threads", "float32") for number in (1, 2))
    assert two == 2 * one and one < peak("AMD EPYC, 1 threads", "bfloat16")
    record = made_on("Some Accelerator X", "float32", 1, 1e12)
    (found,) = complaints(record)
    assert found.level == "warning" and "Some Accelerator X" in found.what


def test_of_an_older_record_the_time_must_fit_the_images_and_the_speed():
    record = OLD[0]
    assert errors(record) == []
    for factor in (0.1, 0.4, 2.5, 10):
        for name in ("seconds", "images_per_second"):
            assert errors(record | {name: record[name] * factor}), (name, factor)


# What is there already


def test_a_run_that_is_there_already_is_named_with_whether_its_metrics_agree(alone, own_runs):
    record = SAMPLES[1]
    (own_runs / "committed").mkdir()
    (own_runs / "committed" / "a.jsonl").write_text(json.dumps(record) + "\n")
    (same,) = alone(record)
    assert same.level == "warning" and "(committed), word for word" in same.what
    later = json.loads(json.dumps(record).replace(record["started"], "2026-06-01T00:00:00+00:00"))
    (again,) = alone(later)
    assert again.level == "warning" and again.what.endswith("; their metrics agree")
    other = changed(later, ("metrics", "nll"), record["metrics"]["nll"] + 0.01)
    (differs,) = alone(other)
    assert differs.level == "warning" and "their metrics differ: nll" in differs.what
    (edited,) = alone(changed(record, ("metrics", "nll"), 1.0))
    assert edited.level == "error" and edited.what.endswith("differs in metrics")
    # and within what is sent
    other = NEW[1]
    (twice,) = alone(other, other, name="twice.jsonl")
    assert twice.line == 2 and "twice.jsonl, line 1, word for word" in twice.what


def test_a_run_that_went_on_after_an_interruption_is_no_contradiction(alone, own_runs):
    path = own_runs / "ledger" / "job.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps(NEW[0] | {"status": "interrupted"}) + "\n")
    assert alone(NEW[0]) == []


# Predictions and commits


def test_metrics_that_the_predictions_do_not_give_are_found(alone, trained, own_runs):
    kept = [json.loads(line) for line in trained.read_text().splitlines()]
    record = next(one for one in kept if one["status"] == "completed")
    beside = own_runs / "predictions" / f"{record['run']}.npz"
    beside.parent.mkdir()
    beside.write_bytes((trained.parent / "predictions" / beside.name).read_bytes())
    assert [one for one in alone(record) if one.level == ERROR] == []
    given = foreign.recomputed(predictions.load(beside))
    assert set(given) == {"top1", "top5", "balanced_accuracy", "ece", "nll"}
    for name, value in given.items():
        assert math.isclose(value, record["metrics"][name], rel_tol=1e-4, abs_tol=1e-4)
        # in the history, too, which would tell it as well
        sent = changed(record, ("metrics", name), value * 0.5)
        sent = changed(sent, ("history", len(sent["history"]) - 1, name), value * 0.5)
        assert f"metrics.{name}" in {one.field for one in alone(sent) if one.level == ERROR}
    for name, value in (("test", 23), ("classes", 4), ("evaluated_on", "validation")):
        found = alone(changed(record, ("dataset", name), value))
        assert [one for one in found if one.level == ERROR]
    beside.write_bytes(beside.read_bytes()[:100])
    (broken,) = [one for one in alone(record) if one.level == ERROR]
    assert broken.field == "predictions"


def test_a_commit_that_the_repository_lacks_is_said(alone):
    commit = "0123456789" * 4
    sent = json.loads(json.dumps(NEW[0]).replace(NEW[0]["git"]["commit"], commit))
    (found,) = alone(sent)
    assert found.level == "warning" and found.field == "git.commit" and commit[:12] in found.what
    dirty = json.loads(json.dumps(NEW[0]).replace('"dirty": false', '"dirty": true'))
    (found,) = alone(dirty)
    assert found.level == "warning" and found.field == "git.dirty"
