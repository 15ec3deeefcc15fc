"""One run's configuration: every value, its default, its range and its help.

Values stand in a class of their owner. Each has the name of its flag and of its key, and no name
appears twice: so files, the store and the command line know only the two halves, `search` and
`run`, and no groups below them (see `config.files`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic import ConfigDict as Settings
from pydantic_core import PydanticCustomError

from nanonas.config.address import agent_address, cluster_address
from nanonas.config.amount import Amount
from nanonas.config.duration import Duration
from nanonas.config.keep import keep_words


def _file_name(value: object) -> object:
    """As it is: YAML reads `5` as a number, which would go through as the file '5'."""
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        words = "Input should be the path of a file, in quotes where that is a number"
        raise PydanticCustomError("file", words)
    return value


Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Source = Annotated[
    str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)
]
File = Annotated[str, BeforeValidator(_file_name)]
Address = Annotated[str, AfterValidator(agent_address)]

FINALISTS = 3  # of a search that inherits weights, where nothing is said
BODY_LR = 0.3  # of what begins with an ancestor's weights
EPOCHS = 10  # of a candidate, where nothing else is given or planned
FINAL_SHARE = 0.4  # of the time, where it is not planned

# "always": what was parsed into these classes, by flags, is held to the same ranges as a file
_SETTINGS = Settings(extra="forbid", coerce_numbers_to_str=True, revalidate_instances="always")


@dataclass(frozen=True)
class DataOptions:
    """The images that candidates are trained on and judged by."""

    __pydantic_config__ = _SETTINGS

    data: Source = "cifar10"
    """digits, cifar10, cifar100, a folder of images (`root/class/*`, or
    `root/{train,val,test}/class/*`), an .npz, parquet, or hf://USER/NAME of
    the Hugging Face hub."""
    image_size: Annotated[int, Field(ge=8, le=224)] | None = None
    """Height and width that images are resized to; by default those that the source has, or, with
    --backbone, those of the images that it was trained on."""
    backbone: str | None = None
    """Search behind a frozen backbone: a name of timm's such as test_convnext.r160_in1k, or
    NAME=FILE with its weights in a file. Networks see its feature maps instead of the images, and
    limits are theirs. Needs timm (`pip install 'nanonas[vision]'`)."""
    skip_broken: bool = False
    """Go on without images that cannot be read, and list them in the run's broken_images.txt; by
    default they are an error."""
    groups: str | None = None
    """Images that belong together, such as frames of one film, never lie in two of training,
    validation and test; by default each is on its own. A regular expression with one part in
    parentheses, searched for in each image's path (`'(cam[0-9]+)_'`), a CSV file with the columns
    path and group, or the name of an array of an .npz."""
    train_images: Count | None = None
    """How many images, evenly over the classes, a candidate trains on in one epoch; by default all.
    """
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images that is set apart to judge candidates."""


@dataclass(frozen=True)
class SpaceOptions:
    """The networks that can be found."""

    __pydantic_config__ = _SETTINGS

    space: str = "stages"
    """The search space: stages, layers, nano or nasbench201; `nanonas spaces` describes them."""
    ancestors: bool = True
    """Begin with hand-made networks, scaled to the limits, beside random ones (stages only); a
    random search never does."""
    channels: Annotated[int, Field(ge=1, le=1024)] = 48
    """Channels of layer 1; layer 2 has twice as many (nano only)."""
    length: Annotated[int, Field(ge=2, le=64)] = 6
    """Number of operations (nano only)."""
    add_rate: Rate = 1.0
    """Relative rate of mutations that add a layer (layers only)."""
    remove_rate: Rate = 1.0
    """Relative rate of mutations that remove a layer (layers only)."""
    change_rate: Rate = 2.0
    """Relative rate of mutations that change a hyperparameter (layers only)."""
    skip_rate: Rate = 1.0
    """Relative rate of mutations that toggle a skip connection (layers only)."""
    fill: bool = True
    """Where parameters or MACs are limited and accuracy alone is wanted, give convolutions as many
    filters as the limits leave room for (layers only; stages always does, by its widths)."""


