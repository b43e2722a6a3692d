"""What a recipe is: every hyper-parameter with its unit and its meaning. Zero or "" switches a
thing off.
"""

from dataclasses import asdict, dataclass, fields
from dataclasses import replace as _replace

# Fields younger than the first committed records. A run that leaves one at its default is the run
# that it was before the field existed, and keeps its hash; see `deciding`.
LATER = ("schedule", "decay_all", "smoothing_over", "autoaugment", "sampling")
SAMPLINGS = ("shuffled", "stratified", "balanced")  # see data.augment.order_of_epoch


@dataclass(frozen=True, kw_only=True)
class Recipe:
    name: str
    source: str  # document and section, or who chose the values

    epochs: int  # passes over the training images
    batch_size: int  # images per optimizer step, all ranks together
    # images per forward pass (BatchNorm sees that many); 0 means the whole batch
    micro_batch_size: int = 0
    # or "stratified": each batch in the data's proportions; "balanced": all classes alike
    sampling: str = "shuffled"

    # a name of timm's optimizer factory; "lookahead_radam" wraps one in Lookahead
    optimizer: str = "adamw"
    learning_rate: float  # at the end of warm-up, at this batch size
    warmup_epochs: float = 0.0  # linear, from warmup_learning_rate
    warmup_learning_rate: float = 0.0
    final_learning_rate: float = 0.0  # where the cosine ends
    # "step", or "epoch": changed between epochs alone, see training.schedule.rate_of_epoch
    schedule: str = "step"
    # decoupled for "adamw", an L2 term of the gradient for "adam" and "radam"
    weight_decay: float = 0.0
    # on every parameter; else not on norms, biases, bias tables, tokens, positions
    decay_all: bool = False
    clip_grad: float = 0.0  # largest norm of all gradients together
    # of an exponential moving average of the weights, which is then evaluated
    ema_decay: float = 0.0

    label_smoothing: float = 0.0  # probability mass spread evenly over classes
    # "all" classes (as PyTorch has it), or the "others", the true one not among them
    smoothing_over: str = "all"
    drop_rate: float = 0.0  # dropout before the classifier
    drop_path_rate: float = 0.0  # stochastic depth of the last block, growing linearly from 0

    crop: str = "none"  # "none", "pad" (an eighth on each side, then crop) or "random-resized"
    crop_scale: tuple[float, float] = (0.08, 1.0)  # part of the area, for "random-resized"
    hflip: float = 0.0  # probability of a reflection, left to right
    vflip: float = 0.0  # probability of a reflection, top to bottom
    rotate90: bool = False  # by 0, 90, 180 or 270 degrees
    randaugment: str = ""  # timm's words, such as "rand-m9-mstd0.5-inc1"
    # "cifar10" or "svhn", torchvision's policies; with "-released", see augment.py
    autoaugment: str = ""
    color_jitter: float = 0.0  # largest relative change of brightness, contrast, saturation
    mixup: float = 0.0  # alpha of the Beta distribution
    mixup_mode: str = "batch"  # one mixing weight a "batch", or one for each "elem"

    cutmix: float = 0.0  # alpha; regional dropout, for ablation
    cutout: float = 0.0  # probability of one erased rectangle; regional dropout, for ablation
    dropblock: float = 0.0  # part of the features; regional dropout, for ablation

    # "float32", "bfloat16" (autocast), or "auto": bfloat16 where a GPU has it
    precision: str = "auto"
    channels_last: bool = False  # memory layout of images and convolutions
    compile: bool = False  # torch.compile

    def __post_init__(self):
        for name, choices in (
            ("crop", ("none", "pad", "random-resized")),
            ("mixup_mode", ("batch", "elem", "pair")),
            ("precision", ("auto", "float32", "bfloat16")),
            ("schedule", ("step", "epoch")),
            ("smoothing_over", ("all", "others")),
            ("sampling", SAMPLINGS),
            ("autoaugment", ("", "cifar10", "svhn", "cifar10-released", "svhn-released")),
        ):
            if getattr(self, name) not in choices:
                known = ", ".join(choice or '""' for choice in choices)
                raise ValueError(
                    f'recipe {self.name}: {name}="{getattr(self, name)}" is not '
                    f"known; choose {known}"
                )
        if self.epochs < 1 or self.batch_size < 1 or not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"recipe {self.name}: epochs {self.epochs} and batch_size "
                f"{self.batch_size} must be at least 1, "
                f"warmup_epochs {self.warmup_epochs} between 0 and epochs"
            )
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"recipe {self.name}: batch_size {self.batch_size} is not a "
                "multiple of "
                f"micro_batch_size {self.micro_batch_size}"
            )
        if self.schedule == "epoch" and (self.warmup_epochs < 1 or self.warmup_epochs % 1):
            raise ValueError(
                f'recipe {self.name}: schedule="epoch" warms up over whole epochs, '
                "at least one, not "
                f"{self.warmup_epochs}; choose another warmup_epochs or "
                'schedule="step"'
            )
        if self.smoothing_over == "others" and self.label_smoothing and (self.mixup or self.cutmix):
            raise ValueError(
                f"recipe {self.name}: Mixup and CutMix smooth over all classes; "
                'choose smoothing_over="all"'
            )

    def deciding(self, *, but: tuple[str, ...] = ()) -> dict[str, object]:
        """The fields that decide what a run comes to, by name: what its hash is made from. Not its
        name and source, not those of LATER that have their default value, and none of `but`.
        """
        defaults = {field.name: field.default for field in fields(self)}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in ("name", "source", *but)
            and not (name in LATER and value == defaults[name])
        }

    @classmethod
    def from_record(cls, fields_of_record: dict[str, object]) -> "Recipe":
        """The recipe of a ledger record, in which tuples are lists; fields younger than the
        record have their defaults.
        """
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in fields_of_record.items()
            }
        )


def replace(recipe: Recipe, **changes) -> Recipe:
    """The recipe with some fields changed; its name says which (`smoke+epochs=3`). An unknown
    field raises and lists them.
    """
    known = {field.name for field in fields(Recipe)}
    for name in changes:
        if name not in known:
            raise ValueError(
                f"a recipe has no field {name!r}; its fields are {', '.join(sorted(known))}"
            )
    changes = {name: value for name, value in changes.items() if getattr(recipe, name) != value}
    label = "".join(f"+{setting(name, value)}" for name, value in sorted(changes.items()))
    return _replace(recipe, **{"name": recipe.name + label, **changes})


def setting(name: str, value: object) -> str:
    """A field as `parse_changes` reads it: "epochs=3", "crop_scale=0.2,1.0"."""
    return f"{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"


def parse_changes(settings: list[str]) -> dict[str, object]:
    """`["epochs=3", "rotate90=true"]` -> values of the fields' types."""
    types = {field.name: field.type for field in fields(Recipe)}
    changes: dict[str, object] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in types:
            raise ValueError(
                f"{setting!r} is not FIELD=VALUE with a field of a recipe; they are "
                f"{', '.join(sorted(types))}"
            )
        try:
            changes[name] = _parse(types[name], text)
        except ValueError as error:
            raise ValueError(
                f"{setting!r}: {text!r} is not a value of type "
                f"{getattr(types[name], '__name__', types[name])}"
            ) from error
    return changes


def _parse(kind: type, text: str) -> object:
    if kind is bool:
        return (
            {"true": True, "false": False}.get(text.lower())
            if text.lower() in ("true", "false")
            else _refuse(text)
        )
    if kind == tuple[float, float]:
        low, high = text.split(",")
        return float(low), float(high)
    return kind(text)


def _refuse(text: str) -> None:
    raise ValueError(text)
