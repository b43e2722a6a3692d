"""Every flag of timm's train.py has its answer: what it becomes, that it changes nothing, or that
it cannot be done; and the printed line is one that `astroformer train` reads.
"""

import re
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astroformer import cli, paths
from astroformer.recipes import get_recipe, parse_changes
from astroformer.recipes.timm_flags import read
from astroformer.recipes.timm_table import ALIASES, CANNOT, FLAGS, NOTHING, OLDER, VERSION

# The option strings of train.py's parsers as of timm VERSION, in alphabetical order.
OPTIONS = """
--aa --amp --amp-dtype --asl-clip --asl-gamma-neg --asl-gamma-pos --asl-reduction --aug-repeats
--aug-splits --batch-size --bce-loss --bce-pos-weight --bce-sum --bce-target-thresh --bn-eps
--bn-momentum --channels-last --checkpoint-hist --class-map --class-stats --clip-grad
--clip-mode --color-jitter --color-jitter-prob --config --cooldown-epochs --crop-pct --cutmix
--cutmix-minmax --data-dir --dataset --dataset-download --dataset-trust-remote-code
--db-focal-gamma --db-init-bias --db-neg-scale --decay-epochs --decay-milestones --decay-rate
--device --device-modules --dist-bn --distill-loss-weight --dr --drop --drop-block
--drop-connect --drop-path --epoch-repeats --epochs --eval-metric --experiment --fast-norm
--fuser --gaussian-blur-prob --gp --grad-accum-steps --grad-checkpointing --grayscale-prob
--head-init-bias --head-init-scale --hflip --img-size --in-chans --initial-checkpoint
--input-img-mode --input-key --input-size --interpolation --jsd-loss --kd-distill-type
--kd-loss-type --kd-model-name --kd-student-feature-dim --kd-teacher-feature-dim
--kd-temperature --kd-token-distill-type --layer-decay --layer-decay-min-scale
--layer-decay-no-opt-scale --local_rank --log-interval --log-wandb --loss --loss-class-weight
--loss-pos-weight --loss-weight-beta --loss-weight-max --loss-weight-power --lr --lr-base
--lr-base-scale --lr-base-size --lr-cycle-decay --lr-cycle-limit --lr-cycle-mul --lr-decay-fn
--lr-k-decay --lr-noise --lr-noise-pct --lr-noise-std --lr-stable-timescale --mean --min-lr
--mixup --mixup-mode --mixup-off-epoch --mixup-prob --mixup-switch-prob --model --model-dtype
--model-ema --model-ema-decay --model-ema-force-cpu --model-ema-force-fp32 --model-ema-warmup
--model-kwargs --momentum --multilabel-threshold --naflex-loader --naflex-loss-scale
--naflex-max-seq-len --naflex-patch-size-probs --naflex-patch-sizes
--naflex-patchify-channels-first --naflex-train-seq-lens --no-aug --no-ddp-bb
--no-persistent-workers --no-prefetcher --no-resume-opt --num-classes --opt --opt-betas
--opt-eps --opt-kwargs --output --patience-epochs --persistent-workers --pin-mem --poly-alpha
--poly-epsilon --poly-gamma --pretrained --pretrained-cfg-overlay --pretrained-path --ratio
--recount --recovery-interval --remode --reprob --resplit --resume --save-epochs --save-images
--scale --sched --sched-on-updates --seed --smoothing --split-bn --start-epoch --std
--stop-epoch --sweep-attempt --sweep-locks --sync-bn --synchronize-step --target-format
--target-key --task --task-loss-weight --torchcompile --torchcompile-mode --torchscript
--train-batch-sizes --train-batches-per-epoch --train-crop-mode --train-img-sizes
--train-interpolation --train-num-samples --train-size-probs --train-size-random-mix
--train-size-schedule --train-size-schedule-spread --train-split --train-steps-per-epoch --tta
--twoway-tn --twoway-tp --use-multi-epochs-loader --val-interval --val-num-samples --val-split
--validation-batch-size --variable-batch-loss-scale --vflip --wandb-project --wandb-resume-id
--wandb-tags --warmup-epochs --warmup-lr --warmup-prefix --weight-decay --worker-seeding
--workers -b -c -j -vb
"""
TRAIN_PY = OPTIONS.split()

WORDS = {int: "2", float: "0.25", str: "words", None: None}


