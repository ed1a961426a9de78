"""Every bound and default, written once: recipes, the command line and the HTTP schemas derive
from these declarations. What the fields mean for an algorithm stands with the algorithm.
"""

from typing import Any, Literal

from charrnn.settings import Settings, setting

LARGEST_RANDOM_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
LONGEST_TEXT = 1_000_000
PERSON = "> "  # begins a line that a person says, in conversations
LONGEST_TURN = 300  # characters of a person's line in a chat, after which it is cut
LONGEST_HISTORY = 2_000  # characters of earlier turns that are read again where no state is kept
LONGEST_REPLY = 300  # characters of a reply, where nobody says
CHAT_TEMPERATURE = 0.3  # docs/chat.md says why
MODEL_NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
MODEL_NAME_RULE = (
    "must be 1 to 64 lower-case letters, digits, dots, hyphens and underscores, beginning with a "
    "letter or digit"
)


class NetworkConfig(Settings):
    """The shape of the network, apart from its vocabulary."""

    cell: str = setting(default="lstm", description="recurrent cell: rnn, lstm or gru")
    hidden_size: int = setting(default=256, ge=1, le=4096, description="units in each layer")
    num_layers: int = setting(default=1, ge=1, le=16, description="stacked recurrent layers")
    dropout: float = setting(
        default=0.0,
        ge=0,
        le=0.95,
        description="probability of dropping a unit of a layer's output, in training",
    )
    init: Literal["uniform", "normal"] = setting(
        default="uniform",
        description="initial weights: uniform ±1/sqrt(fan-in), or normal with std 0.01",
    )


class ModelConfig(NetworkConfig):
    """The shape of the network: all that its parameters' shapes follow from."""

    vocab_size: int = setting(ge=2, le=1_000_000, description="symbols it can read and write")


class CorpusConfig(Settings):
    """How a file is read and split."""

    kind: Literal["auto", "names", "text", "chat"] = setting(
        default="auto",
        description="a list of names, one a line, running text, or conversations (a person's lines "
        'begin with "> ", a blank line ends each); auto looks at the file',
    )
    case: Literal["auto", "keep", "title", "sentence"] = setting(
        default="auto",
        description="keep: letters as they are; title and sentence: learned in lower case and "
        "written with capitals; auto: lower case where every name survives the round trip",
    )
    validation: float = setting(
        default=0.1, gt=0, le=0.5, description="fraction held out for choices"
    )
    test: float = setting(
        default=0.1, gt=0, le=0.5, description="fraction held out for the last figure"
    )
    split_by: Literal["hash", "order"] = setting(
        default="hash",
        description="hash: held out are sequences from all over the data, which stay on their "
        "side as it grows; order: its end is, which is harder for running text",
    )
    salt: str = setting(
        default="charrnn", max_length=100, description="changes who falls on which side"
    )


class TrainConfig(Settings):
    """How the network learns."""

    optimizer: Literal["sgd", "adagrad", "adam", "adamw"] = setting(
        default="adamw", description="rule that turns gradients into steps"
    )
    learning_rate: float = setting(default=4e-3, gt=0, le=10, description="peak learning rate")
    schedule: Literal["constant", "linear", "cosine"] = setting(
        default="cosine", description="course of the learning rate after the warm-up"
    )
    warmup_steps: int = setting(default=50, ge=0, le=1_000_000, description="steps of linear rise")
    final_rate: float = setting(
        default=0.02, ge=0, le=1, description="last learning rate, as a fraction of the peak"
    )
    halve_on_rise: bool = setting(
        default=False, description="halve the learning rate when the validation loss rises"
    )
    beta1: float = setting(default=0.9, ge=0, lt=1, description="Adam: decay of the first moment")
    beta2: float = setting(default=0.99, ge=0, lt=1, description="Adam: decay of the second moment")
    epsilon: float = setting(
        default=1e-8, gt=0, le=1, description="Adam, Adagrad: keeps the division by the root finite"
    )
    weight_decay: float = setting(
        default=0.0, ge=0, le=10, description="decay of the weights, not biases"
    )
    clip_norm: float = setting(
        default=1.0, ge=0, description="largest global norm of the gradient; 0 for no limit"
    )
    clip_value: float = setting(
        default=0.0, ge=0, description="largest absolute value of a gradient; 0 for no limit"
    )
    batch_size: int = setting(
        default=64, ge=1, le=65_536, description="names or streams in a batch"
    )
    seq_length: int = setting(
        default=64,
        ge=1,
        le=100_000,
        description="running text: steps between truncations, characters",
    )
    chain: int | None = setting(
        default=None,
        ge=1,
        le=1_000,
        description="conversations: up to so many are learned as one long talk, drawn anew each "
        "epoch; null: 1",
    )
    averaging: float = setting(
        default=0.0,
        ge=0,
        lt=1,
        description="decay of the exponential average of the weights; 0 for none",
    )
    steps: int | None = setting(default=None, ge=1, le=10**9, description="budget, updates")
    minutes: float | None = setting(default=None, gt=0, le=100_000, description="budget, minutes")
    evaluate_every: int | None = setting(
        default=None, ge=1, le=10**9, description="updates between two looks at validation"
    )
    patience: int | None = setting(
        default=None,
        ge=1,
        le=10**6,
        description="looks without a better validation loss before stopping",
    )
    random_seed: int = setting(
        default=0, ge=0, le=LARGEST_RANDOM_SEED, description="start of all chance"
    )
    processes: int = setting(
        default=1,
        ge=1,
        le=256,
        description="processes that share each batch; as many as there are idle cores",
    )


