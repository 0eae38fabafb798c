"""Play .nvb videos: read the file, rebuild its graph for the engine at hand, and give frames. Never imports PyTorch."""

from inr_runtime.audio import AudioDecoder, open_audio
from inr_runtime.decoder import Decoder, open_video
from inr_runtime.errors import InrError, NvbError
from inr_runtime.frame import Frame
from inr_runtime.info import AudioInfo, VideoInfo
from inr_runtime.limits import Limits

__all__ = [
    "AudioDecoder",
    "AudioInfo",
    "Decoder",
    "Frame",
    "InrError",
    "Limits",
    "NvbError",
    "VideoInfo",
    "open_audio",
    "open_video",
]
