"""Settings of the worker service, table [worker]."""

from typing import Literal

from pydantic import Field

from headrace.access.settings import GenerationKeysSettings
from headrace.runtime.settings import SettingsGroup
from headrace.runtime.tls_settings import ServerTlsSettings
from headrace.telemetry.settings import TelemetrySettings
from worker.engine.openvino.settings import OpenVinoSettings
from worker.engine.paced_settings import PacedSettings
from worker.engine.tensorrt_llm.settings import TensorRtLlmSettings


class WorkerSettings(SettingsGroup):
    """What one worker process serves, and where."""

    model: str = Field(default="SmolLM2-135M-Instruct", min_length=1)
    """Model directory, or the name of a model in the cache folder."""
    engine: Literal["openvino", "paced", "tensorrt_llm"] = "openvino"
    """Engine that computes: openvino on the CPU, tensorrt_llm on GPUs, or paced, a double."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on."""
    port: int = Field(default=50061, ge=0, le=65535)
    """Port to listen on; 0 = any free one."""
    insecure: bool = False
    """Allow an address other than loopback although callers are not checked."""
    drain_delay_seconds: float = Field(default=0.0, ge=0, le=300)
    """After a request to stop: not ready, but still taking what comes, for so long, in seconds."""
    drain_grace_seconds: float = Field(default=30.0, ge=0, le=3600)
    """How long running requests may go on after that delay, in seconds."""
    heartbeat_seconds: float = Field(default=5.0, gt=0, le=60)
    """Longest time between two frames to an edge, in seconds."""
    silence_seconds: float = Field(default=15.0, gt=0, le=600)
    """An edge that sends nothing for so long is dead, in seconds."""
    tls: ServerTlsSettings = ServerTlsSettings()
    """TLS of the listener."""
    keys: GenerationKeysSettings = GenerationKeysSettings()
    """Who may call."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """What it tells of itself."""
    openvino: OpenVinoSettings = OpenVinoSettings()
    """The openvino engine."""
    paced: PacedSettings = PacedSettings()
    """The paced engine."""
    tensorrt_llm: TensorRtLlmSettings = TensorRtLlmSettings()
    """The tensorrt_llm engine."""
