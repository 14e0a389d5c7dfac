# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters (LoRA, through peft) in the transformer: the whole difference LHM -> LORM.

The adapter file is a small safetensors file of its own; it holds no weight of the base model and no
body model data. Its settings are in the file's metadata.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crowdgaussian_shared.errors import DamagedFileError, InputError, MissingFileError, SettingError
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .lorm import LormModel

RANK = 32
_ATTENTION = r"attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
_FEED_FORWARD = r"ff(_context)?\.net\.(0\.proj|2)"
_BLOCK = r".*layers\.\d+\.(body|head)_dit\."
TARGETS = {  # full-match patterns of module names, from the smallest set to the largest
    "samples": _BLOCK + r"attn\.(to_q|to_k|to_v|to_out\.0)",
    "attention": _BLOCK + _ATTENTION,
    "attention+ff": f"{_BLOCK}({_ATTENTION}|{_FEED_FORWARD})",
    "all": rf"{_BLOCK}({_ATTENTION}|{_FEED_FORWARD}|norm1(_context)?\.linear)",
}
DEFAULT_TARGETS = "attention"


def add_adapters(
    model: LormModel, rank: int = RANK, targets: str = DEFAULT_TARGETS, alpha: int | None = None
) -> list[nn.Parameter]:
    """Puts adapters into the transformer and freezes everything else.

    A new adapter changes nothing until it is trained.

    Args:
        model: changed in place.
        rank: of the adapters.
        targets: a name in TARGETS, or a pattern that matches whole module names.
        alpha: strength; alpha / rank scales the adapters' output. The rank when None.

    Returns:
        The trainable parameters.

    Raises:
        CrowdGaussianError: the model has adapters already, or nothing matches the targets.
    """
    if adapter_layers(model):
        raise InputError("This model already has adapters; load the base model again.")
    settings = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        bias="none",
        target_modules=TARGETS.get(targets, targets),
    )
    _inject(model, settings)
    return trainable(model)


def adapter_size(model: LormModel, rank: int = RANK, targets: str = DEFAULT_TARGETS) -> str:
    """How many parameters add_adapters would train, in a sentence; arguments as there."""
    pattern = re.compile(TARGETS.get(targets, targets))
    count = sum(
        rank * (layer.in_features + layer.out_features)
        for name, layer in model.transformer.named_modules()
        if isinstance(layer, nn.Linear) and pattern.fullmatch(name)
    )
    return f"Adapters of rank {rank} ({targets}): {count:,} parameters."


def _inject(model: LormModel, settings: LoraConfig) -> None:
    try:
        inject_adapter_in_model(settings, model.transformer)
    except ValueError as error:
        raise SettingError(
            f"No layer of the transformer matches the adapter targets "
            f"'{settings.target_modules}'; use one of: {', '.join(TARGETS)}."
        ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def adapter_layers(model: LormModel) -> list[BaseTunerLayer]:
    """Every layer that carries an adapter."""
    return [layer for layer in model.transformer.modules() if isinstance(layer, BaseTunerLayer)]


@contextmanager
def adapters_off(model: LormModel) -> Iterator[LormModel]:
    """Inside, the model is the base model: the teacher, without a second copy.

    Which parameters are trainable stays as it was.
    """
    layers, flags = adapter_layers(model), [p.requires_grad for p in model.parameters()]
    off = [layer.disable_adapters for layer in layers]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield model
    finally:
        for layer, was_off in zip(layers, off, strict=True):
            layer.enable_adapters(not was_off)
        for parameter, flag in zip(model.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)


def save_adapters(model: LormModel, path: str | Path) -> Path:
    """Writes the adapters to one safetensors file, whole or not at all.

    Raises:
        InputError: the model has no adapters.
    """
    if not adapter_layers(model):
        raise InputError("This model has no adapters to save; add them first.")
    path = Path(path)
    state = get_peft_model_state_dict(model.transformer)
    settings = model.transformer.peft_config["default"]
    about = {"rank": settings.r, "alpha": settings.lora_alpha, "targets": settings.target_modules}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in state.items()},
        partial,
        metadata={"format": "pt", "crowdgaussian_adapters": json.dumps(about)},
    )
    partial.replace(path)
    return path


def load_adapters(model: LormModel, path: str | Path) -> None:
    """Adds the adapters of a file that save_adapters wrote.

    Raises:
        CrowdGaussianError: the file is missing, damaged, no adapter file, or made for a network
            of other sizes; the model is unchanged then.
    """
    about, state = _read(Path(path))
    try:
        settings = LoraConfig(
            r=int(about["rank"]),
            lora_alpha=about["alpha"],
            bias="none",
            target_modules=about["targets"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} is not an adapter file of this program.") from error
    if adapter_layers(model):
        raise InputError("This model already has adapters; load the base model again.")
    _inject(model, settings)
    expected = get_peft_model_state_dict(model.transformer)
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    if shapes != {name: tuple(value.shape) for name, value in state.items()}:
        remove_adapters(model)
        raise DamagedFileError(
            f"The adapters in {path} were made for a network of other sizes; load the base model "
            "they were trained on."
        )
    set_peft_model_state_dict(model.transformer, state)


def remove_adapters(model: LormModel) -> None:
    """Takes the adapters out again: the base model, all of it frozen."""
    for name, module in list(model.transformer.named_modules()):
        if isinstance(module, BaseTunerLayer):
            model.transformer.set_submodule(name, module.get_base_layer())
    del model.transformer.peft_config


def _read(path: Path) -> tuple[dict, dict]:
    if not path.is_file():
        raise MissingFileError(f"The adapter file {path} is missing.")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("crowdgaussian_adapters", "{}"))
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise DamagedFileError(
            f"The adapter file {path} is damaged or no safetensors file; copy it again."
        ) from error
