"""One run against running services: load, samples, the wait for idleness, and what came out."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from bench.services import Services
from bench.soak.clients import Crowd, kinds
from bench.soak.grpc_client import GrpcClient
from bench.soak.http_client import HttpClient
from bench.soak.outcomes import Outcomes
from bench.soak.plan import SoakPlan
from bench.soak.sampling import LostServiceError, Sample, Sampler
from bench.soak.verdicts import Run, Verdict, has_closed, is_idle, verdicts

_POLL_SECONDS = 0.5

OnSample = Callable[[Sample, Outcomes], None]


@dataclass
class Soak:
    """A run and its results; `stop` ends the load early."""

    plan: SoakPlan
    services: Services
    on_sample: OnSample
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    outcomes: Outcomes = field(default_factory=Outcomes)
    samples: list[Sample] = field(default_factory=list)

    async def run(self) -> list[Verdict]:
        """Load until the time is over, then wait until all is idle, and judge."""
        try:
            async with Sampler(self.services) as sampler:
                start = await self._sample(sampler)
                during = await self._load(sampler)
                end = await self._idle(sampler, start)
                return verdicts(Run(start, during, end), self.outcomes)
        except LostServiceError as error:
            return [Verdict("services", is_kept=False, detail=f"one is gone: {error}")]

    async def _load(self, sampler: Sampler) -> list[Sample]:
        """Samples of the time in which there was load."""
        plan, begin = self.plan, len(self.samples)
        async with (
            HttpClient(self.services.edge_port, plan.model) as http,
            GrpcClient(self.services, plan.model) as grpc,
        ):
            crowd = Crowd(plan, kinds(http, grpc), self.outcomes)
            load = asyncio.create_task(crowd.run(self.stop))
            timer = asyncio.get_running_loop().call_later(60 * plan.minutes, self.stop.set)
            try:
                while not self.stop.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(plan.sample_seconds):
                            await self.stop.wait()
                    await self._sample(sampler)
                during = self.samples[begin:]
                while not load.done():
                    await asyncio.wait([load], timeout=plan.sample_seconds)
                    await self._sample(sampler)
                load.result()
            finally:
                timer.cancel()
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)
        return during

    async def _idle(self, sampler: Sampler, start: Sample) -> Sample:
        """The first sample in which all has come back, or the last before patience ends."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.plan.settle_seconds
        sample = await sampler.sample()
        while not (is_idle(sample) and has_closed(sample, start)) and loop.time() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
            sample = await sampler.sample()
        self._note(sample)
        return sample

    async def _sample(self, sampler: Sampler) -> Sample:
        sample = await sampler.sample()
        self._note(sample)
        return sample

    def _note(self, sample: Sample) -> None:
        self.samples.append(sample)
        self.on_sample(sample, self.outcomes)