class GateConfig(Settings):
    """What a retrained network must pass before it goes live."""

    tolerance: float = setting(
        default=0.01,
        ge=0,
        le=10,
        description="nats per character by which it may be worse than the best kept version",
    )
    samples: int = setting(
        default=200, ge=1, le=10_000, description="texts that are drawn from it and looked at"
    )
    most_empty: float = setting(
        default=0.05, ge=0, le=1, description="largest share of texts with nothing in them"
    )
    most_repeating: float = setting(
        default=0.1, ge=0, le=1, description="largest share of texts that repeat themselves"
    )
    most_duplicates: float = setting(
        default=0.5, ge=0, le=1, description="largest share of texts that were drawn before"
    )
    least_novel: float = setting(
        default=0.1, ge=0, le=1, description="smallest share of names that are not in the list"
    )
    most_novel: float = setting(
        default=1.0, ge=0, le=1, description="largest share of names that are not in the list"
    )

    def _fit(self, context: Any) -> None:
        if self.least_novel > self.most_novel:
            raise ValueError(f"least_novel must be at most most_novel ({self.most_novel:g})")


class RetrainConfig(Settings):
    """How a model is trained again, with nobody looking."""

    warm_start: bool = setting(
        default=False, description="begin with the live weights instead of chance"
    )
    nice: int = setting(
        default=10, ge=0, le=19, description="how far the process steps back behind others"
    )
    memory: int | None = setting(
        default=None, ge=1, le=10**7, description="most memory that a run may take, megabytes"
    )
    keep: int | None = setting(
        default=None,
        ge=1,
        le=10**6,
        description="versions kept after a run; the live one and those that ship always are",
    )
    hook: tuple[str, ...] = setting(
        default=(),
        items={"min_length": 1},
        description="command run after a promotion or a refusal, with the result on its stdin",
    )
    hook_seconds: float = setting(
        default=60.0, gt=0, le=86_400, description="longest time for the hook, seconds"
    )


class GenerationConfig(Settings):
    """What is asked of the network: how many texts, how daring, how long."""

    count: int = setting(default=1, ge=1, le=100_000, description="how many texts")
    temperature: float = setting(
        default=1.0,
        ge=0,
        le=10,
        description="0: always the likeliest symbol; 1: as learned; above: more daring",
    )
    top_k: int | None = setting(
        default=None, ge=1, le=1_000_000, description="draw from the k likeliest symbols only"
    )
    top_p: float | None = setting(
        default=None,
        gt=0,
        le=1,
        description="draw from the fewest likeliest symbols whose probabilities add up to this",
    )
    min_length: int = setting(
        default=0, ge=0, le=LONGEST_TEXT, description="fewest symbols of a text, the seed included"
    )
    max_length: int | None = setting(
        default=None,
        ge=1,
        le=LONGEST_TEXT,
        description="most symbols of a text, the seed included; null: the model's own",
    )
    stop: tuple[str, ...] = setting(
        default=(),
        max_length=16,
        items={"min_length": 1, "max_length": 100},
        description="texts that end the output; left out of it",
    )
    random_seed: int | None = setting(
        default=None,
        ge=0,
        le=LARGEST_RANDOM_SEED,
        description="the same seed gives the same texts; null: one is drawn and reported",
    )

    def _fit(self, context: Any) -> None:
        if self.max_length is not None and self.min_length > self.max_length:
            raise ValueError(f"min_length must be at most max_length ({self.max_length})")
