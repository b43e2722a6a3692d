"""SpectFormer's recipes, from its README's commands and the defaults of the scripts that they call
(DeiT's, by way of GFNet).

spectformer           `main_spectformer.py --arch spectformer-xs --batch-size 128` on 8 GPUs,
                      ImageNet-1k at 224 pixels:
                      `astroformer train --model spectformer_xs --dataset imagenet1k --data-dir
                      ILSVRC2012 --recipe spectformer`
                      - learning rate 5e-4 x batch x GPUs / 512, so 1e-3 for 8 x 128; warm-up rate
                        and floor are not scaled;
                      - stochastic depth is the network's: 0 for ti and xs, `--set
                        drop_path_rate=0.15` for s, 0.25 for b;
                      - `--color-jitter 0.4` does nothing beside RandAugment (timm applies either),
                        random erasing is off;
                      - 10 cool-down epochs are asked for and never run: the loop ends after
                        `--epochs`.
                      Published (README, model zoo; one run each): ti 76.9 %, xs 80.2 %, s 81.7 %, b
                      82.1 % top-1. The logs end at epoch 319 of 320, the command trains 300. GPU
                      hours: not published.
spectformer_384       `--input-size 384 --batch-size 64 --lr 5e-6 --min-lr 5e-6 --weight-decay 1e-8
                      --epochs 30 --finetune MODEL`: `... --recipe spectformer_384 --image-size 384
                      --init MODEL` Its network stays in evaluation mode while it is fine-tuned,
                      which here leaves out stochastic depth alone; so the recipe has none.
                      Published: no number is tied to it.
spectformer_transfer  `main_spectformer_transfer.py --data-set CARS --batch-size 64 --epochs 1000
                      --lr 0.0001 --weight-decay 1e-4 --clip-grad 1 --warmup-epochs 5 --finetune
                      MODEL` for CIFAR-10, CIFAR-100, Flowers-102 and Stanford Cars: `... --dataset
                      cifar10 --image-size 224 --recipe spectformer_transfer --init MODEL` The
                      released script never passes the number of classes, so that it fails on all
                      but 1000. Here the classifier is made for the classes at hand. Published: the
                      README gives no number.
spectformer_h         `hierarchical_architecture/main.py --config
                      configs/spectformer/spectformer_s.py --epochs 310 --batch-size 128
                      --token-label --token-label-size 7` on 8 GPUs:
                      `astroformer train --model spectformer_h_s --model-option token_label=true
                      --recipe spectformer_h ...`
                      - with token labels Mixup and CutMix are off (the network mixes maps itself)
                        and gradients are not clipped;
                      - a quarter of the images has a rectangle of noise in it (`--reprob 0.25`,
                        whose `--remode` is "pixel" by default);
                      - stochastic depth 0.1 for h_s and h_b, `--set drop_path_rate=0.3` for h_l;
                      - repeated augmentation is on in the release and left out here.
                      Published: h_s 84.3 %, h_b 85.0 %, h_l 85.7 % top-1, with labels of each
                      position from a stronger teacher (EfficientNet-L2). Here every position is
                      labelled with its image's class: the teacher's labels are a download of tens
                      of gigabytes, and `token_label_loss` takes them.

All of them normalise images, and cut them to be evaluated, as the network was described to timm:
ImageNet's mean and deviation, bicubic, the middle 0.9 of the shorter side (0.96 for spectformer_h).

Deviations from all: the learning rate moves with every step; the release sets it after each epoch,
to the value of the epoch that ended, so its first two epochs run at the warm-up rate. bfloat16
stands for float16 with a scaled loss. The last epoch is reported.
"""

from astroformer.recipes.recipe import Recipe, replace

SPECTFORMER = Recipe(
    name="spectformer",
    source="SpectFormer README, section ImageNet, and defaults of main_spectformer.py",
    values="published",
    epochs=300,
    batch_size=8 * 128,
    optimizer="adamw",
    learning_rate=5e-4 * 8 * 128 / 512,
    warmup_epochs=5,
    warmup_learning_rate=1e-6,
    final_learning_rate=1e-5,
    weight_decay=0.05,
    clip_grad=1.0,
    label_smoothing=0.1,
    mixup=0.8,
    cutmix=1.0,
    crop="random-resized",
    crop_scale=(0.08, 1.0),
    hflip=0.5,
    randaugment="rand-m9-mstd0.5-inc1",
    interpolation="bicubic",
    preprocessing="network",
)

SPECTFORMER_384 = replace(
    SPECTFORMER,
    name="spectformer_384",
    source="SpectFormer README, section ImageNet, fine-tuning at 384 pixels",
    values="published",
    epochs=30,
    batch_size=8 * 64,
    learning_rate=5e-6 * 8 * 64 / 512,
    final_learning_rate=5e-6,
    weight_decay=1e-8,
)

SPECTFORMER_TRANSFER = replace(
    SPECTFORMER,
    name="spectformer_transfer",
    source="SpectFormer README, section Transfer Learning Datasets",
    values="published",
    epochs=1000,
    batch_size=8 * 64,
    learning_rate=1e-4 * 8 * 64 / 512,
    weight_decay=1e-4,
)

SPECTFORMER_H = replace(
    SPECTFORMER,
    name="spectformer_h",
    source="SpectFormer's hierarchical_architecture: main.sh, configs, defaults of main.py",
    values="published",
    epochs=310,
    mixup=0.0,
    cutmix=0.0,
    cutout=0.25,
    erase_mode="pixel",
    clip_grad=0.0,
    drop_path_rate=0.1,
)

RECIPES = (SPECTFORMER, SPECTFORMER_384, SPECTFORMER_TRANSFER, SPECTFORMER_H)
