"""`allmlp serve`."""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from allmlp.errors import AllMLPError, BadSetting, MissingPackage
from allmlp.files import EXPORT_MANIFEST

KEY = "ALLMLP_API_KEY"
PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httptools")


def run(options: argparse.Namespace) -> int:
    check_packages()
    from allmlp.backends import load_predictor
    from allmlp.serve.app import create_app
    from allmlp.serve.door import silent, to_stderr
    from allmlp.serve.limits import Limits
    from allmlp.serve.run import LOOPBACK, is_loopback, listen, serve

    given = {name: getattr(options, name) for name in Limits.model_fields if getattr(options, name, None) is not None}
    limits = Limits(**given)
    page = page_of(options.model, options.page)
    key = api_key(options.api_key_file)
    listening = listen(options.host, options.port)
    try:
        predictor = load_predictor(options.model, options.device, options.image_size, options.threads)
        if options.threads and "torch" in sys.modules:  # whose threads are the process's; an exported model has its own
            sys.modules["torch"].set_num_threads(options.threads)
        local = is_loopback(options.host)
        hosts = {*LOOPBACK, options.host.lower(), *map(str.lower, options.allow_host)} if local or options.allow_host \
            else None
        app = create_app(predictor, describe(options.model), limits, hosts=hosts, key=key,
                         log=silent if options.quiet else to_stderr, page=page)
        if not local:
            open_to_all = "" if key else ", and no API key is asked for"
            print(f"allmlp: {options.host} is reached from other machines{open_to_all}; the connection is not "
                  "encrypted: put a proxy with TLS before it", file=sys.stderr)
        host, port = listening.getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        places = {"predict": f"{address}/predict", "page": f"{address}/" if page else None}
        line = json.dumps({"model": options.model, **places}) if options.json else (
            f"{options.model} at {places['predict']}{f', its page at {address}/' if page else ''}; Ctrl-C ends it")
        serve(app, listening, limits, lambda: print(line, flush=True))
    finally:
        listening.close()
    return 0


def check_packages() -> None:
    """Raises `MissingPackage`."""
    import importlib.util

    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise MissingPackage(f"allmlp serve needs {', '.join(missing)}: pip install 'allmlp[serve]'")


def page_of(model: str, asked: str | None) -> Path | None:
    """The folder of the page: what was asked for, else the model itself where it was exported as one.

    Raises `BadSetting` for a folder that is none."""
    folder = Path(asked or model)
    if (folder / "index.html").is_file() and (folder / "model.json").is_file():
        return folder
    if asked is not None:
        raise BadSetting(f"--page {asked}: no page; `allmlp export MODEL --to browser` makes one")
    return None


def api_key(file: str | None) -> str | None:
    """The key that clients must show, from a file or the environment; never from the command line, which others see.

    Raises `BadSetting` for a file that cannot be read and for an empty key."""
    if file is None:
        found = os.environ.get(KEY)
    else:
        try:
            found = Path(file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSetting(f"--api-key-file {file}: cannot be read as ASCII text ({error})") from None
    if found is not None and not found.strip():
        raise BadSetting(f"the API key ({file or KEY}) is empty; give one, or none at all")
    return found


def describe(model: str) -> dict[str, Any]:
    """What answers call the model: its name and, of a file, the first half of its SHA-256."""
    path = Path(model)
    manifest = path / EXPORT_MANIFEST
    try:
        if manifest.is_file():
            path = manifest
        elif not path.is_file():
            from allmlp.checkpoint import find_checkpoint  # needs torch, which an exported model does not

            path = find_checkpoint(model)
    except AllMLPError:
        return {"name": model, "digest": None}
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    name = path.resolve().parent.name if path.stem in ("best", "last", "manifest") else path.stem
    return {"name": name, "digest": digest.hexdigest()[:32]}
