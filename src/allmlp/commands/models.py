"""`allmlp models`."""

import argparse
import json

from allmlp.errors import BadSetting, unknown_name
from allmlp.inspection.flops import count_macs, count_parameters
from allmlp.models.variants import VARIANTS, list_models
from allmlp.weights.catalogue import CATALOGUE, as_dict, as_text, list_published


def run(options: argparse.Namespace) -> int:
    if options.pretrained and options.config:
        raise BadSetting("--config prints one of the networks, and --pretrained lists published weights instead; give "
                         "one of the two")
    if options.pretrained:
        return published(options)
    names = list_models(options.pattern)
    if not names:
        raise unknown_name("model", options.pattern, VARIANTS, "`allmlp models` lists all")
    if options.config:
        if len(names) > 1:
            raise BadSetting(f"--config prints one network, and {options.pattern!r} stands for {len(names)}; "
                             "give a name")
        print(VARIANTS[names[0]].to_json(indent=2))
        return 0
    rows = [row(name) for name in names]
    if options.json:
        print(json.dumps(rows))
    else:
        print(f"{'name':22} {'parameters':>13} {'GMAC':>9} {'GFLOPs':>9}  {'image':>9} {'patch':>7}")
        for entry in rows:
            image, patch = ("x".join(map(str, entry[key])) for key in ("image_size", "patch_size"))
            print(f"{entry['name']:22} {entry['parameters']:>13,} {entry['macs'] / 1e9:>9.4f} "
                  f"{2 * entry['macs'] / 1e9:>9.3f}  {image:>9} {patch:>7}")
        print("Parameters with a head of 1,000 classes. A MAC is one multiply-add of a linear layer; 1 MAC = 2 FLOPs.")
    if len(names) == 1 and not options.json:
        from allmlp.inspection.summary import summary

        print(f"\n{summary(VARIANTS[names[0]])}")
    return 0


def published(options: argparse.Namespace) -> int:
    rows = list_published(options.pattern)
    if not rows:
        raise unknown_name("published weights", options.pattern, CATALOGUE, "`allmlp models --pretrained` lists all")
    print(json.dumps([as_dict(found) for found in rows]) if options.json else as_text(rows))
    return 0


def row(name: str) -> dict:
    config = VARIANTS[name]
    return {"name": name, "parameters": count_parameters(config), "macs": count_macs(config),
            "image_size": config.image_size, "patch_size": config.patch_size, "width": config.width,
            "depth": config.depth, "num_classes": config.num_classes}
