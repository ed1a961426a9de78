"""How fast the library generates and trains on this machine, one BLAS thread: medians of several
runs. Without peers yet.

    python benchmarks/speed.py
"""

import statistics
import time

import numpy as np

import charrnn
from charrnn.config import ModelConfig
from charrnn.model import Batch, CharRNN
from charrnn.ops import Workspace

TRAINED = (("lstm", 256, 64, 64), ("gru", 256, 64, 64), ("rnn", 128, 32, 25))


def main() -> None:
    print(f"{charrnn.blas_kernel()}, numpy {np.__version__}")
    generator = charrnn.load("dinosaurs")
    print("\ngenerating dinosaurs, through Generator.generate")
    for count in (1, 8, 64):
        times = [seconds_a_character(generator, count, seed) for seed in range(30)]
        print(
            f"  {count:3} at once: {1e6 * statistics.median(times):6.1f} microseconds a character"
        )
    print("\nloss and gradients of running text, vocabulary 65")
    for cell, hidden_size, batch_size, steps in TRAINED:
        speed = characters_a_second(cell, hidden_size, batch_size, steps)
        print(f"  {cell} {hidden_size}, {batch_size} x {steps}: {speed:9,.0f} characters/s")


def seconds_a_character(generator: charrnn.Generator, count: int, seed: int) -> float:
    started = time.perf_counter()
    samples = generator.generate(count=count, random_seed=seed)
    return (time.perf_counter() - started) / sum(len(sample.text) + 1 for sample in samples)


def characters_a_second(cell: str, hidden_size: int, batch_size: int, steps: int) -> float:
    config = ModelConfig(cell=cell, hidden_size=hidden_size, vocab_size=65)
    model = CharRNN.initialized(config, np.random.default_rng(0))
    ids = np.random.default_rng(1).integers(0, 65, steps * batch_size)
    batch = Batch(ids, ids, np.full(steps, batch_size))
    state, grads, work = model.init_state(batch_size), model.params.like(), Workspace()
    times = []
    with charrnn.blas_threads(1):
        for _ in range(12):
            started = time.perf_counter()
            model.loss_and_grads(batch, state, grads, work)
            times.append(time.perf_counter() - started)
    return len(ids) / statistics.median(times)


if __name__ == "__main__":
    main()
