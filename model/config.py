"""The config of every part as a frozen dataclass; model/checkpoints/own.py writes them as JSON."""

from __future__ import annotations

from dataclasses import dataclass

from model.checks import check_fields, require_one_of, require_split
from model.registry import PROJECTORS

ACTIVATIONS = ("quick_gelu", "gelu", "gelu_pytorch_tanh")
STEMS = ("patch", "conv")
POST_NORMS = ("none", "kept", "applied")


@dataclass(frozen=True)
class RopeScaling:
    """The long-context RoPE scaling of Llama 3.1 and later, under Hugging Face's names."""

    factor: float  # divides the low frequencies
    low_freq_factor: float  # low: fewer rotations than this within the original context length
    high_freq_factor: float  # high, left alone: more rotations than this; in between is interpolated
    original_max_position_embeddings: int  # the context length before scaling

    def __post_init__(self):
        check_fields(self)
        if self.low_freq_factor >= self.high_freq_factor:
            found = f"low_freq_factor {self.low_freq_factor}, high_freq_factor {self.high_freq_factor}"
            raise ValueError(f"RopeScaling: found {found}; expected the low one below the high one")


@dataclass(frozen=True)
class LMConfig:
    """A Llama-style decoder; the defaults give 25,829,888 parameters."""

    hidden_size: int = 512
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int = 2  # each is shared by num_attention_heads / num_key_value_heads query heads
    intermediate_size: int = 1408  # hidden width of the SwiGLU MLP
    vocab_size: int = 6400
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 8192  # longer sequences raise ValueError
    tie_word_embeddings: bool = True  # the output head is the embedding matrix
    attention_bias: bool = False  # biases on q, k and v (not o), as in Qwen2
    head_width: int | None = None  # None: hidden_size / num_attention_heads
    rope_scaling: RopeScaling | None = None  # None: plain RoPE

    def __post_init__(self):
        check_fields(self)
        if self.head_width is not None and self.head_width % 2:
            raise ValueError(f"LMConfig.head_width: found {self.head_width}, expected an even width, for RoPE")
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if self.head_width is None:
            require_split(self, "hidden_size", 2 * heads, f"{heads} heads of even width")
        require_split(self, "num_attention_heads", kv_heads, f"groups that share {kv_heads} key/value heads evenly")

    @property
    def head_dim(self) -> int:
        return self.head_width or self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class VisionConfig:
    """A vision transformer: CLIP, SigLIP, InternViT or the small encoder trained here."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int  # pixels per side
    patch_size: int  # pixels per side
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    class_token: bool = True
    pre_norm: bool = True  # a LayerNorm between the embeddings and the first layer
    stem: str = "patch"  # 'patch': one convolution; 'conv': stride-2 convolutions down to the same grid
    feature_layer: int = -1  # hidden state to return: -1 the last, -2 the one before it, as in LLaVA
    patch_bias: bool = False  # a bias on the 'patch' stem
    post_norm: str = "none"  # a final LayerNorm: 'applied' to the last hidden state, or only 'kept' for export
    layer_scale: bool = False  # a learned scale per channel on the output of each attention and MLP
    pixel_shuffle: int = 1  # blocks of n x n neighbouring features become one, n² times as wide

    def __post_init__(self):
        check_fields(self)
        require_one_of(self, "hidden_act", ACTIVATIONS)
        require_one_of(self, "stem", STEMS)
        require_one_of(self, "post_norm", POST_NORMS)
        grid = self.image_size // self.patch_size
        if not grid:
            raise ValueError(f"VisionConfig: no patch of {self.patch_size} fits in an image of {self.image_size}")
        if grid % self.pixel_shuffle:
            raise ValueError(
                f"VisionConfig: a grid {grid} wide does not split into blocks {self.pixel_shuffle} wide; choose "
                "another image_size or pixel_shuffle"
            )
        require_split(self, "hidden_size", self.num_attention_heads, f"{self.num_attention_heads} heads")
        power_of_two = self.patch_size > 1 and self.patch_size.bit_count() == 1
        if self.stem == "conv" and (not power_of_two or self.image_size % self.patch_size):
            raise ValueError(
                f"VisionConfig: stem 'conv' needs a power of two as patch_size, found {self.patch_size}, and a "
                f"multiple of patch_size as image_size, found {self.image_size}"
            )
        if not -self.num_hidden_layers - 1 <= self.feature_layer <= -1:
            raise ValueError(
                f"VisionConfig.feature_layer: found {self.feature_layer}, expected -1 (last) down to "
                f"{-self.num_hidden_layers - 1} (the embeddings)"
            )

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_features(self) -> int:
        """N, the number of features per image."""
        return self.num_patches // self.pixel_shuffle**2

    @property
    def feature_size(self) -> int:
        """Dv, the width of a feature."""
        return self.hidden_size * self.pixel_shuffle**2


@dataclass(frozen=True)
class ProjectorConfig:
    """The map from image features to input embeddings of the language model."""

    kind: str  # of PROJECTORS
    in_features: int  # VisionConfig.feature_size
    out_features: int  # LMConfig.hidden_size
    band: int = 1  # rows of the token grid that are read together, column by column; 1: row by row

    def __post_init__(self):
        if self.kind not in PROJECTORS:
            raise ValueError(
                f"ProjectorConfig.kind: found {self.kind!r}, expected one of {', '.join(PROJECTORS)}; name the file "
                "that registers a projector of your own with --plugin (a run's folder has a copy, plugin.py)"
            )
        check_fields(self)

    def tokens_out(self, patches: int) -> int:
        """M, the number of tokens for `patches` features; ValueError for a grid that this kind cannot take."""
        return PROJECTORS[self.kind](patches)


@dataclass(frozen=True)
class VLMConfig:
    """Decoder, encoder and projector together; ValueError where their widths do not match."""

    lm: LMConfig
    vision: VisionConfig | None = None  # None: language only
    projector: ProjectorConfig | None = None

    def __post_init__(self):
        if self.projector and self.projector.out_features != self.lm.hidden_size:
            raise ValueError(
                f"the projector gives width {self.projector.out_features}, the language model takes "
                f"{self.lm.hidden_size}; use a projector made for this language model"
            )
        if self.projector and self.vision and self.projector.in_features != self.vision.feature_size:
            raise ValueError(
                f"the projector takes width {self.projector.in_features}, the encoder gives "
                f"{self.vision.feature_size}; use a projector made for this encoder"
            )

    @property
    def image_tokens(self) -> int:
        """M, the number of positions that one image takes up in the language model's context."""
        if self.vision is None or self.projector is None:
            raise ValueError("the number of image tokens needs both a vision and a projector config")
        return self.projector.tokens_out(self.vision.num_features)