@dataclass(frozen=True)
class LimitOptions:
    """What a network may cost at most."""

    __pydantic_config__ = _SETTINGS

    max_params: Amount | None = None
    """No network with more parameters is trained: 250000, 250k, 2.5M."""
    max_macs: Amount | None = None
    """No network with more multiply-accumulates an image is trained: 250k, 2.5M, 1e9."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """No network that takes longer for one image is trained; measured on the worker, in float32, on
    a CPU with one thread, or where --latency-from says. A measurement comes from outside: it is
    stored and read back, but another run of this configuration measures anew and can come out
    otherwise."""
    max_memory_mb: Annotated[float, Field(gt=0)] | None = None
    """No network that needs more memory, in MiB, to answer for one image is trained: weights and
    feature maps in float32, counted; measured on CUDA."""
    max_flash_kb: Annotated[float, Field(gt=0)] | None = None
    """No network is trained whose constants take more KB (of 1024 bytes) on a microcontroller, in
    8-bit integers: weights, biases, tables; the code comes on top. Counted; takes --target mcu."""
    max_ram_kb: Annotated[float, Field(gt=0)] | None = None
    """No network is trained whose image and feature maps take more KB (of 1024 bytes) of a
    microcontroller's RAM, in 8-bit integers; the stack comes on top. Counted; takes --target mcu.
    """
    target: Literal["mcu"] | None = None
    """Where networks will run: mcu leaves out what has no form in 8-bit integers, norms of groups
    and layers and attention (stages only; the other spaces have none)."""


@dataclass(frozen=True)
class StrategyOptions:
    """What is tried next."""

    __pydantic_config__ = _SETTINGS

    strategy: str = "screened"
    """What to try next: screened (another one, with a predictor that chooses among its proposals),
    aging (regularized evolution), evolution (generational), local (local search), nsga2 (several
    objectives) or random."""
    objectives: tuple[str, ...] = ()
    """What to get the best of: accuracy alone, or (screened, nsga2) with params, macs, latency,
    memory, flash or ram; by default accuracy, and for nsga2 accuracy and params. Latency and memory
    are as for their limits; flash and ram are in bytes, of a microcontroller."""
    metric: Literal["accuracy", "balanced_accuracy"] = "accuracy"
    """What accuracy is, wherever candidates are compared: the share of all validation images that
    are right, or, balanced, the mean of the classes' shares: a rare class counts as much as a
    frequent one. Few images of a class make it noisy."""
    population: Annotated[int, Field(ge=2, le=100_000)] = 20
    """Members of a generation."""
    parents_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Best part of a generation that may become parents (evolution only)."""
    crossover_rate: Share = 0.5
    """Share of children with two parents (evolution and nsga2 only)."""
    screens: str | None = None
    """The strategy whose proposals are screened: aging, evolution, local, random or, for several
    objectives, nsga2; by default aging, or nsga2 (screened only)."""
    predictor: str = "gaussian"
    """What guesses the accuracies of untrained networks, and their latency and memory where these
    are objectives: gaussian (process), ensemble (of trees, needs scikit-learn) or lstm (screened
    only)."""
    experience: bool = False
    """Begin with what earlier runs have learnt of networks, on whatever images, and leave what this
    one learns to later ones. With several objectives, and by the predictor lstm, nothing is chosen
    by it."""
    experience_from: File | None = None
    """A file of experience to begin with; by default the user's, which $NANONAS_EXPERIENCE may
    name, or the small one that comes with nanonas where there is none yet. A run keeps a copy."""
    lag: Count | None = None
    """How many candidates may be in flight before a steady-state strategy waits; by default twice
    the workers at the first start, and four times the slots of a cluster. Part of the identity: the
    same lag gives the same run with any number of workers."""


