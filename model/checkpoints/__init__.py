"""Reading and writing checkpoints: our own format, MiniMind, Llama and Qwen2, vision encoders, LLaVA."""

from model.checkpoints.files import WeightsError, fingerprint, read_json, read_tensors, save_safetensors, write_json
from model.checkpoints.load import clip_preprocess, load_language, load_vision, load_vlm
from model.checkpoints.minimind import save_minimind_v
from model.checkpoints.own import save_vision, save_vlm
from model.checkpoints.vision_families import save_hf_vision

__all__ = [
    "WeightsError", "clip_preprocess", "fingerprint", "load_language", "load_vision", "load_vlm", "read_json",
    "read_tensors", "save_hf_vision", "save_minimind_v", "save_safetensors", "save_vision", "save_vlm", "write_json",
]  # fmt: skip
