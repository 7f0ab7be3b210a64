"""What /openapi.json says beyond what follows from the code."""

from typing import Any

BYTES = {"type": "string", "format": "binary"}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {
    "type": "object", "required": ["code", "message"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}}}}}
CLASS = {"class": {"type": "string"}, "probability": {"type": "number", "minimum": 0, "maximum": 1}}
PREDICTIONS = {
    "type": "object", "required": ["model", "predictions"],
    "properties": {
        "model": {"type": "object", "required": ["name", "digest"],
                  "properties": {"name": {"type": "string"}, "digest": {"type": ["string", "null"]}}},
        "predictions": {"type": "array", "items": {
            "type": "object", "required": ["name", "class", "probability", "top"],
            "properties": {"name": {"type": "string"}, **CLASS,
                           "top": {"type": "array", "items": {"type": "object", "required": list(CLASS),
                                                              "properties": CLASS}}}}},
    },
}


def refusals(**why: str) -> dict[int | str, dict[str, Any]]:
    """`refusals(s413="too large")` as FastAPI's `responses`."""
    return {int(name[1:]): {"description": text, "content": {"application/json": {"schema": ERROR}}}
            for name, text in why.items()}


EVERYWHERE = refusals(s401="no key, or a wrong one", s403="sent by the page of another host",
                      s421="the service is not known by this name")
PREDICT: dict[str, Any] = {
    "summary": "Classes and probabilities of one or several images",
    "responses": {
        200: {"description": "One prediction per image, in order",
              "content": {"application/json": {"schema": PREDICTIONS}}},
        **EVERYWHERE,
        **refusals(s400="a broken form or length", s408="the request came too slowly",
                   s413="too large, or too many images",
                   s415="neither an image nor a form", s422="no image, or one that cannot be read (which, and why)",
                   s429="the queue is full (Retry-After)", s503="busy or ending (Retry-After)"),
    },
    "openapi_extra": {
        "parameters": [{"name": "top", "in": "query", "required": False, "description": "how many classes to name",
                        "schema": {"type": "integer", "minimum": 1, "default": 5}}],
        "requestBody": {"required": True, "content": {
            "image/*": {"schema": BYTES},
            "application/octet-stream": {"schema": BYTES},
            "multipart/form-data": {"schema": {"type": "object", "required": ["file"],
                                               "properties": {"file": {"type": "array", "minItems": 1,
                                                                         "items": BYTES}}}},
        }},
    },
}
READY: dict[str, Any] = {"responses": refusals(s503="starting or ending")}
METADATA: dict[str, Any] = {"responses": EVERYWHERE}
TEXT = {"description": "Prometheus's text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
METRICS: dict[str, Any] = {"responses": {200: TEXT, **EVERYWHERE}}