@dataclass(frozen=True)
class FidelityOptions:
    """Candidates that train for less, or that begin with weights."""

    __pydantic_config__ = _SETTINGS

    ancestor: Source | None = None
    """A trained network of other images, with whose weights all networks of the search begin as far
    as they fit, and which is the first of them, but of a random search: a run, the folder that
    `nanonas train` has written, or a bundle. Its space is the search's. A run keeps a copy."""
    body_lr: Annotated[float, Field(gt=0, le=1)] = BODY_LR
    """Factor of the learning rates of what begins with the weights of --ancestor."""
    halving: Annotated[int, Field(ge=0, le=100)] = 0
    """Successive halving: all candidates train for little, the best one of so many goes on for
    more; 0 = all train for all epochs."""
    rungs: Annotated[int, Field(ge=2, le=20)] = 3
    """Budgets of successive halving, the last one of `epochs`."""
    rung_epochs: Count | None = None
    """Epochs on the lowest rung of successive halving; by default so that each rung is `halving`
    times as long as the one below."""
    rung_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training images that the lowest rung of successive halving trains on; it grows
    from rung to rung."""
    rung_image_size: Annotated[int, Field(ge=8)] | None = None
    """Height and width of images on the lowest rung of successive halving; by default as on the
    others."""
    inherit: bool = False
    """Children begin with their parents' weights, as far as they fit."""
    inherit_epochs: Count | None = None
    """Epochs of a child that inherits; by default half of the others', rounded up; successive
    halving has its own."""
    inherit_audit: Share = 0.1
    """Share of the children that inherit that are trained from scratch, too: it shows what
    inheriting does to the ranking."""
    finalists: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many of the best are trained once more, from scratch, when a search ends; the best of
    them is its result. By default 3 with --inherit, and as many as pay where --time is planned;
    0 = none."""
    finalist_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training for each finalist on one worker, as --candidate-seconds. By default a
    part of --time, where candidates are bound by seconds."""

    @property
    def needs_weights(self) -> bool:
        """Whether candidates begin with the weights of others."""
        return self.inherit or self.halving > 0


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained."""

    __pydantic_config__ = _SETTINGS

    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Passes over the training images for each candidate; by default as many as fit into
    --candidate-seconds, or 10 where there is no --time to plan with."""
    candidate_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training for a candidate on one worker, whose network costs --typical-cost an
    image, as predicted; costlier ones get more, but less than in proportion. By default a part of
    --time, unless --epochs is given."""
    typical_cost: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training for an image, of a network of middling cost; measured as a search begins
    that needs it. Without it all candidates train for --candidate-seconds."""
    candidate_image_size: Annotated[int, Field(ge=8)] | None = None
    """Height and width of the images that candidates bound by seconds train on and are judged by;
    by default three quarters of the images' where --time is planned, they are 32 pixels or more,
    and there are finalists, which see them whole."""
    cost: tuple[str, ...] = ()
    """What training costs on this machine, seconds by kind of work; measured as a search begins
    that needs it, and kept so that the search can be repeated."""
    stop_epoch: Annotated[int, Field(ge=0)] = 3
    """After this epoch, candidates that are hardly better than chance are pruned; 0 = never. It is
    put off until 100 steps are done, since batch norms need them to settle; where that is not
    before the last epoch, none is pruned."""
    stop_margin: Share = 0.05
    """What a candidate has to be better than chance by, in accuracy, not to be pruned; to fall
    short of it counts by more than two standard errors of the validation images."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 128
    """Images in one step."""
    optimizer: Literal["sgd", "muon"] = "muon"
    """muon: convolutions that a norm follows learn by updates that are made orthogonal, the rest by
    sgd; or sgd for all."""
    lr: Annotated[float, Field(gt=0, le=100)] = 0.3
    """Learning rate of sgd at the top of its cycle."""
    muon_lr: Annotated[float, Field(gt=0, lt=1)] = 0.06
    """Learning rate of muon at the top of its cycle: the share of a filter that a step replaces."""
    bias_lr: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Factor of the learning rate of biases, those of norms included."""
    schedule: Literal["cosine", "linear"] | None = None
    """How the learning rate falls to 0: cosine or linear; by default linear with muon, and cosine
    with sgd."""
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the steps on which the learning rate rises; by default 0.2, and 0.1 with muon."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Judge and keep a moving average of the weights, of which this share stays from step to step,
    such as 0.99; 0 = the weights themselves."""
    whiten: bool = False
    """The first convolution begins as the main directions of the images' patches."""
    dirac: bool = False
    """Later convolutions begin as the identity, as far as they have the channels."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 5e-4
    """Of weights; not of biases and batch norms."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that is spread over all classes."""
    balance: Literal["none", "weights"] = "none"
    """weights: images of rare classes count for more while training, so that all classes count
    alike."""
    clip_norm: Annotated[float, Field(ge=0)] = 2.0
    """The gradient's norm is cut to this; 0 = never."""
    flip: bool | None = None
    """Mirror images left to right while training; by default where the source says that it makes
    sense."""
    alternate_flip: bool = True
    """Where images are mirrored: each in every other epoch, instead of at random."""
    small_images: Share = 0.5
    """Share of the steps, from the first, on images of three quarters of the side; 0 = none. Images
    below 16 pixels are never made smaller."""
    crop: Annotated[int, Field(ge=0, le=32)] | None = None
    """Pixels of padding for random crops; by default a sixteenth of the smaller side."""
    cutout: Annotated[int, Field(ge=0, le=128)] = 0
    """Side, in pixels, of the square that is blanked in each training image; 0 = none."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of training: bfloat16 is mixed precision; auto takes it where the hardware is
    faster with it."""
    deterministic: bool = False
    """On CUDA, kernels that add in a fixed order, so that the same run has the same numbers;
    slower. CPUs always do."""


