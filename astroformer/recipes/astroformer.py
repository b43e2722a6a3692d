"""Astroformer's recipes as its author gives them: the README's command and the methodology notes. They are two recipes.

readme       README, section "Training": "exactly the settings we used for Galaxy10 DECals as well", 8 GPUs x 256 images
             at 256 pixels, `distributed_train.sh 8 ... --lr-base 2e-5 --sched cosine --epochs 300 ...`. Under timm's rules:
             - the learning rate is lr_base x sqrt(global batch / 256) for AdamW, with a global batch of 8 x 256;
             - weight decay is timm's default 2e-5; stochastic depth and RandAugment are off; no EMA;
             - augmentation is timm's default: random-resized crop 0.08-1, horizontal flip, colour jitter 0.4;
             - --lr-cycle-decay and --lr-k-decay 1 do nothing with a single cycle, --save-images and --log-wandb nothing at all.
             Published: 94.81 % (astroformer_5, Galaxy10 DECals), one run. GPU hours: not published.
             Deviations: the released train.py never passes the image size to the network, so its command fails at 256
             pixels; here it is passed. BatchNorm sees 256 images, as on each of the 8 GPUs. The last epoch is reported
             where the release takes the best on its validation split. bfloat16 autocast stands for apex's float16.
methodology  The methodology notes, section 4 and "Going to use": Mixup, RandAugment, stochastic depth, weight decay, label
             smoothing; no CutMix, DropBlock or Cutout. The notes give no values. Those that the README gives are kept;
             the others (marked "ours") are timm's usual ones for networks of this family.
             Published: no number is tied to this text.
"""

from math import sqrt

from astroformer.recipes.recipe import Recipe, replace

README = Recipe(
    name="readme", source="Astroformer README, section Training, read under timm's rules",
    epochs=300, batch_size=8 * 256, micro_batch_size=256,
    optimizer="adamw", learning_rate=2e-5 * sqrt(8 * 256 / 256), warmup_epochs=5, warmup_learning_rate=1e-5,
    final_learning_rate=0.0, weight_decay=2e-5,
    label_smoothing=0.1, drop_rate=0.1, mixup=0.8,
    crop="random-resized", crop_scale=(0.08, 1.0), hflip=0.5, color_jitter=0.4)

METHODOLOGY = replace(
    README, name="methodology", source="Astroformer methodology notes, section 4; values marked ours where the notes give none",
    weight_decay=0.05,                     # ours
    drop_path_rate=0.2,                    # ours
    randaugment="rand-m9-mstd0.5-inc1",    # ours: timm's usual words
    color_jitter=0.0,                      # ours: RandAugment changes colours already
    clip_grad=1.0)                         # ours

RECIPES = (README, METHODOLOGY)
