"""Designs of studies: each is read as it is written, what it cannot mean is refused in one line,
and a change after a run shows.
"""

import subprocess

import pytest

from astroformer import paths
from astroformer.data.tasks import TASKS
from astroformer.studies import design
from astroformer.studies.runner import MODULES

WRITTEN = """\
question: Which is better?
arms:
  one: {title: One, options: {stack: CCCT, depths: [1, 2, 2, 2]}}
  two: {title: Two, model: vit_cifar}
tasks: [cifar100, galaxies3]
profiles:
  cpu: {model: astroformer_pico}
  gpu: {model: astroformer_0, pixels: 64, seeds: [3, 4], rates: [0.1, 0.2]}
order:
  - {tier: 1, stage: tuning, arms: [one]}
  - {tier: 2, stage: low, arms: [one, two], tasks: [galaxies3], seeds: [1, 2], tuned_as: {two: one}}
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A function that writes a design `mine` and reads it."""
    monkeypatch.setattr(design, "STUDIES", tmp_path)

    def write(text=WRITTEN, *changes):
        for old, new in changes:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (tmp_path / "mine.yml").write_text(text)
        return design.read("mine")

    return write


@pytest.mark.parametrize("name", design.names())
def test_every_design_is_read_and_has_a_reader(name):
    one = design.read(name)
    assert name in MODULES and one.question.endswith("?") and one.told["threats"]
    assert {"cpu", "gpu", "cluster"} <= set(one.profiles)
    assert one.tasks and set(one.tasks) <= set(TASKS)
    for part in one.order:
        assert set(part.tasks) <= set(TASKS) and set(part.arms) <= set(one.arms)
        assert part.stage == "tuning" or part.seeds


def test_a_part_of_some_profiles_belongs_to_no_other(written):
    one = written(WRITTEN, ("tuned_as: {two: one}}", "tuned_as: {two: one}, profiles: [cpu]}"))
    assert one.order[0].profiles == () and one.order[1].profiles == ("cpu",)
    assert one.parts(one.profile("cpu")) == one.order
    assert one.parts(one.profile("gpu")) == one.order[:1]
    with pytest.raises(ValueError, match="study mine: profile 'cup' is not known; choose one of c"):
        written(WRITTEN, ("tuned_as: {two: one}}", "tuned_as: {two: one}, profiles: [cup]}"))


@pytest.mark.parametrize("profile", ["gpu", "cluster"])
def test_sizes_that_suit_the_smallest_network_stay_with_its_profile(profile):
    """A network that an arm names, and depths that it sets, do not follow a profile to the larger
    networks.
    """
    one = design.read("few_images")
    for part in one.parts(one.profile(profile)):
        for arm in part.arms:
            assert not one.arm(arm).model and "depths" not in dict(one.arm(arm).options)


def test_what_is_written_is_what_is_read(written):
    one = written()
    assert one.arm("one").options == (("depths", (1, 2, 2, 2)), ("stack", "CCCT"))
    assert (one.arm("two").model, one.arm("one").model) == ("vit_cifar", "")
    first, second = one.order
    assert first.tasks == ("cifar100", "galaxies3") and first.seeds == ()
    assert second.tasks == ("galaxies3",) and second.tuned_as == (("two", "one"),)
    assert (second.tier, second.stage, second.seeds, second.pixels) == (2, "low", (1, 2), None)
    gpu = one.profile("gpu")
    assert (gpu.pixels, gpu.seeds, gpu.rates, gpu.steps) == (64, (3, 4), (0.1, 0.2), None)
    assert len(one.digest) == 12 and one.told["question"] == one.question


def test_a_design_that_changes_while_the_process_lives_is_read_anew(written):
    before, after = written(), written(WRITTEN, ("seeds: [1, 2]", "seeds: [1, 2, 3]"))
    assert len(before.order[1].seeds) == 2 and len(after.order[1].seeds) == 3
    assert before.digest != after.digest


