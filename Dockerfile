# A small image that serves a model exported for our engine, without torch:
#     docker build -t allmlp-serve . && docker run -p 8000:8000 -v "$PWD/model.allmlp:/model:ro" allmlp-serve
# It listens on all addresses of the container: who reaches it is decided by -p, and ALLMLP_API_KEY asks for a key.

FROM python:3.11-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir -c constraints.txt \
      fastapi httptools numpy pillow prometheus-client pydantic python-multipart safetensors uvicorn uvloop ./native \
 && /venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
RUN useradd --create-home serve
USER serve
COPY --from=build /venv /venv
EXPOSE 8000
HEALTHCHECK CMD ["/venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["/venv/bin/allmlp", "serve"]
CMD ["/model", "--host", "0.0.0.0"]
