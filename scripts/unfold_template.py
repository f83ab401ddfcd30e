"""Write a generated template with its SSM documents as objects, so that cfn-lint looks inside them.

`unfold_template.py TEMPLATE OUT`. The deployed template holds them as JSON text: the emulator takes nothing else, and
cfn-lint cannot read text out of a JSON template (its rule E3051 hands a subclass of str to the YAML parser, which
refuses it).
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Work on the two paths of the command line."""
    template = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::SSM::Document":
            resource["Properties"]["Content"] = json.loads(resource["Properties"]["Content"])
    Path(sys.argv[2]).write_text(json.dumps(template, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
