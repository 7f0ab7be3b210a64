"""A trained classifier as an HTTP service: `allmlp serve MODEL`.

    POST /predict    one image as the body, or several as multipart/form-data; classes and probabilities come back
    GET  /healthz    the process lives        GET /readyz     it takes requests
    GET  /metadata   the model, its classes, its preprocessing, the limits
    GET  /metrics    for Prometheus           GET /openapi.json

What a request passes: the door (`app.py`: key, host, size), its body (`body.py`), the queue, where requests of one
moment become one batch (`batcher.py`), and the answer.
"""
