"""Weights from elsewhere: Google's Mixer `.npz`, Facebook's ResMLP `.pth`, timm's `.pth` and `.safetensors`.

Two questions, each with its own files, so that any answer to one goes with any answer to the other:
- how are the tensors packed? `archive.py` (zip), `npz.py`, `pth.py` with `pickles.py`, and safetensors;
- what are they called, and how do their axes lie? `google.py`, `facebook.py`, `timm.py`: tables read by `layout.py`.
`infer.py` reads the network's config off the shapes; `formats.py` puts the steps together.

Files from outside are hostile. Nothing is unpickled or imported: `pickles.py` interprets the few opcodes that
`torch.save` writes. Names, shapes and sizes are checked before memory is taken for weights.
"""
