"""The service as an ASGI application."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles

import allmlp
from allmlp.backends import Predictor
from allmlp.evaluate.top_classes import top_classes
from allmlp.serve.batcher import Batcher
from allmlp.serve.body import Room, Upload, read_body, uploads
from allmlp.serve.door import Door, Log, silent
from allmlp.serve.limits import Limits
from allmlp.serve.metrics import Metrics
from allmlp.serve.openapi import METADATA, METRICS, PREDICT, READY
from allmlp.serve.refusal import Refusal

TOP = 5
SOON = 0.2  # seconds
CODES = {404: "not_found", 405: "method"}
ELSEWHERE = "not here; images go to POST /predict, and GET /openapi.json says what else there is"


def create_app(
    predictor: Predictor,
    about: Mapping[str, Any],
    limits: Limits | None = None,
    *,
    hosts: Collection[str] | None = None,
    key: str | None = None,
    log: Log = silent,
    decoders: int = 2,
    page: Path | None = None,
) -> Door:
    """`predictor` as a service; `about` names it in answers ("name", "digest", …). For `hosts`, `key` and `log` see
    `Door`. `page`: a folder of `web.page`, shown at /. Works on the event loop's own time but for decoding and
    predicting, which have threads of their own."""
    limits = limits or Limits()
    metrics, room = Metrics(), Room(limits.max_bodies_bytes)
    batcher = Batcher(predictor, limits, decoders, metrics.batch)
    ready = False

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        nonlocal ready
        await asyncio.to_thread(batcher.start)
        ready = True
        yield
        ready = False
        await asyncio.to_thread(batcher.stop)

    # No /docs: FastAPI's page loads its parts from another host. No redirects: not every client follows
    # one, and /predict/ would look as if it had answered.
    app = FastAPI(title="allmlp", version=allmlp.__version__, description="Names what is on images.", docs_url=None,
                  redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    metrics.gauge("allmlp_waiting_images", "Images in the queue and in the batch under way.", lambda: batcher.images)
    metrics.gauge("allmlp_bodies_bytes", "Bytes of the bodies of requests in memory.", lambda: room.taken)
    model = {"name": about["name"], "digest": about.get("digest")}
    num_classes = len(predictor.classes) if predictor.classes else None

    @app.post("/predict", **PREDICT)
    async def predict(request: Request) -> Response:
        top = _top(request, num_classes)
        body = await read_body(request, limits, room)
        try:
            files = uploads(request.headers.get("content-type", ""), body, limits)
            request.state.request |= {"images": len(files), "received_bytes": len(body)}
            probabilities = await _answer(request, batcher, files)
        finally:
            room.give_back(len(body))
        answers = [{"name": file.name, "class": (named := top_classes(row, predictor.classes, top))[0]["class"],
                    "probability": named[0]["probability"], "top": named}
                   for file, row in zip(files, probabilities, strict=True)]
        content = json.dumps({"model": model, "predictions": answers}, separators=(",", ":"))
        return Response(content, media_type="application/json")

    @app.get("/healthz", summary="Whether the process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether requests are taken", **READY)
    async def readyz() -> dict[str, str]:
        if not ready:
            raise Refusal(503, "ending", "the service is starting or ending", retry_after=1)
        return {"status": "ready"}

    @app.get("/metadata", summary="The model, its classes, its preprocessing and the limits", **METADATA)
    async def metadata() -> dict[str, Any]:
        return {**about, "classes": predictor.classes, "output": predictor.output, "allmlp": allmlp.__version__,
                "preprocess": predictor.preprocess.model_dump(mode="json"), "limits": limits.model_dump(mode="json")}

    @app.get("/metrics", summary="Counts and times, for Prometheus", **METRICS)
    async def read_metrics() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return JSONResponse(error.content, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def not_served(request: Request, error: HTTPException) -> Response:
        code = CODES.get(error.status_code, "refused")
        message = ELSEWHERE if error.status_code in CODES else str(error.detail)
        return JSONResponse({"error": {"code": code, "message": message}}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        content = {"error": {"code": "internal", "message": f"{type(error).__name__}; the log says more"}}
        return JSONResponse(content, 500)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # which nobody receives

    if page is not None:
        app.mount("/", StaticFiles(directory=page, html=True))  # last: what is named above comes first
    return Door(app, metrics, hosts, key, log, limits.max_requests)


async def _answer(request: Request, batcher: Batcher, files: list[Upload]) -> np.ndarray:
    """Probabilities `(n, K)`; the job is given up when the client goes away, which is worth a look where it waits."""
    answer = batcher.submit(files)
    if batcher.images * batcher.seconds_per_image < SOON:
        return await answer
    gone = asyncio.ensure_future(request.receive())  # after the body, the next that comes is the end
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


def _top(request: Request, num_classes: int | None) -> int:
    """How many classes the answer names. Raises a 422."""
    asked = request.query_params.get("top")
    if asked is None:
        return TOP
    most = num_classes or 1_000_000
    if not (asked.isascii() and asked.isdigit() and len(asked) < 8 and 1 <= int(asked) <= most):
        raise Refusal(422, "top", f"top must be a whole number from 1 to {most}")
    return int(asked)
