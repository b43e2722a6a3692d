"""Each demonstration against the finding that it shows, and the list of findings itself."""

import math

import pytest

from astroformer.counting.cost import network_cost
from astroformer.ledger import claims
from astroformer.recipes import RECIPES
from astroformer.training.schedule import learning_rate
from astroformer.verdicts import demonstrations, findings


@pytest.fixture(scope="module")
def reported():
    return claims.read()


def test_every_finding_has_a_source_and_says_whether_it_is_shown():
    assert list(findings.FINDINGS) == list(range(1, 18))
    for finding in findings.FINDINGS.values():
        assert finding.source and finding.statement.endswith(".")
        assert finding.status == (
            "demonstrated here" if finding.shown else "reported by others, not checked here"
        )
        assert (
            finding.status in finding._repr_markdown_()
            and finding.source in finding._repr_markdown_()
        )
    assert len(findings.overview()) == 17
    assert not findings.FINDINGS[4].demonstrated and findings.FINDINGS[2].demonstrated


def test_1_the_release_is_timms_maxxvit():
    table = demonstrations.released_variants()
    assert (table["timm's MaxxVit"] == table["ours"]).all()
    assert (table["names and shapes"] == "the same").all() and len(table) == 6


def test_2_only_the_size_that_it_was_built_for_runs_and_our_error_says_what_to_do():
    table = demonstrations.image_sizes(pixels=(224, 64)).groupby("image")["what happens"].agg(list)
    assert table["224 x 224"] == ["runs"] * 2
    theirs, ours, told = table["64 x 64"]
    assert theirs.startswith("RuntimeError") and "49" in theirs  # the 7 x 7 grid of its bias table
    assert (
        ours.startswith("ValueError") and "img_size=(64, 64)" in ours and "set_input_size" in ours
    )
    assert told == "runs"


@pytest.mark.slow
def test_2_the_command_fits_no_gpu_of_its_time_without_checkpointing():
    table = demonstrations.memory_of_the_command()
    fits = table.pop("images at a time that fit 80 GB")
    assert (table["as printed"] > 80).all() and (table["with checkpointing"] < 80).all()
    assert 300 < table.loc["astroformer_5", "as printed"] < 350
    # what the trace of one image in evaluation keeps at 2 bytes a number, 256 times
    for name, row in table.iterrows():
        kept = network_cost(name, image_size=256, dtype_bytes=2)["activation_bytes"]
        assert row["activations of it"] == pytest.approx(256 * sum(kept.values()) / 1e9, rel=0.02)
        assert 256 % fits[name] == 0 and fits[name] < 256
        assert fits[name] / 256 * row["activations of it"] < 80
    assert fits.is_monotonic_decreasing


def test_3_the_rate_follows_the_root_of_the_global_batch():
    rates = demonstrations.learning_rates(((8, 256), (1, 128)))["learning rate"]
    assert [f"{rate:.2e}" for rate in rates] == ["5.66e-05", "1.41e-05"]


def test_3_two_options_of_the_command_change_no_rate_though_they_could():
    change = demonstrations.option_effects()["largest change of a rate"].tolist()
    assert change[:2] == [0, 0] and min(change[2:]) > 1e-5


def test_3_the_books_own_recipe_follows_timms_schedule():
    recipe = RECIPES["readme"]
    ours = [learning_rate(recipe, epoch, 1) for epoch in range(recipe.epochs)]
    assert ours == pytest.approx(demonstrations.timm_rates(recipe.epochs).tolist(), rel=1e-12)


def test_4_a_rerun_stands_beside_the_readme_only_where_it_names_the_same_model(reported):
    table = demonstrations.reruns(reported, "Astroformer").set_index("reported in")
    assert table.loc["issue #1", ["README (%)", "re-run (%)"]].tolist() == ["87.65", "78.46"]
    assert table.loc["issue #5", "README (%)"] == "unclear"
    assert demonstrations.reruns(reported, "ViT-CIFAR")["README (%)"].tolist() == ["90.92", "66.54"]


def test_5_the_printed_counts_lie_further_apart_than_classes_can_take_them(reported):
    table = demonstrations.params_by_dataset(reported)
    # none is the released network's count
    assert len(table) == 12 and (table["difference (M)"].abs() > 1).all()
    width = demonstrations.spread(table)
    assert (width["different prints"] >= 3).all() and (
        width["prints apart (M)"] > 10 * width["counts apart (M)"]
    ).all()


