"""Malformed designs, profiles and words of a command, some of ten thousand malformed inputs: each
is understood, or refused in one line.
"""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from malformed import NUMBERS, STRANGE, TEXTS, VALUES, answered, in_time, many, spoiled

from astroformer import paths
from astroformer.cli.common import device_of
from astroformer.data import stretch
from astroformer.ledger import records
from astroformer.models import NAMES
from astroformer.models.options import default_options
from astroformer.recipes import RECIPES, get_recipe, parse_changes, timm_flags
from astroformer.recipes.recipe import Recipe
from astroformer.reproduce import Layout, read_book
from astroformer.reproduce.pages import read_profile
from astroformer.studies import design
from astroformer.studies.runner import Shard
from astroformer.training import Run, parse_option

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

# Designs of studies, profiles of pages


DESIGN = (design.STUDIES / "few_images.yml").read_bytes()
YAML = [
    b"!!timestamp x",
    b"a: !!int x",
    b"a: !!bool x",
    b"a: !!float ''",
    b"a: 2001-99-99",
    b"&a [*a]",
    b"{a: &a {b: *a}}",
    b"? [a]\n: b",
    b"[" * 5000,
    b"a: *b",
    b"\x07",
    b"!!python/object:os.system {}",
]


def changed_deep(draw, told):
    """The same with one of its values another."""
    kinds = dict if isinstance(told, dict) else list
    if not isinstance(told, dict | list) or not told or draw(st.integers(0, 3)) == 0:
        return draw(VALUES)
    keys = list(told) if kinds is dict else range(len(told))
    key = draw(st.sampled_from(keys))
    if draw(st.integers(0, 6)) == 0:
        rest = [one for one in keys if one != key]
        return {one: told[one] for one in rest} if kinds is dict else [told[one] for one in rest]
    inner = changed_deep(draw, told[key])
    if kinds is dict:
        return told | {key: inner}
    return [*told[:key], inner, *told[key + 1 :]]


@st.composite
def yaml_of(draw, content):
    how = draw(st.integers(0, 4))
    if how == 0:
        return draw(st.sampled_from(YAML) | st.sampled_from(STRANGE[:10]) | st.binary(max_size=60))
    if how == 1:
        return draw(spoiled(content))
    told = changed_deep(draw, yaml.safe_load(content))
    return yaml.safe_dump(told, allow_unicode=True).encode(errors="surrogatepass")


@many("designs")
@given(content=yaml_of(DESIGN))
def test_any_design_of_a_study_is_read_or_refused_by_its_file(tmp_path, content):
    path = tmp_path / "few_images.yml"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(design, "STUDIES", tmp_path)
        design._read.cache_clear()
        found = answered(design.read, "few_images")
    design._read.cache_clear()
    if found is not None:
        with in_time():
            assert all(isinstance(part.tier, int) for part in found.order)
            for name in found.profiles:
                found.parts(found.profile(name))


PAGES = read_book(Layout())
PROFILES = Layout().profiles.read_bytes()


@many("profiles")
@given(content=yaml_of(PROFILES), name=st.sampled_from(["smoke", "gpu", "paper", "x", ""]))
def test_any_file_of_profiles_is_read_or_refused(tmp_path, content, name):
    layout = Layout()
    layout.profiles = tmp_path / "profiles.yml"
    layout.profiles.write_bytes(content)
    answered(read_profile, layout, PAGES, name)


# Words of a command


FIELDS = [*Recipe.__dataclass_fields__]
VALUES_AS_WORDS = (
    TEXTS | NUMBERS.map(str) | st.sampled_from(["true", "1,2", "(1,2)", "0.2,1.0", ","])
)


@many("settings")
@given(
    name=st.sampled_from([*RECIPES, "x"]),
    words=st.lists(
        st.tuples(
            st.sampled_from([*FIELDS, "x", ""]), st.sampled_from(["=", "", "=="]), VALUES_AS_WORDS
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_any_setting_of_a_recipe_makes_a_recipe_or_is_refused(name, words):
    def made():
        changes = parse_changes([f"{field}{equals}{value}" for field, equals, value in words])
        return get_recipe(name, **changes)

    found = answered(made)
    assert found is None or isinstance(found, Recipe)


@many("shards")
@given(words=st.tuples(VALUES_AS_WORDS, st.sampled_from(["/", "", "//", "\\"]), VALUES_AS_WORDS))
def test_any_shard_is_a_part_or_refused(words):
    found = answered(Shard.parse, "".join(words))
    assert found is None or 0 <= found.index < found.of


@many("options")
@given(data=st.data(), model=st.sampled_from([*NAMES, "x"]))
def test_any_option_of_a_network_is_taken_or_refused(data, model):
    names = [*default_options(model)] if model in NAMES else []
    name = data.draw(st.sampled_from([*names, "num_classes", "x", ""]))
    value = data.draw(VALUES_AS_WORDS | st.sampled_from(["0", "-3", "none", "1,1,1,1", "CCTT"]))

    def made():
        return Run(
            model=model,
            dataset="galaxies",
            recipe=RECIPES["smoke"],
            options=(parse_option(f"{name}={value}"),),
        )

    found = answered(made)
    assert found is None or isinstance(found, Run)


FLAGS = sorted({word for word in timm_flags.README_COMMAND.split() if word.startswith("--")})


@many("flags")
@given(
    words=st.lists(st.sampled_from([*FLAGS, "x", "--", "-b", "8"]) | VALUES_AS_WORDS, max_size=6)
)
def test_any_command_of_timm_is_read_or_refused(words):
    answered(timm_flags.read, words)


@many("words")
@given(text=VALUES_AS_WORDS, other=VALUES_AS_WORDS)
def test_any_stretch_device_and_name_is_known_or_refused(text, other):
    answered(stretch.canonical, text)
    answered(stretch.canonical, f"percentile:{text},{other}")
    answered(device_of, text)
    answered(device_of, f"cuda:{text}")
    answered(records.named, text, paths.LEDGER)