def spoken(name):
    """A flag with a value of its type, where it takes one."""
    flag = FLAGS[name]
    if flag.kind is None or flag.values in ("?", "*"):
        return [name]
    return [name, *[WORDS[flag.kind]] * (flag.values if isinstance(flag.values, int) else 1)]


def test_the_table_is_of_the_locked_version():
    lock = (paths.ROOT / "requirements.lock").read_text()
    assert re.search(r"^timm==(\S+)", lock, re.MULTILINE)[1] == VERSION


def test_the_table_has_every_flag_of_train_py_and_no_other():
    spelled = {*FLAGS, *(name for names in ALIASES.values() for name in names)}
    assert set(TRAIN_PY) <= spelled
    ours = {"--gpus", "--local-rank", "-d"}  # the launcher's number; older spellings
    assert spelled - set(TRAIN_PY) == ours | set(OLDER)
    assert set(ALIASES) <= set(FLAGS) and len(TRAIN_PY) > 200


@pytest.mark.parametrize("name", [name for name in TRAIN_PY if name.startswith("--")])
def test_every_flag_is_answered_in_one_line(name):
    """By itself, with a value of its type: it is refused by its name, or decides something, or is
    warned of.
    """
    own = next((one for one, others in ALIASES.items() if name in others), name)
    words = [name, *spoken(own)[1:]]
    try:
        reading = read(words)
    except ValueError as error:
        assert "\n" not in str(error)
        named = str(error).startswith((f"{own} ", f"recipe readme: {FLAGS[own].decides}"))
        assert named or FLAGS[own].decides not in (NOTHING, CANNOT), str(error)
        return
    warned = [one for one in reading.warnings if one.startswith(f"{own} ")]
    empty = read([])
    if not warned and words[1:] and FLAGS[own].values != "*":
        changed = reading.recipe != empty.recipe or reading.options != empty.options
        assert changed and FLAGS[own].decides not in (NOTHING, CANNOT)
    for line in reading.warnings:
        assert "\n" not in line and len(line) > 20


@pytest.mark.parametrize("name", [one for one in FLAGS if FLAGS[one].decides == CANNOT])
def test_what_cannot_be_done_is_refused_unless_train_py_would_do_the_same(name):
    flag = FLAGS[name]
    beside = ["--mixup", "1", "--cutmix", "1", "--reprob", "1", "--clip-grad", "1"]
    words = spoken(name) if flag.values != "*" else [name, "key=value"]
    with pytest.raises(ValueError, match=f"^{name}.*leave it out") as refused:
        read([*beside, *words])
    assert flag.meaning in str(refused.value)
    for value in flag.only:
        said = map(str, value if isinstance(value, tuple) else [value])
        warnings = read([*beside, name, *said]).warnings
        assert any(line.startswith(f"{name} changes nothing here") for line in warnings)


def test_everything_that_cannot_be_done_is_named_at_once():
    with pytest.raises(ValueError) as refused:
        read(["--sched", "step", "--jsd-loss", "--aa", "v0", "--batch-size", "0"])
    said = str(refused.value)
    assert all(f"{name} " in said for name in ("--sched", "--jsd-loss", "--aa", "--batch-size"))
    assert "\n" not in said


SAFE = [
    name
    for name, flag in FLAGS.items()
    if flag.decides != CANNOT and not flag.only and flag.kind in (None, float, int)
]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(SAFE), unique=True, max_size=8), st.randoms())
def test_the_printed_line_is_read_by_train_and_means_the_same(names, random):
    words = [word for name in names for word in spoken(name)]
    try:
        reading = read(words)
    except ValueError as error:  # two flags that no recipe can have together
        assert "\n" not in str(error)
        return
    line = shlex.split(reading.command(image_size=64))
    options = cli.parser().parse_args(line[1:])
    rebuilt = get_recipe(options.recipe, **parse_changes(options.set))
    assert rebuilt.canonical() == reading.recipe.canonical()
    assert options.dataset == "folder" and options.data_dir == "ROOT"


# Command lines as they stand

