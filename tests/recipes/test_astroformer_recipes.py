"""The third of Astroformer's recipes: what others read in the paper, its optimizer step by step,
and resuming with the same bits.
"""

import torch
from timm.optim import create_optimizer_v2

from astroformer.recipes import OURS, RECIPES, get_recipe
from astroformer.training import Run, checkpoint, fit

CPU = torch.device("cpu")


def test_the_reading_of_the_paper_differs_from_the_readme_in_what_it_names_and_nothing_else():
    readme, paper = RECIPES["readme"].canonical(), RECIPES["paper"].canonical()
    differing = {name: paper[name] for name in paper if readme.get(name) != paper[name]}
    assert differing == {
        "sampling": "stratified",
        "optimizer": "lookahead_radam",
        "drop_rate": 0.0,
        "drop_path_rate": 0.2,
    }
    assert OURS["paper"] == ("drop_path_rate",)


def test_values_marked_ours_are_fields_in_which_a_recipe_leaves_the_readme():
    for name, fields in OURS.items():
        assert all(
            getattr(RECIPES[name], field) != getattr(RECIPES["readme"], field) for field in fields
        )


def test_lookahead_with_radam_is_torchs_radam_pulled_half_way_back_every_sixth_step():
    """The slow weights begin with the fast ones of the sixth step."""
    torch.manual_seed(0)
    weights = torch.nn.Linear(5, 3)
    expected = [parameter.detach().clone().requires_grad_() for parameter in weights.parameters()]
    optimizer = create_optimizer_v2(weights, opt="lookahead_radam", lr=0.05, weight_decay=0.1)
    # timm spares biases
    groups = [
        {"params": [expected[0]], "weight_decay": 0.1},
        {"params": [expected[1]], "weight_decay": 0.0},
    ]
    radam, slow = torch.optim.RAdam(groups, lr=0.05), None
    for step in range(1, 20):
        x = torch.randn(4, 5)
        for parameters, stepped in ((list(weights.parameters()), optimizer), (expected, radam)):
            stepped.zero_grad()
            (torch.nn.functional.linear(x, *parameters) ** 3).sum().backward()
            stepped.step()
        if step % 6 == 0:
            with torch.no_grad():
                fast = [parameter.clone() for parameter in expected]
                slow = [a + 0.5 * (b - a) for a, b in zip(slow, fast)] if slow else fast
                for parameter, value in zip(expected, slow):
                    parameter.copy_(value)
        for parameter, value in zip(weights.parameters(), expected):
            torch.testing.assert_close(parameter, value)


def test_the_recipe_learns_and_a_run_stopped_between_two_lookaheads_ends_with_the_same_bits(
    tiny_folder, tmp_path, monkeypatch
):
    recipe = get_recipe(
        "paper",
        epochs=3,
        warmup_epochs=0,
        batch_size=12,
        micro_batch_size=0,
        learning_rate=3e-3,
        crop="none",
        mixup=0.0,
        color_jitter=0.0,
    )
    run = Run(
        model="vit_cifar",
        dataset="folder",
        data_dir=str(tiny_folder),
        image_size=32,
        recipe=recipe,
        options=(("depth", 2), ("dim", 48), ("heads", 4), ("mlp_hidden", 48)),
    )
    ended = []
    # 4 steps an epoch, Lookahead at 6 and 12
    for folder, stops in (("whole", [None]), ("parts", [2, 7, 8, 11, None])):
        monkeypatch.setenv("ASTROFORMER_RUNS", str(tmp_path / folder / "runs"))
        monkeypatch.setenv("ASTROFORMER_LOCAL_LEDGER", str(tmp_path / folder / "ledger"))
        for stop in stops:
            fitted = fit(run, device=CPU, stop_after=stop, report=lambda line: None)
            if stop == 11:
                stopped = checkpoint.read(fitted.weights)
        ended.append((fitted.record, checkpoint.read(fitted.weights)))
    (whole, before), (parts, after) = ended
    assert (
        whole["resumed_from"] is None
        and parts["resumed_from"] == 11
        and after["history"] == before["history"]
    )
    assert all(
        torch.equal(value, before["weights"][key]) for key, value in after["weights"].items()
    )
    kept = [state["lookahead_slow_buff"] for state in stopped["optimizer"]["state"].values()]
    assert kept and {group["lookahead_step"] for group in stopped["optimizer"]["param_groups"]} == {
        11
    }
    assert after["optimizer"] is None  # of a finished run the weights are kept alone
    assert whole["history"][-1]["train_loss"] < whole["history"][0]["train_loss"]