def test_7_the_sketch_is_no_identity_and_a_shift_on_a_torus_is_one():
    difference = demonstrations.proof_sketch()["largest difference"].tolist()
    assert difference[2] < 1e-14 and min(difference[0], difference[1], difference[3]) > 0.01


def test_8_the_logs_have_the_counted_parameters_and_one_row_of_the_readme_does_not(reported):
    table = demonstrations.spectformer_params(reported)
    assert table["counted"].tolist() == [9_158_376, 20_028_520, 32_449_768, 57_159_656]
    assert (table["log"] == table["counted"]).all()
    assert table.index[table["README prints the count"] == "no"].tolist() == ["spectformer_xs"]


def test_9_six_heads_split_384_channels_but_neither_256_nor_512():
    table = demonstrations.heads({"ti": (256, (6,)), "xs": (384, (6,)), "b": (512, (6, 8))})
    results = table["forward pass"].tolist()
    assert results[1] == results[3] == "runs"
    assert all(
        "RuntimeError" in text and "invalid for input of size" in text
        for text in (results[0], results[2])
    )


def test_10_no_single_choice_of_epoch_gives_all_digits_of_the_readme(reported):
    table = demonstrations.logs_beside_readme(reported)
    assert len(table) == 8
    digits = table["README's digits are"]
    assert (
        (digits == "best").any()
        and digits.str.fullmatch("last(, cut off)?").any()
        and not (digits == "neither").any()
    )


def test_11_the_transfer_scripts_loss_refuses_ten_classes():
    assert "RuntimeError" in demonstrations.transfer_refusals()["what happens"].iloc[0]


def test_13_the_command_of_eight_gpus_trains_at_twice_the_default():
    assert demonstrations.spectformer_rates(((8, 128),))["learning rate"].item() == pytest.approx(
        2 * 5e-4
    )


def test_14_the_released_scale_spreads_attention_over_more_keys():
    usual, released = (row for _, row in demonstrations.attention_scales().iterrows())
    assert usual["spread of logits"] / released["spread of logits"] == pytest.approx(
        math.sqrt(12), rel=1e-5
    )
    assert usual["keys, of 65"] < 0.7 * 65 and released["keys, of 65"] > 0.95 * 65
    assert demonstrations.lowest_gelu() == pytest.approx(-0.17, abs=1e-3)


def test_15_the_first_epoch_has_rate_0_and_the_last_is_above_the_announced_one():
    schedule = demonstrations.vit_cifar_schedule()
    rates = schedule["learning rate"]
    assert len(rates) == 200 and rates.iloc[0] == 0 and rates.max() == 1e-3
    last = schedule.iloc[-1]
    assert f"{last['learning rate']:.2e}" == "1.30e-05"
    # torch's recursion has the closed form of the cosine at that step
    step = last["steps of the cosine"]
    cosine = 0.5 * (1 + math.cos(math.pi * step / 200))
    assert step < 195 and last["learning rate"] == pytest.approx(
        1e-5 + (1e-3 - 1e-5) * cosine, rel=1e-9
    )


def test_16_the_floor_of_the_smoothed_loss_is_the_entropy_of_its_target():
    table = demonstrations.smoothing_floors()
    assert table["by minimising"].tolist() == pytest.approx(table["by formula"].tolist(), abs=1e-6)
    assert table["by formula"].iloc[0] == pytest.approx(
        -(0.9 * math.log(0.9) + 0.1 * math.log(0.1 / 9))
    )
    curves = demonstrations.smoothed_losses()
    assert (curves["smoothed"] >= curves["floor"] - 1e-12).all() and (
        curves["loss"] < curves["floor"]
    ).any()


def test_17_the_printed_time_is_a_fortieth_of_the_cards_peak(reported):
    share = demonstrations.v100_share(reported)
    assert round(share["parameters (M)"] * 1e6) == 6_268_810
    assert share["images a second"] == pytest.approx(1240, abs=1)
    assert share["share of the peak (%)"] == pytest.approx(2.5, abs=0.1)