@pytest.mark.parametrize(
    "changes, words",
    [
        ([("arms: [one]}", "arms: [three]}")], "arm 'three' is not known; choose one of one, two"),
        ([("tasks: [cifar100", "tasks: [cifar")], "task 'cifar' is not known; choose one of cifar"),
        ([("tasks: [galaxies3]", "tasks: [stars]")], "task 'stars' is not known; choose one of c"),
        ([("{two: one}", "{two: three}")], "arm 'three' is not known; choose one of one, two"),
        ([("stage: low, ", "")], "part 2 of the order does not say its stage; add it"),
        ([("seeds: [1, 2]", "seed: [1, 2]")], "part 2 .* says 'seed', which is not known; choose"),
        ([("pixels: 64", "pixel: 64")], "profile gpu says 'pixel', .* choose one of model, pixels"),
        ([("cpu: {model: astroformer_pico}", "cpu: {steps: 5}")], "cpu does not say its model"),
        ([("title: One, ", "")], "arm one does not say its title; add it"),
        ([("question: Which is better?\n", "")], "does not say its question; a design needs it"),
        ([("arms:\n", "arms: [\n")], "mine.yml is not YAML .*; repair it"),
    ],
)
def test_what_a_design_cannot_mean_is_one_line_with_the_choices(written, changes, words):
    with pytest.raises(ValueError, match=words) as error:
        written(WRITTEN, *changes)
    assert "\n" not in str(error.value)


def test_names_that_are_not_there_are_answered_with_those_that_are(written):
    one = written()
    for call, words in (
        (lambda: one.profile("tpu"), "study mine: profile 'tpu' is not known; choose one of cpu, "),
        (lambda: one.arm("x"), "study mine: arm 'x' is not known; choose one of one, two$"),
        (lambda: design.read("yours"), "study 'yours' has no design; there are mine$"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("name", ["few_images", "stability", "augmentation"])
def test_a_stage_that_is_not_known_is_answered_with_those_that_are(name):
    from dataclasses import replace

    from astroformer.studies.price import Pretended

    one = design.read(name)
    other = replace(one, order=(replace(one.order[0], stage="lowest"),))
    with pytest.raises(ValueError, match=f"study {name}: stage 'lowest' is not known; choose one"):
        MODULES[name].cells(other, one.profile("cpu"), Pretended())


# When it was written


def git(folder, *words):
    who = ["-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_the_commit_is_that_of_the_file_as_it_is_now(written, tmp_path):
    one = written()
    assert design.commit(one) is None  # no repository
    git(tmp_path, "init", "-q")
    assert design.commit(one) is None  # not in it yet
    git(tmp_path, "add", "mine.yml")
    git(tmp_path, "commit", "-qm", "A design")
    first = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "other").write_text("another file")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-qm", "Another file")
    assert design.commit(one) == first
    assert design.commit(written(WRITTEN, ("tier: 1", "tier: 3"))) is None
    assert design.commit(written()) == first
    # the oldest commit that a shallow clone has is not the one that wrote the file
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tmp_path}", "shallow")
    design.STUDIES = tmp_path / "shallow"
    assert design.commit(design.read("mine")) is None


def test_without_git_no_commit_is_named(written, tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    one = written()
    git(tmp_path, "add", "mine.yml")
    git(tmp_path, "commit", "-qm", "A design")
    assert design.commit(one)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert design.commit(one) is None


def test_records_of_another_state_of_the_file_are_counted(written):
    one = written()
    told = [("mine", one.digest), ("mine", "0" * 12), ("mine", "0" * 12), ("mine", "1" * 12)]
    known = [{"study": {"name": name, "design": digest}} for name, digest in told]
    known += [{"study": {"name": "yours", "design": "2" * 12}}, {}, {"study": None}]
    assert design.changes(one, known) == {"0" * 12: 2, "1" * 12: 1}
    assert design.changes(one, known[:1]) == {}
    assert design.changes(one, [{"study": {"name": "mine"}}]) == {"an unknown state": 1}
    # tuning comes before the confirmatory runs, and may change the design
    early = {"study": {"name": "mine", "design": "0" * 12, "stage": "tuning"}}
    assert design.changes(one, [early]) == {}


def test_designs_of_the_book_are_found_in_the_checkout():
    assert design.STUDIES == paths.BOOK / "studies"
    assert {"few_images", "stability", "augmentation"} <= set(design.names())