# Astroformer's public issues #1 and #6 (github.com/Rishit-dagli/Astroformer)
ISSUE_1 = (
    "CUDA_VISIBLE_DEVICES=3 python train.py --dataset torch/cifar100 --data-dir "
    "pytorch-cifar100-master/data --model astroformer_3 --num-classes 100 --in-chans 3 "
    "--input-size 3 224 224 --batch-size 128 --grad-accum-steps 1 --opt adamw --sched cosine "
    "--lr-base 2e-5 --lr-cycle-decay 1e-2 --lr-k-decay 1 --warmup-lr 1e-5 --epochs 300 "
    "--warmup-epochs 5 --mixup 0.8 --smoothing 0.1 --drop 0.1 --amp --output "
    "/Astroformer-main/output"
)
ISSUE_6 = (
    "python train.py --dataset CIFAR100 --data-dir ../../data --train-split train --val-split test "
    "--model astroformer_0 --num-classes 100 --img-size {size} --in-chans 3 --input-size 3 {size} "
    "{size} --batch-size 64 --grad-accum-steps 1 --opt adamw --sched cosine --lr-base 2e-5 "
    "--lr-cycle-decay 1e-2 --lr-k-decay 1 --warmup-lr 1e-5 --epochs 300 --warmup-epochs 5 "
    "--mixup 0.8 --smoothing 0.1 --drop 0 --save-images --output result_ours/astroformer_0 "
    "--log-wandb"
)


@pytest.mark.parametrize(
    "line, expected",
    [
        (
            ISSUE_1,
            "astroformer train --model astroformer_3 --dataset cifar100 --data-dir "
            "pytorch-cifar100-master/data --image-size 224 --recipe readme --set batch_size=128 "
            "--set micro_batch_size=0 --set learning_rate=1.4142135623730953e-05",
        ),
        *(
            (
                ISSUE_6.format(size=size),
                "astroformer train --model astroformer_0 --dataset cifar100 --data-dir ../../data "
                f"--image-size {size} --recipe readme --set batch_size=64 "
                "--set micro_batch_size=0 --set learning_rate=1e-05 --set drop_rate=0.0 "
                "--set precision=float32",
            )
            for size in (32, 224)
        ),
    ],
)
def test_the_commands_of_the_issues_are_read_as_they_stand(line, expected, capsys):
    broken = re.sub(r" (--)", r" \\\n   \1", line)  # over several lines
    for words in (shlex.split(line), [line], [broken], [broken.replace("\n", "\r\n")]):
        assert cli.main(["recipe", "from-timm", *words]) == 0
        told = capsys.readouterr()
        assert told.out.rstrip().splitlines()[-1] == expected
        assert "--gpus is not given" not in told.err


@pytest.mark.parametrize(
    "launcher, processes",
    [
        ("", None),
        ("python train.py", 1),
        ("python3 -u ./train.py", 1),
        ("$ python train.py", 1),
        ("!python train.py", 1),
        ("nohup python train.py", 1),
        ("OMP_NUM_THREADS=4 CUDA_VISIBLE_DEVICES=0,1 python train.py", 1),
        ("./distributed_train.sh 4", 4),
        ("sh distributed_train.sh 8", 8),
        ("bash pytorch-image-models/distributed_train.sh 2", 2),
        ("cd timm && ./distributed_train.sh 3", 3),
        ("export A=1; torchrun --nproc_per_node=4 train.py", 4),
        ("torchrun --standalone --nproc-per-node 4 train.py", 4),
        ("torchrun --nnodes=2 --nproc_per_node=8 train.py", 16),
        ("CUDA_VISIBLE_DEVICES=0,1,2 torchrun --nproc_per_node=gpu train.py", 3),
        ("python -m torch.distributed.launch --nproc_per_node=2 --master_port 29 train.py", 2),
        ("accelerate launch --num_processes 4 train.py", 4),
        ("srun -n 6 python train.py", 6),
    ],
)
@pytest.mark.parametrize("behind", ["", " > log.txt 2>&1 &", " 2>&1 | tee log.txt"])
def test_a_launcher_says_how_many_processes_there_are(launcher, processes, behind):
    line = f"{launcher} '/my data' --model vit_cifar -b 32 --opt adamw{behind}"
    reading = read([line])
    assert reading.processes == processes
    assert reading.recipe.batch_size == 32 * (processes or 8)
    assert "--data-dir '/my data'" in reading.options and reading.model == "vit_cifar"
    assert read([f"{line.removesuffix(behind)} --gpus 5"]).recipe.batch_size == 160


def test_variables_of_the_shell_are_put_in_where_they_are_known(monkeypatch):
    monkeypatch.setenv("IMAGES", "/my data")
    line = "python train.py --data-dir $IMAGES/a --model ${NOBODYS}"
    assert read([line]).options == "--model '${NOBODYS}' --dataset folder --data-dir '/my data/a'"


