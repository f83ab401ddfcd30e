"""The docs as a site: `make docs`. Links inside are checked, anchors too: a broken one fails the build."""

project = "k3s-autoscaler"
author = "the maintainers of k3s-autoscaler"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
myst_heading_anchors = 4
html_theme = "furo"
html_title = project
