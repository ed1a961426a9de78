"""Every bound and default, written once: recipes, the command line and the HTTP schemas derive
from these declarations. What the fields mean for an algorithm stands with the algorithm.
"""

from typing import Any, Literal

from charrnn.settings import Settings, setting

LARGEST_RANDOM_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
# From here on, a request's first text shares its products with others, which is faster for many;
# below it is drawn alone, which is faster for one. Either way its bytes follow from the seed.
FIRST_SHARED_SEED = 2**31
SEEDS_OF_FOURS = range(2**32, 2**32 + 2**31)  # of these too, in a way that few at a time may have
LONGEST_TEXT = 1_000_000
PERSON = "> "  # begins a line that a person says, in conversations
LONGEST_TURN = 300  # characters of a person's line in a chat, after which it is cut
LONGEST_HISTORY = 2_000  # characters of earlier turns that are read again where no state is kept
LONGEST_REPLY = 300  # characters of a reply, where nobody says
CHAT_TEMPERATURE = 0.3  # docs/chat.md says why
LONGEST_SHAPED = (
    500  # a name that is drawn to a shape: what may follow is worked out for each length
)
MOST_AVOIDED = 100_000  # names that a caller may list
EXPECTED, MOST_EXPECTED = 3, 20  # symbols that a score tells with each of a text's
LONGEST_INSPECTED = 200  # symbols whose hidden units are told
MOST_UNITS = 16  # units whose gates are told with them
RANK_PATIENCE = 600.0  # seconds that a rank waits for another one, before it gives all of them up
LARGE_TEXT = 4_000_000  # bytes from which running text is learned from a file, not from memory
MOST_HELD_OUT = 2**21  # characters of a held-out side of it that are looked at
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
    dropout_mask: Literal["step", "sequence"] = setting(
        default="step",
        description="which units are dropped is drawn anew for each step, or once for a sequence",
    )
    recurrent_dropout: float = setting(
        default=0.0,
        ge=0,
        le=0.95,
        description="probability of dropping a recurrent weight, in training",
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
    unit: Literal["character", "word"] = setting(
        default="character",
        description="what a symbol is; with words (and marks), each sentence of the text is "
        "learned by itself, and lengths and losses count words",
    )
    column: str | None = setting(
        default=None,
        min_length=1,
        max_length=200,
        description="column of a CSV or TSV file, by name or number from 1; null: found by looking",
    )
    vocabulary: int | None = setting(
        default=None,
        ge=3,
        le=1_000_000,
        description="most symbols of a model of words, the most frequent; null: 8,000",
    )
    fewest: int | None = setting(
        default=None,
        ge=1,
        le=1_000_000,
        description="times that a character or word must be there; rarer ones become one unknown "
        "symbol, which is never written; null: 2 for words, 1 for characters, but 3 in running "
        "text of 100,000 characters",
    )
    case: Literal["auto", "keep", "title", "sentence"] = setting(
        default="auto",
        description="keep: letters as they are; title and sentence: learned in lower case and "
        "written with capitals; auto: lower case where every name survives the round trip, and for "
        "words (sentence: each is written as it mostly is)",
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
    warmup_share: float | None = setting(
        default=None,
        gt=0,
        le=1,
        description="share of the budget after which the rise is over, however many steps it was "
        "to take; null: no limit",
    )
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
    word_dropout: float = setting(
        default=0.0,
        ge=0,
        le=0.5,
        description="conversations: how often a common word of a person's line is left out, and "
        "one put in, on the mean over lines, drawn anew each epoch",
    )
    truncate: int | None = setting(
        default=None,
        ge=1,
        le=100_000,
        description="names and sentences: steps that a gradient reaches back; null: all of them",
    )
    summed: bool = setting(
        default=False,
        description="names and sentences: the gradient is that of a sequence's whole loss, not of "
        "its mean over symbols, as older recipes have it: their rates fit then",
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
        description="nats per symbol by which it may be worse than the best kept version",
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


class EvaluationConfig(Settings):
    """How the texts of a model are compared with those that it learned from."""

    samples: int = setting(
        default=10_000, ge=0, le=100_000, description="texts that are drawn and compared; 0: none"
    )
    rediscovery: int = setting(
        default=100_000,
        ge=0,
        le=100_000,
        description="names that are drawn and searched for those of the test set",
    )
    temperature: float = setting(default=1.0, ge=0, le=10, description="of the draws")
    random_seed: int = setting(
        default=0, ge=0, le=LARGEST_RANDOM_SEED, description="of the draws: the same gives the same"
    )


class ExportConfig(Settings):
    """For which other program a model is written, and how."""

    to: Literal["torch", "onnx", "json"] = setting(
        description="torch: a PyTorch state dict in safetensors; onnx: a graph that onnxruntime "
        "and others run; json: small, for a page or a small device"
    )
    numbers: Literal["int8", "float16", "float32"] = setting(
        default="int8", description="json: how the weights are written; smaller is less exact"
    )

    def _fit(self, context: Any) -> None:
        if self.to != "json" and "numbers" in self.said():
            raise ValueError(f"numbers must be left out with {self.to}: it is always float32")


# Of GenerationConfig, for texts as the network gives them: nothing refused, nothing drawn again.
AS_DRAWN: dict[str, Any] = {"novel": False, "unique": False, "clean": False, "whole": False}


class GenerationConfig(Settings):
    """What is asked of the network: how many texts, how daring, how long."""

    count: int = setting(default=1, ge=1, le=100_000, description="how many texts")
    temperature: float = setting(
        default=1.0,
        ge=0,
        le=10,
        description="0: always the likeliest symbol, and of a shape the names nearest to that; 1: "
        "as learned; above: more daring",
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
        default=0,
        ge=0,
        le=LONGEST_TEXT,
        description="fewest symbols (characters; of a model of words, words and marks) of a text, "
        "the seed included",
    )
    max_length: int | None = setting(
        default=None,
        ge=1,
        le=LONGEST_TEXT,
        description="most symbols (characters; of a model of words, words and marks) of a text, "
        "the seed included; null: the model's own",
    )
    whole: bool | None = setting(
        default=None,
        description="names end by themselves within the lengths that are asked for; false: no end "
        "comes before min_length, and max_length cuts (names of another shape are whole anyway); "
        f"null: yes for names that are drawn (temperature above 0), of up to {LONGEST_SHAPED} "
        "letters, without stop texts",
    )
    stop: tuple[str, ...] = setting(
        default=(),
        max_length=16,
        items={"min_length": 1, "max_length": 100},
        description="texts that end the output; left out of it",
    )
    ends_with: str | None = setting(
        default=None, min_length=1, max_length=100, description="what every name ends with"
    )
    contains: str | None = setting(
        default=None, min_length=1, max_length=100, description="what stands in every name"
    )
    pattern: str | None = setting(
        default=None,
        min_length=1,
        max_length=100,
        description="what every name looks like, the seed included, as a shell writes it: * is "
        "anything, ? a letter, [abc] and [a-e] one of these, [!x] any other",
    )
    exclude_letters: str | None = setting(
        default=None, min_length=1, max_length=100, description="letters that no name has"
    )
    novel: bool | None = setting(
        default=None,
        description="only names that are not in the list that the model learned from; null: yes "
        "for names, no for running text",
    )
    unique: bool | None = setting(
        default=None,
        description="no two texts of an answer alike; null: yes for names, no for running text",
    )
    avoid: tuple[str, ...] = setting(
        default=(),
        max_length=MOST_AVOIDED,
        items={"min_length": 1, "max_length": 1000},
        description="names that are not to come, whatever their capitals",
    )
    max_similarity: float | None = setting(
        default=None,
        ge=0,
        le=1,
        description="how like the nearest name of the list a name may be: 1 less the edits between "
        "the two, divided by the longer one's length",
    )
    clean: bool = setting(
        default=True, description="nothing that is on the block list of words not fit to print"
    )
    particles: int = setting(
        default=32,
        ge=2,
        le=256,
        description="drafts of a name whose shape is rare: more come closer to the exact "
        "distribution, and take longer",
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


def _like(field: str, **changes: Any) -> Any:
    """A setting like one of GenerationConfig."""
    return GenerationConfig.fields()[field]._replace(**changes)


class BeamConfig(Settings):
    """What is asked of a search for the most probable names: those settings of generation that are
    not about chance.
    """

    count: int = _like("count", default=10, description="how many names")
    min_length: int = _like("min_length")
    max_length: int | None = _like("max_length")
    ends_with: str | None = _like("ends_with")
    contains: str | None = _like("contains")
    pattern: str | None = _like("pattern")
    exclude_letters: str | None = _like("exclude_letters")
    novel: bool | None = _like("novel")
    avoid: tuple[str, ...] = _like("avoid")
    max_similarity: float | None = _like("max_similarity")
    clean: bool = _like("clean")

    def _fit(self, context: Any) -> None:
        if self.max_length is not None and self.min_length > self.max_length:
            raise ValueError(f"min_length must be at most max_length ({self.max_length})")

    def generation(self) -> GenerationConfig:
        """As settings of generation."""
        return GenerationConfig.checked(self.values())