@pytest.mark.parametrize(
    "line, said",
    [
        ("torchrun --nproc_per_node=gpu train.py --model vit_cifar", "--gpus N"),
        ("./distributed_train.sh $N /data --model vit_cifar", "--gpus N"),
        ("python train.py --model 'vit_cifar", "cannot be split"),
        ("python train.py --modle vit_cifar", "the nearest are --model"),
        ("python train.py one two --model vit_cifar", "'two' is not a flag"),
    ],
)
def test_a_line_that_cannot_be_read_says_what_is_missing(line, said):
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        read([line])
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name, ours",
    [
        ("", "folder"),
        ("torch/image_folder", "folder"),
        ("torch/cifar100", "cifar100"),
        ("CIFAR10", "cifar10"),
        ("tfds/cifar10:3.0.2", "cifar10"),
        ("hfds/someone/CIFAR-100", "cifar100"),
        ("torch/imagenet", "imagenet1k"),
        ("tiny-imagenet-200", "tiny_imagenet"),
        ("torch/mnist", "mnist"),
    ],
)
def test_a_data_set_is_known_by_the_names_that_others_give_it(name, ours, capsys):
    words = ["--dataset", name, "--gpus", "1", "--input-size", "3", "32", "32"]
    assert read(words).dataset == ours
    assert cli.main(["recipe", "from-timm", *words]) == 0
    assert ("is not known here" in capsys.readouterr().err) == (ours == "mnist")


def test_the_size_of_images_is_the_one_that_train_py_would_take(capsys):
    def printed(*words):
        words = ("--model", "vit_cifar", "--gpus", "1", *words)
        assert cli.main(["recipe", "from-timm", *words]) == 0
        return capsys.readouterr().out.rstrip().splitlines()[-1].split()

    for words, size in (
        (("--input-size", "3", "64", "64", "--img-size", "48"), "64"),
        (("--img-size", "48"), "48"),
        ((), "32"),  # the network's own
    ):
        line = printed(*words)
        assert line[line.index("--image-size") + 1] == size
    assert "--image-size" not in read(["--model", "resnet50"]).options


def test_weights_options_and_the_rest_of_the_line_go_along():
    words = (
        "--initial-checkpoint 'my weights.pth' --model-kwargs stack=CCTT rel_bias=outside "
        "--seed 42 -j 8 --device cuda:1 --torchcompile --grad-checkpointing --channels-last"
    )
    options = cli.parser().parse_args(shlex.split(read([words]).command())[1:])
    assert options.init == "my weights.pth" and options.model_option == [
        "stack=CCTT",
        "rel_bias=outside",
    ]
    assert (options.seed, options.workers, options.device) == (42, 8, "cuda:1")
    assert options.compile and options.grad_checkpointing and options.channels_last


@pytest.mark.parametrize(
    "words, refused",
    [
        ("--opt adamw --opt-eps 1e-8 --opt-betas 0.9 0.999 --momentum 0.5", ""),
        ("--opt lamb --opt-eps 1e-6", ""),
        ("--opt lookahead_radam --opt-eps 1e-8", ""),
        ("--opt sgd --momentum 0.9", ""),
        ("--opt lamb --opt-eps 1e-8", "--opt-eps 1e-08"),
        ("--opt adamw --opt-betas 0.9 0.99", "--opt-betas 0.9 0.99"),
        ("--opt sgd --momentum 0.8", "--momentum 0.8"),
        ("--opt nobodys --opt-eps 1", "--opt nobodys is no optimizer"),
        ("--model astroformer_0 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225", ""),
        ("--model astroformer_0 --mean 0.5 0.5 0.5", "--mean 0.5 0.5 0.5"),
        ("--mean 0.485 0.456 0.406", "--mean"),
    ],
)
def test_what_a_network_or_an_optimizer_has_anyway_may_be_said(words, refused):
    if not refused:
        assert read([words]).warnings
        return
    with pytest.raises(ValueError, match=f"^{refused}"):
        read([words])


def test_synchronised_batchnorm_sees_the_batches_of_all_processes():
    for words, micro in (
        ("--gpus 4", 32),
        ("--gpus 4 --sync-bn", 0),
        ("--gpus 4 --sync-bn --grad-accum-steps 2", 128),
        ("--gpus 1 --grad-accum-steps 2", 32),
        ("--gpus 1", 0),
    ):
        assert read(["-b", "32", *words.split()]).recipe.micro_batch_size == micro
