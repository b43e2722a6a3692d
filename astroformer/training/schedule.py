"""The learning rate of a step, by the two schedules that the recipes name."""

import math

from astroformer.recipes import Recipe


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then a cosine over the whole length that joins it (timm's cosine without
    `warmup_prefix`), by step.
    """
    if recipe.schedule == "epoch":
        return rate_of_epoch(recipe, step // steps_per_epoch)
    if recipe.steps:
        warmup, total = recipe.warmup_part * recipe.steps, float(recipe.steps)
    else:
        warmup, total = recipe.warmup_epochs * steps_per_epoch, recipe.epochs * steps_per_epoch
    if step < warmup:
        return (
            recipe.warmup_learning_rate
            + (recipe.learning_rate - recipe.warmup_learning_rate) * step / warmup
        )
    cosine = 0.5 * (1 + math.cos(math.pi * step / total))
    return recipe.final_learning_rate + (recipe.learning_rate - recipe.final_learning_rate) * cosine


def rate_of_epoch(recipe: Recipe, epoch: int) -> float:
    """As ViT-CIFAR's release steps GradualWarmupScheduler
    (github.com/ildoonet/pytorch-gradual-warmup-lr) and PyTorch's cosine, once an epoch. The first
    epoch, 0, runs at warmup_learning_rate; the full rate lasts for two, the second of which is
    where the cosine begins. Its half period is as long as the run, so the last epoch is that much
    short of final_learning_rate.
    """
    warmup = int(recipe.warmup_epochs)
    if epoch <= warmup:
        return (
            recipe.warmup_learning_rate
            + (recipe.learning_rate - recipe.warmup_learning_rate) * epoch / warmup
        )
    cosine = 0.5 * (1 + math.cos(math.pi * (epoch - warmup - 1) / recipe.epochs))
    return recipe.final_learning_rate + (recipe.learning_rate - recipe.final_learning_rate) * cosine
