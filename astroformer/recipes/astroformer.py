"""Astroformer's recipes, as three texts give them: the README's command, the methodology notes, the
paper as others read it.

readme       README, section "Training": "exactly the settings we used for Galaxy10 DECals as well",
             8 GPUs x 256 images at 256 pixels, `distributed_train.sh 8 ... --lr-base 2e-5 --sched
             cosine --epochs 300 ...`. Under timm's rules (`timm_flags.py` reads any such command):
             - the learning rate is lr_base x sqrt(global batch / 256) for AdamW, with a global
               batch of 8 x 256;
             - weight decay is timm's default 2e-5; stochastic depth and RandAugment are off; no
               EMA;
             - augmentation is timm's default: random-resized crop 0.08-1, bilinear or bicubic at
               random, horizontal flip, colour jitter 0.4;
             - images are normalised, and cut to be evaluated, as the network was described to timm:
               ImageNet's mean and deviation, bicubic, the middle 0.95 of the shorter side;
             - --lr-cycle-decay and --lr-k-decay 1 do nothing with a single cycle, --save-images and
               --log-wandb nothing at all.
             Published: 94.81 % (astroformer_5, Galaxy10 DECals), one run. GPU hours: not published.
             Deviations: the released train.py never passes the image size to the network, so its
             command fails at 256 pixels; here it is passed. BatchNorm sees 256 images, as on each
             of the 8 GPUs. The last epoch is reported where the release takes the best on its
             validation split. bfloat16 autocast stands for apex's float16. The learning rate moves
             with every step; timm's train.py changes it between epochs unless told
             --sched-on-updates.
methodology  The methodology notes, section 4 and "Going to use": Mixup, RandAugment, stochastic
             depth, weight decay, label smoothing; no CutMix, DropBlock or Cutout. The notes give no
             values. Those that the README gives are kept; the others (OURS) are timm's usual ones
             for networks of this family. Published: no number is tied to this text.
paper        The paper by the public issue #3 of the released repository (2024-05-16), whose author
             read it beside the code: stratified sampling "due to the limited number of labeled
             images for certain classes", stochastic depth and Lookahead with RAdam, where the code
             has timm's loader, none and AdamW; and no dropout, which the code has. The issue gives
             no values; those of the README are kept, the others (OURS) are timm's usual ones.
             - every batch has the classes in the data's proportions. Who reads "stratified" as "all
               classes alike": `--set sampling=balanced`;
             - timm's `lookahead_radam` is its Lookahead (every 6 steps, half the way) around
               torch.optim.RAdam, so "the one in timm" and "the one in torch" are one code. The slow
               weights begin where the fast ones are at the sixth step;
             - weight decay is an L2 term of the gradient, as RAdam has it; decoupled: `--set
               optimizer=lookahead_radamw`;
             - timm's rule gives the README's learning rate, since "radam", too, has "ada" in its
               name.
             Published: the issue's author did not reach the paper's accuracies, with this recipe or
             with the code's, and gives no number. Deviations: as readme. Lookahead is not
             synchronised before the evaluation.
"""

from math import sqrt

from astroformer.recipes.recipe import Recipe, replace

README = Recipe(
    name="readme",
    source="Astroformer README, section Training, read under timm's rules",
    values="published",
    epochs=300,
    batch_size=8 * 256,
    micro_batch_size=256,
    optimizer="adamw",
    learning_rate=2e-5 * sqrt(8 * 256 / 256),
    warmup_epochs=5,
    warmup_learning_rate=1e-5,
    final_learning_rate=0.0,
    weight_decay=2e-5,
    label_smoothing=0.1,
    drop_rate=0.1,
    mixup=0.8,
    crop="random-resized",
    crop_scale=(0.08, 1.0),
    hflip=0.5,
    color_jitter=0.4,
    interpolation="random",
    erase_mode="pixel",
    preprocessing="network",
)

METHODOLOGY = replace(
    README,
    name="methodology",
    source="Astroformer methodology notes, section 4; values marked ours where the notes give none",
    weight_decay=0.05,
    drop_path_rate=0.2,
    randaugment="rand-m9-mstd0.5-inc1",  # timm's usual words
    color_jitter=0.0,  # RandAugment changes colours already
    clip_grad=1.0,
)

PAPER = replace(
    README,
    name="paper",
    source="the paper as issue #3 of Rishit-dagli/Astroformer reads it; "
    "values marked ours where it gives none",
    sampling="stratified",
    optimizer="lookahead_radam",
    drop_rate=0.0,
    drop_path_rate=0.2,
)

RECIPES = (README, METHODOLOGY, PAPER)
# Fields whose values no document gives.
OURS = {
    "methodology": ("weight_decay", "drop_path_rate", "randaugment", "color_jitter", "clip_grad"),
    "paper": ("drop_path_rate",),
}
