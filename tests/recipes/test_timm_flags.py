"""timm's flags as a recipe: the README's command is the recipe `readme`, timm's rules and
defaults, and what has no effect.
"""

from dataclasses import asdict

import pytest

from astroformer import cli
from astroformer.recipes import RECIPES, get_recipe, parse_changes
from astroformer.recipes.timm_flags import FLAGS, NOTHING, README_COMMAND, read

README = [
    "--train-split",
    "train",
    "--val-split",
    "test",
    "--model",
    "astroformer_5",
    "--num-classes",
    "10",
    "--img-size",
    "256",
    "--in-chans",
    "3",
    "--input-size",
    "3",
    "256",
    "256",
    "--batch-size",
    "256",
    "--grad-accum-steps",
    "1",
    "--opt",
    "adamw",
    "--sched",
    "cosine",
    "--lr-base",
    "2e-5",
    "--lr-cycle-decay",
    "1e-2",
    "--lr-k-decay",
    "1",
    "--warmup-lr",
    "1e-5",
    "--epochs",
    "300",
    "--warmup-epochs",
    "5",
    "--mixup",
    "0.8",
    "--smoothing",
    "0.1",
    "--drop",
    "0.1",
    "--save-images",
    "--amp",
    "--amp-impl",
    "apex",
    "--output",
    "result_ours/astroformer_5_galaxy10",
    "--log-wandb",
]


def test_the_readmes_command_is_the_recipe_of_that_name_field_by_field():
    reading = read(["galaxy10", *README])
    assert asdict(reading.recipe) == asdict(RECIPES["readme"])
    assert asdict(read(README_COMMAND.split()).recipe) == asdict(RECIPES["readme"])
    assert reading.command() == (
        "astroformer train --model astroformer_5 --dataset folder "
        "--data-dir galaxy10 --image-size 256 "
        "--recipe readme"
    )


def test_the_command_that_pages_show_has_the_flags_of_the_readme():
    assert [word for word in README_COMMAND.split() if word.startswith("--")] == [
        word for word in README if word.startswith("--")
    ]


def test_every_flag_of_the_readme_decides_something_or_is_answered_with_why_not():
    warned = {warning.split()[0] for warning in read(README).warnings}
    for name in (word for word in README if word.startswith("--")):
        # --input-size says what --img-size would
        idle = FLAGS[name].decides == NOTHING or name == "--img-size"
        assert idle == (name in warned) and len(FLAGS[name].meaning) > 8
    assert {
        "--lr-cycle-decay",
        "--lr-k-decay",
        "--save-images",
        "--log-wandb",
        "--amp-impl",
        "--img-size",
    } <= warned
    assert not {"--lr-base", "--input-size", "--amp", "--drop"} & warned


@pytest.mark.parametrize(
    "words, rate",
    [
        ("--opt adamw --lr-base 2e-5 --gpus 1 --batch-size 128", 2e-5 * 0.5**0.5),
        ("--opt lamb --lr-base 0.1 --gpus 4 --batch-size 256", 0.2),
        ("--opt lookahead_radam --lr-base 0.1 --gpus 4 --batch-size 256", 0.2),
        ("--opt sgd --lr-base 0.1 --gpus 4 --batch-size 256", 0.4),
        ("--opt adamw --lr-base 0.1 --gpus 4 --batch-size 256 --lr-base-scale linear", 0.4),
        ("--opt lion --lr-base-size 512", 0.2),
        ("--lr-base 1 --grad-accum-steps 2 --gpus 1", 1.0),
        ("--lr 0.3 --lr-base 7", 0.3),
    ],
)
def test_the_rate_follows_timms_rule(words, rate):
    assert read(words.split()).recipe.learning_rate == pytest.approx(rate)


def test_flags_that_are_not_given_have_the_defaults_of_timms_script():
    recipe = read([]).recipe
    assert (recipe.optimizer, recipe.batch_size, recipe.learning_rate, recipe.weight_decay) == (
        "sgd",
        1024,
        0.4,
        2e-5,
    )
    assert (
        recipe.label_smoothing,
        recipe.color_jitter,
        recipe.hflip,
        recipe.mixup,
        recipe.precision,
    ) == (0.1, 0.4, 0.5, 0, "float32")


