"""One batch from the requests of one moment.

A thread of its own decodes, fits and predicts; while it works, requests gather, and the next batch is all of them, up
to `max_batch` images. Nobody waits for others to come, so alone a request is answered at once, and under load batches
grow by themselves. The queue is bounded twice: by images, and by the time they would take at the pace measured so far.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from allmlp.backends import Predictor
from allmlp.data.image import decode_image
from allmlp.errors import AllMLPError, BadImage
from allmlp.evaluate.probabilities import check_logits
from allmlp.evaluate.top_classes import to_probabilities
from allmlp.preprocess import fit
from allmlp.serve.body import Upload
from allmlp.serve.limits import Limits
from allmlp.serve.refusal import Refusal

PACE = 0.2  # weight of the newest batch in the running mean of seconds per image
WORTH_A_THREAD = 50_000  # bytes of a batch's files above which they are decoded side by side


@dataclass
class Job:
    """The images of one request, and where the answer is awaited: probabilities float32 `(n, K)`."""

    uploads: Sequence[Upload]
    answer: asyncio.Future[np.ndarray]
    given_up: float  # monotonic seconds after which nobody waits
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Runs `predictor` for requests of an event loop. `start` and `stop` it; `watch` is told of each batch:
    (images, seconds)."""

    def __init__(self, predictor: Predictor, limits: Limits, decoders: int = 2, watch=lambda images, seconds: None):
        self.predictor, self.limits, self.watch = predictor, limits, watch
        self.waiting: deque[Job] = deque()
        self.images = 0  # in the queue and in the batch under way
        self.seconds_per_image = 0.0
        self._change = threading.Condition()
        self._ending = False
        self._decoders = ThreadPoolExecutor(decoders, "decode")
        self._thread = threading.Thread(target=self._work, name="predict", daemon=True)

    def start(self) -> None:
        """Predict once, so that the first request finds everything ready, and begin to work."""
        height, width = self.predictor.preprocess.image_size
        self.predictor(np.zeros((1, height, width, 3), np.uint8))
        self._thread.start()

    def stop(self) -> None:
        """End after what was taken is answered."""
        with self._change:
            self._ending = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._decoders.shutdown(wait=False)

    def submit(self, uploads: Sequence[Upload]) -> asyncio.Future[np.ndarray]:
        """Queue the images of a request. Raises `Refusal`: 429 for a full queue, 503 while ending."""
        now = time.monotonic()
        ahead = self.images * self.seconds_per_image
        if self._ending:
            raise Refusal(503, "ending", "the service is ending", retry_after=5, close=True)
        # An empty queue takes any request: else one of many images might never find its turn.
        if self.images and (self.images + len(uploads) > self.limits.max_waiting
                            or 1000 * ahead > self.limits.latency_budget_ms):
            raise Refusal(429, "busy", f"{self.images} images wait; try again", retry_after=max(1, round(ahead)))
        job = Job(uploads, asyncio.get_running_loop().create_future(), now + self.limits.answer_seconds)
        with self._change:
            self.images += len(uploads)
            self.waiting.append(job)
            self._change.notify()
        return job.answer

    def _work(self) -> None:
        while (jobs := self._next_batch()) is not None:
            started = time.monotonic()
            count = sum(len(job.uploads) for job in jobs)
            results = self._answers(jobs, started)
            seconds = time.monotonic() - started
            pace = seconds / max(count, 1)
            self.seconds_per_image += (PACE if self.seconds_per_image else 1) * (pace - self.seconds_per_image)
            with self._change:
                self.images -= count
            self.watch(count, seconds)
            try:
                jobs[0].answer.get_loop().call_soon_threadsafe(_hand_over, jobs, results)
            except RuntimeError:  # the event loop is gone, and with it those who waited
                return

    def _next_batch(self) -> list[Job] | None:
        """The oldest jobs, as many as fit into a batch, at least one; None at the end."""
        with self._change:
            while not self.waiting:
                if self._ending:
                    return None
                self._change.wait()
            jobs = [self.waiting.popleft()]
            room = self.limits.max_batch - len(jobs[0].uploads)
            while self.waiting and len(self.waiting[0].uploads) <= room:
                room -= len(self.waiting[0].uploads)
                jobs.append(self.waiting.popleft())
            return jobs

    def _answers(self, jobs: Sequence[Job], now: float) -> list[np.ndarray | Exception]:
        """Of each job its probabilities, or why there are none. An image that cannot be read harms its own job only."""
        results: list[np.ndarray | Exception] = [Refusal(503, "late", "no answer in time; try again", retry_after=1)
                                                 for _ in jobs]
        ready: dict[int, list[np.ndarray]] = {}
        alive = [number for number, job in enumerate(jobs) if now < job.given_up and not job.answer.cancelled()]
        for number, images in zip(alive, self._decode_all([jobs[number].uploads for number in alive]), strict=True):
            if isinstance(images, Exception):
                results[number] = images
            else:
                ready[number] = images
        if ready:
            try:
                probabilities = iter(self._predict([image for images in ready.values() for image in images]))
                for number, images in ready.items():
                    results[number] = np.stack([next(probabilities) for _ in images])
            except Exception as error:
                for number in ready:
                    results[number] = error
        return results

    def _decode_all(self, groups: Sequence[Sequence[Upload]]) -> list[list[np.ndarray] | Exception]:
        large = sum(len(upload.content) for group in groups for upload in group) > WORTH_A_THREAD
        return list((self._decoders.map if large else map)(self._decode, groups))

    def _decode(self, group: Sequence[Upload]) -> list[np.ndarray] | Exception:
        """The images of a job at the network's size; or one refusal that names all that cannot be read."""
        images, bad = [], []
        for upload in group:
            try:
                pixels = decode_image(upload.content, upload.name, self.limits.max_pixels)
                images.append(fit(pixels, self.predictor.preprocess))
            except BadImage as error:
                bad.append(str(error))
            except Exception as error:
                return error
        return Refusal(422, "bad_image", "; ".join(bad)) if bad else images

    def _predict(self, images: Sequence[np.ndarray]) -> np.ndarray:
        parts = []
        for start in range(0, len(images), self.limits.max_batch):  # a request may hold more than a batch
            batch = np.stack(images[start : start + self.limits.max_batch])
            logits = self.predictor(batch)
            check_logits(logits, len(batch), logits.shape[1])
            parts.append(to_probabilities(logits, self.predictor.output))
        return np.concatenate(parts)


def _hand_over(jobs: Sequence[Job], results: Sequence[np.ndarray | Exception]) -> None:
    for job, result in zip(jobs, results, strict=True):
        if job.answer.done():  # the client went away
            continue
        if isinstance(result, Refusal):
            job.answer.set_exception(result)
        elif isinstance(result, AllMLPError):
            job.answer.set_exception(Refusal(500, "network", f"the network failed: {result}"))
        elif isinstance(result, Exception):
            job.answer.set_exception(result)
        else:
            job.answer.set_result(result)