@dataclass(frozen=True)
class SearchConfig:
    """What is searched, and how: the run's identity, fixed once it has begun."""

    __pydantic_config__ = _SETTINGS

    data: DataOptions = field(default_factory=DataOptions)
    space: SpaceOptions = field(default_factory=SpaceOptions)
    limits: LimitOptions = field(default_factory=LimitOptions)
    strategy: StrategyOptions = field(default_factory=StrategyOptions)
    fidelity: FidelityOptions = field(default_factory=FidelityOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of everything random."""


@dataclass(frozen=True)
class RunConfig:
    """Where the run happens and when it ends: may change on resume."""

    __pydantic_config__ = _SETTINGS

    time: Duration | None = None
    """Wall-clock time for all of it, final training included: 90s, 30m, 2h, 1h30m; by default 30
    minutes, where neither --evaluations nor --generations ends the search."""
    evaluations: Count | None = None
    """End the search after this many candidates."""
    generations: Count | None = None
    """End the search after this many generations."""
    final_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Part of --time that is kept to train the winner; 0 = don't train it. By default most of it,
    and what a training can use at most."""
    final_epochs: Annotated[int, Field(ge=0, le=100_000)] = 100
    """Epochs for the winner when there is no --time; 0 = don't train it, also with --time, all of
    which is the search's then."""
    front: Count | None = None
    """Train so many networks at the end, the winner and those of the front that complement it best,
    in shares of the time by what their images cost; by default the winner alone. Without
    --objectives these are accuracy and the first cost that has a limit, or the parameters."""
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Candidates trained at once; by default one a core, or one a GPU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    latency_from: Address | None = None
    """Where latency, of --objectives or --max-latency-ms, is measured: the address of a `nanonas
    agent`, http://HOST:PORT, whose token is in $NANONAS_AGENT_TOKEN; by default on the workers."""
    cluster: Annotated[str | None, BeforeValidator(cluster_address)] = None
    """Train candidates and winner on a Ray cluster: auto (the one here, or RAY_ADDRESS), HOST:PORT
    (one that this machine is a node of), ray://HOST:PORT (one that it isn't) or local:N (N cores of
    this machine); by default, and with none, in worker processes here."""
    cluster_gpus: Annotated[float, Field(gt=0, le=1)] | None = None
    """Part of a GPU that each candidate gets on a cluster, such as 0.25; by default 1 with --device
    cuda, else none, but a core."""
    hang_seconds: Annotated[float, Field(gt=0)] = 120.0
    """A candidate without a batch for so long counts as hung and is given up."""
    candidate_timeout: Annotated[float, Field(gt=0)] | None = None
    """A candidate that is at work for so many seconds is given up, as one that hangs; by default
    after ten times what its training is predicted to take, and a minute, and never where nothing is
    predicted."""
    worker_memory_mb: Annotated[float, Field(gt=0)] | None = None
    """A worker that holds more memory of its own, in MiB, is killed, and its candidate has failed
    where a new worker does, too (Linux only); by default as much as there is."""
    doctor: bool = True
    """Look, before a search, whether images that judge have copies in training, copies have two
    labels, or mirroring changes what images mean, and say it; `nanonas doctor` says all."""
    explain: bool = False
    """Tell each generation in plain words: what it was bred from, what came of it, what helped, and
    what to believe."""
    keep: Annotated[str, AfterValidator(keep_words)] = "top:20"
    """Whose trained weights stay on the disk: front (of several objectives, else the best), top:N
    (of the N best and the front) or all. Those that a later candidate may begin with, by --inherit
    or --halving, stay as long as it may."""
    out: Path = Path("outputs")
    """The folder that runs are kept in."""
    name: str | None = None
    """The run's folder in it; by default the time of its start and the data's name."""
    requests_of: Path | None = None
    """Another run, whose bans and planted genomes are made again for the same numbers: so it is
    repeated exactly."""

    @property
    def kept_share(self) -> float:
        """Part of `time`, where there is one, that is kept to train the winner, in [0, 1)."""
        share = FINAL_SHARE if self.final_share is None else self.final_share
        return share if self.final_epochs > 0 else 0.0

    @property
    def trains_winner(self) -> bool:
        """Whether the winner is trained when the search has ended."""
        return self.final_epochs > 0 if self.time is None else self.kept_share > 0


@dataclass(frozen=True)
class Config:
    """Both halves."""

    __pydantic_config__ = _SETTINGS

    search: SearchConfig = field(default_factory=SearchConfig)
    run: RunConfig = field(default_factory=RunConfig)