def test_a_command_line_becomes_settings_that_train_understands():
    reading = read(
        [
            "--opt",
            "adamw",
            "--aa",
            "rand-m9-mstd0.5-inc1",
            "--scale",
            "0.5",
            "1",
            "--clip-grad",
            "1",
            "--drop-path",
            "0.2",
            "--reprob",
            "0.25",
            "--cutmix",
            "1",
            "--amp",
            "--model-ema",
            "--gpus",
            "1",
            "-b",
            "64",
            "--min-lr",
            "1e-6",
            "--channels-last",
            "--vflip",
            "0.5",
            "--weight-decay",
            "0.05",
        ]
    )
    base, *settings = reading.command().split(" --set ")
    rebuilt = get_recipe("readme", **parse_changes(settings))
    assert base.endswith("--recipe readme") and rebuilt == reading.recipe
    assert (rebuilt.randaugment, rebuilt.color_jitter, rebuilt.crop_scale) == (
        "rand-m9-mstd0.5-inc1",
        0,
        (0.5, 1.0),
    )
    assert (rebuilt.ema_decay, rebuilt.micro_batch_size, rebuilt.cutout) == (0.9998, 0, 0.25)
    assert "--channels-last" in base.split()
    # as a record's command is made
    assert parse_changes(reading.recipe.name.split("+")[1:]) == parse_changes(settings)


@pytest.mark.parametrize(
    "words, name",
    [
        ("--lr 1 --lr-base-scale sqrt", "--lr-base-scale"),
        ("--model-ema-decay 0.99", "--model-ema-decay"),
        ("--no-aug --scale 0.5 1", "--scale"),
        ("--aa rand-m9 --color-jitter 0.2", "--color-jitter"),
        ("--cooldown-epochs 10", "--cooldown-epochs"),
    ],
)
def test_a_flag_that_another_one_switches_off_is_named(words, name):
    assert [
        warning
        for warning in read(words.split()).warnings
        if warning.startswith(f"{name} changes nothing here: ")
    ]


@pytest.mark.parametrize("mode", ["const", "rand", "pixel"])
def test_an_erased_rectangle_is_filled_as_the_command_says_and_by_default_with_noise(mode):
    assert read(["--reprob", "0.25", "--remode", mode]).recipe.erase_mode == mode
    assert read(["--reprob", "0.25"]).recipe.erase_mode == "pixel"
    [warning] = read(["--remode", mode]).warnings
    assert warning == "--remode changes nothing here: nothing is erased without --reprob"


def test_crops_are_interpolated_as_the_command_says_and_by_default_at_random():
    assert read(["--train-interpolation", "bilinear"]).recipe.interpolation == "bilinear"
    assert read([]).recipe.interpolation == "random"
    with pytest.raises(ValueError, match='interpolation="nearest" .* bicubic, bilinear, random'):
        read(["--train-interpolation", "nearest"])


def test_flags_of_speed_become_switches_of_the_command_and_no_part_of_the_recipe():
    fast = read(["--channels-last", "--torchcompile"])
    assert fast.recipe == read([]).recipe and not fast.warnings
    assert {"--channels-last", "--compile"} <= set(fast.command().split())
    assert not {"--channels-last", "--compile"} & set(read([]).command().split())


def test_images_are_normalised_as_the_network_was_described_as_timms_script_does():
    assert read([]).recipe.preprocessing == RECIPES["readme"].preprocessing == "network"


def test_augmentation_is_off_without_exception_where_timm_is_told_so():
    recipe = read(["--no-aug", "--aa", "rand-m9", "--hflip", "0.7"]).recipe
    assert (recipe.crop, recipe.hflip, recipe.color_jitter, recipe.randaugment) == (
        "none",
        0,
        0,
        "",
    )


@pytest.mark.parametrize(
    "words, message",
    [
        ("--lr-bse 1", "the nearest are --lr-base"),
        ("--zzz", "from-timm --help"),
        ("--epochs three", "--epochs: invalid int value"),
        ("--sched step", "schedules are cosines"),
        ("--lr-k-decay 2", "not bent"),
        ("--aa v0", "only RandAugment"),
        ("--gpus 0", "at least 1"),
        ("--in-chans 1", "three channels"),
        ("--input-size 3 256 224", "not a square"),
        ("--lr-base-scale cube", "linear or sqrt"),
    ],
)
def test_what_no_recipe_can_say_is_refused_in_one_line(words, message):
    with pytest.raises(ValueError, match=message) as error:
        read(words.split())
    assert "\n" not in str(error.value)


def test_the_command_lists_shows_compares_and_reads_recipes(capsys):
    assert cli.main(["recipe"]) == 0 and "methodology" in capsys.readouterr().out
    assert cli.main(["recipe", "paper"]) == 0
    shown = capsys.readouterr().out
    assert "issue #3" in shown and "lookahead_radam" in shown
    assert cli.main(["recipe", "diff", "readme", "paper", "--json"]) == 0
    assert '"sampling"' in capsys.readouterr().out
    assert cli.main(["recipe", "from-timm", *README]) == 0
    told = capsys.readouterr()
    assert (
        told.out.rstrip().endswith("--recipe readme")
        and "--save-images changes nothing here" in told.err
    )
    assert cli.main(["recipe", "nobody's"]) == 2 and "choose one of" in capsys.readouterr().err
    assert cli.main(["recipe", "diff", "readme"]) == 2 and "two recipes" in capsys.readouterr().err
