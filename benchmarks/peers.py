"""The peers that are installed. Each is optional; `peer.py` tells what they do."""

from importlib.metadata import version
from importlib.util import find_spec

from benchmarks.peer import Peer
from charrnn.model import CharRNN

TORCH = find_spec("torch") is not None
ONNXRUNTIME = all(find_spec(name) is not None for name in ("onnxruntime", "onnx"))


def versions() -> dict[str, str]:
    """Of the peers that are installed."""
    installed = {"torch": TORCH, "onnxruntime": ONNXRUNTIME}
    return {name: version(name) for name, there in installed.items() if there}


def of(model: CharRNN) -> dict[str, Peer]:
    """Every installed peer of a network, by its row in the tables; one thread each."""
    found: dict[str, Peer] = {}
    if TORCH:
        from benchmarks import peers_torch

        peers_torch.one_thread()
        found |= {
            "torch nn": peers_torch.TorchModule(model),
            "torch cell": peers_torch.TorchCell(model),
            "torch cell, Gumbel": peers_torch.TorchFunction(model),
            "torch tuned": peers_torch.TorchTuned(model),
            "torch jit": peers_torch.TorchJit(model),
        }
    if ONNXRUNTIME:
        from benchmarks import peers_onnx

        found["onnxruntime"] = peers_onnx.Onnx(model)
        found["onnxruntime, bound"] = peers_onnx.OnnxBound(model)
    return found
