"""OpenVINO GenAI's continuous batching, with the same kernels, sampling, cache and step size."""

import asyncio
import itertools
import time
from collections.abc import Sequence

import numpy as np
import openvino as ov
import openvino_genai

from bench.engine.load import TEMPERATURE, TOP_P, Timeline
from headrace.models.directory import ModelDirectory
from worker.engine.openvino.settings import OpenVinoSettings


class GenAi:
    """`ContinuousBatchingPipeline`, stepped as fast as it goes."""

    name = "OpenVINO GenAI"

    def __init__(self, directory: ModelDirectory, settings: OpenVinoSettings) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = (settings.kv_cache_bytes or 1 << 30) >> 30
        scheduler.enable_prefix_caching = True
        scheduler.max_num_batched_tokens = settings.max_batch_tokens
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(directory.path), scheduler, "CPU", {"PERFORMANCE_HINT": "LATENCY"}
        )
        self._ids = itertools.count()

    def cpu_seconds(self) -> float:
        """Of this process; nothing else runs in it meanwhile."""
        return time.process_time()

    async def run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Timeline:
        """Add all at once, then step until nothing is left, off the loop."""
        return await asyncio.to_thread(self._run, prompts, new_tokens)

    def _run(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> Timeline:
        timeline = Timeline()
        handles = []
        for prompt in prompts:
            request_id = next(self._ids)
            config = openvino_genai.GenerationConfig()
            config.max_new_tokens = new_tokens
            config.ignore_eos = True
            config.do_sample = True
            config.temperature = TEMPERATURE
            config.top_p = TOP_P
            config.rng_seed = request_id
            ids = ov.Tensor(np.array([prompt], np.int64))
            handles.append(self._pipeline.add_request(request_id, ids, config))
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            for output, handle in enumerate(handles):
                if handle.can_read():
                    for part in handle.read().values():
                        timeline.add(output, len(part.generated_ids))
        return timeline
